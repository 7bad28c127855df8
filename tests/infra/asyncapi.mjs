// Reads AsyncAPI documents with the parser of the AsyncAPI initiative. One JSON list of texts on stdin. One JSON list on
// stdout: for each text {"problems": [...]}, and where it could be read what it describes, with references resolved.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const tools = createRequire(join(process.argv[2], 'package.json'))
const { Parser } = tools('@asyncapi/parser')

const named = (all, shown) => Object.fromEntries(all.map((one) => [one.id(), shown(one)]))
const ids = (all) => all.map((one) => one.id())
const bindings = (one) => Object.fromEntries(one.bindings().all().map((each) => [each.protocol(), each.value()]))

const described = (document) => ({
  channels: named(document.channels().all(), (channel) => ({
    address: channel.address(),
    messages: ids(channel.messages().all()),
    bindings: bindings(channel),
  })),
  operations: named(document.operations().all(), (operation) => ({
    action: operation.action(),
    channels: ids(operation.channels().all()),
    messages: ids(operation.messages().all()),
  })),
  messages: named(document.messages().all(), (message) => ({
    name: message.name(),
    payload: message.payload().json(),
    headers: message.headers().json(),
    examples: Object.fromEntries(message.examples().all().map((one) => [one.name(), one.payload()])),
  })),
})

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const answers = []
for (const text of JSON.parse(Buffer.concat(chunks))) {
  const { document, diagnostics } = await new Parser().parse(text)
  const problems = diagnostics.map(({ severity, code, message, path }) =>
    ({ severity, code, message, path: path.join('/') }))
  answers.push({ problems, ...(document === undefined ? {} : described(document)) })
}
process.stdout.write(JSON.stringify(answers))
