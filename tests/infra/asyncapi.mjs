// Reads an AsyncAPI document (its text on stdin) with the parser of the AsyncAPI initiative. One JSON object on stdout:
// {"problems": [...], "channels": {...}, "operations": {...}, "messages": {...}}, with references resolved.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const tools = createRequire(join(process.argv[2], 'package.json'))
const { Parser } = tools('@asyncapi/parser')

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { document, diagnostics } = await new Parser().parse(Buffer.concat(chunks).toString())
const problems = diagnostics.map(({ severity, code, message, path }) =>
  ({ severity, code, message, path: path.join('/') }))
if (document === undefined) {
  process.stdout.write(JSON.stringify({ problems }))
} else {
  const named = (all, shown) => Object.fromEntries(all.map((one) => [one.id(), shown(one)]))
  const bindings = (one) => Object.fromEntries(one.bindings().all().map((each) => [each.protocol(), each.value()]))
  const channels = named(document.channels().all(), (channel) => ({
    address: channel.address(),
    messages: channel.messages().all().map((message) => message.id()),
    bindings: bindings(channel),
  }))
  const operations = named(document.operations().all(), (operation) => ({
    action: operation.action(),
    channels: operation.channels().all().map((channel) => channel.id()),
    messages: operation.messages().all().map((message) => message.id()),
  }))
  const messages = named(document.messages().all(), (message) => ({
    name: message.name(),
    payload: message.payload().json(),
    headers: message.headers().json(),
  }))
  process.stdout.write(JSON.stringify({ problems, channels, operations, messages }))
}
