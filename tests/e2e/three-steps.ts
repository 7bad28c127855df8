// The three things a backend does, in TypeScript. `test_readme.py` type-checks and runs this file.
//
// Types: `npx json2ts -i schemas/outcome.v1.json -o outcome.v1.d.ts` (of `json-schema-to-typescript`), and the same for
// `signing-request.v1`. Packages: the AWS SDK v3. `signpost dev` prints the environment variables.
import { randomUUID } from "node:crypto";
import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { SNSClient, SubscribeCommand } from "@aws-sdk/client-sns";
import {
  CreateQueueCommand, GetQueueAttributesCommand, ReceiveMessageCommand, SendMessageCommand, SQSClient,
} from "@aws-sdk/client-sqs";
import type { OutcomeV1 } from "./outcome.v1.js";
import type { SigningRequestV1 } from "./signing-request.v1.js";

const [sqs, sns, dynamodb] = [new SQSClient(), new SNSClient(), new DynamoDBClient()];
const { SIGNING_QUEUE_URL, REQUESTS_TABLE, OUTCOME_TOPIC_ARN } = process.env;

// 1. Subscribe a queue of yours to the outcomes, once.
const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: "my-outcomes-ts" }));
const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["QueueArn"] }));
await sns.send(new SubscribeCommand({ TopicArn: OUTCOME_TOPIC_ARN, Protocol: "sqs", Endpoint: Attributes?.QueueArn, Attributes: {
  FilterPolicy: JSON.stringify({ status: ["confirmed", "reverted"] }), RawMessageDelivery: "true" } }));

// 2. Send a request. You choose its id, which makes repeats safe. SQS's deduplication id must be unguessable.
const request: SigningRequestV1 = {
  requestId: "ts-1", to: "0x55d398326f99059fF775485246999027B3197955", value: "1000000000", gas: 21000 };
await sqs.send(new SendMessageCommand({ QueueUrl: SIGNING_QUEUE_URL, MessageGroupId: "hot",
  MessageBody: JSON.stringify(request), MessageDeduplicationId: randomUUID() }));

// 3. Receive the outcome, or read the status at any time.
const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20 }));
const outcome: OutcomeV1 = JSON.parse(Messages?.[0]?.Body ?? "null");
const { Item } = await dynamodb.send(new GetItemCommand({ TableName: REQUESTS_TABLE, Key: { requestId: { S: "ts-1" } } }));
console.log(outcome.status, outcome.txHash, Item?.status?.S);
