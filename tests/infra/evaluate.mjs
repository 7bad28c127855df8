// Runs an independent evaluator of IAM policies. Input: one JSON object on stdin, {"policies": [...], "questions":
// [...]}. A question refers to its policies by index. Output: a JSON list on stdout with "Allowed", "ImplicitlyDenied"
// or "ExplicitlyDenied" for each question. A question that it cannot evaluate is an error, never a denial.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const tools = createRequire(join(process.argv[2], 'package.json'))
const { runSimulation } = await import(pathToFileURL(tools.resolve('@cloud-copilot/iam-simulate')))

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { policies, questions } = JSON.parse(Buffer.concat(chunks))
const named = (places) => places.map((place) => ({ name: `policy-${place}`, policy: policies[place] }))

const verdicts = []
for (const question of questions) {
  const { principal, action, resource, account, context, identity, of_resource: ofResource, endpoint } = question
  const answer = await runSimulation({
    request: { principal, action, resource: { resource, accountId: account }, contextVariables: context },
    identityPolicies: named(identity),
    resourcePolicy: ofResource === null ? undefined : policies[ofResource],
    vpcEndpointPolicies: endpoint === null ? undefined : named([endpoint]),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
  }, { simulationMode: 'Strict' })
  // The evaluator ignores a condition key that AWS does not set for the call. Then the question is wrong.
  const ignored = answer.resultType === 'single' ? (answer.result.ignoredContextKeys ?? []) : []
  if (answer.resultType !== 'single' || ignored.length > 0) {
    throw new Error(`cannot evaluate ${JSON.stringify(question)}: ${JSON.stringify(answer.errors ?? ignored)}`)
  }
  verdicts.push(answer.overallResult)
}
process.stdout.write(JSON.stringify(verdicts))
