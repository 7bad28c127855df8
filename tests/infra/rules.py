"""The rules for infra/template.yaml, each with changes that break it.

A rule is a function from the template to its problems. Its breaks are changes to the template for which it must report
a problem. Every rule needs at least one break, which shows that the rule works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from template import ROOT, Json, actions, changed, metrics, names, of_type, properties, ref, resources, statements

Check = Callable[[Json], Iterator[str]]
Break = Callable[[Json], Json]

QUEUES = {"SigningQueue": "SignerFunction", "ResignQueue": "SignerFunction", "BroadcastQueue": "BroadcasterFunction"}
# The queues of pokes. A poke may be repeated or lost; a request may not.
POKES = ("ResignQueue", "BroadcastQueue")
FUNCTIONS = {"SignerFunction": "signer", "BroadcasterFunction": "broadcaster", "SignDirectFunction": "sign-direct"}
KEYS = {"Key": "SignerRole", "SignDirectKey": "SignDirectRole"}
DAY_S = 86_400

SHARED = {
    "SIGNPOST_CHAIN_ID",
    "SIGNPOST_SIGNING_QUEUE_URL",
    "SIGNPOST_RESIGN_QUEUE_URL",
    "SIGNPOST_BROADCAST_QUEUE_URL",
    "SIGNPOST_REQUESTS_TABLE",
    "SIGNPOST_ACCOUNTS_TABLE",
    "SIGNPOST_OUTCOME_TOPIC_ARN",
    "SIGNPOST_FEE_FLOOR_WEI",
    "RUST_LOG",
    "AWS_USE_FIPS_ENDPOINT",
}
# The exact environment variables of each function.
ENVIRONMENT = {
    "SignerFunction": SHARED
    | {"SIGNPOST_POLICY", "SIGNPOST_ACCOUNTS", "SIGNPOST_SEAL_SECRET_ARN", "AWS_ENDPOINT_URL_DYNAMODB"},
    "BroadcasterFunction": SHARED
    | {
        "SIGNPOST_RPC_SECRET_ARN",
        "SIGNPOST_RPC_URLS",
        "SIGNPOST_SEND_TO",
        "SIGNPOST_FINALITY",
        "SIGNPOST_VERDICTS",
        "SIGNPOST_FEE_CEILING_WEI",
    },
    "SignDirectFunction": {"KMS_KEY_ID", "ETH_NETWORK", "LOG_LEVEL", "SIGNPOST_POLICY", "AWS_USE_FIPS_ENDPOINT"},
}
# The required alarms, by the name of their runbook entry in infra/OPERATING.md.
ALARMS = {
    "dead-letters-signing": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    "dead-letters-resign": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    "dead-letters-broadcast": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    "signing-age": ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
    "head-stuck": ("Signpost", "lane_head_age_ms"),
    "funds-low": ("Signpost", "funds_low"),
    "account-paused": ("Signpost", "paused"),
    "account-unusable": ("Signpost", "account_unusable"),
    "unsealed": ("Signpost", "unsealed"),
    "displaced": ("Signpost", "displaced"),
    "outcome-reduced": ("Signpost", "outcomes_reduced"),
    "kms-throttles": ("Signpost", "kms_throttles"),
    "refusals": ("Signpost", "refusals"),
    "stalled": ("Signpost", "stalled"),
    "no-node": ("Signpost", "no_node"),
    "waits-signature": ("Signpost", "waits"),
    "waits-node": ("Signpost", "waits"),
    "waits-block": ("Signpost", "waits"),
    "waits-price-cap": ("Signpost", "waits"),
    "waits-finality": ("Signpost", "waits"),
    "waits-second-node": ("Signpost", "waits"),
    "waits-contradiction": ("Signpost", "waits"),
    "waits-receipt": ("Signpost", "waits"),
    "waits-funds": ("Signpost", "waits"),
    "too-far-ahead": ("Signpost", "too_far_ahead"),
    "broadcaster-silent": ("AWS/Lambda", "Invocations"),
    "signer-throttles": ("AWS/Lambda", "Throttles"),
    "broadcaster-throttles": ("AWS/Lambda", "Throttles"),
    "sweep-failed": ("AWS/Events", "FailedInvocations"),
    "resign-age": ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
    "broadcast-untaken": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    "unstored-signatures": ("AWS/Usage", "CallCount"),
    "trail-late": ("AWS/Firehose", "DeliveryToS3.DataFreshness"),
    "signer-errors": ("AWS/Lambda", "Errors"),
    "broadcaster-errors": ("AWS/Lambda", "Errors"),
    "sign-direct-errors": ("AWS/Lambda", "Errors"),
    "sign-direct-used": ("AWS/Lambda", "Invocations"),
}


@dataclass
class Rule:
    """A rule with its breaks."""

    name: str
    check: Check
    breaks: list[Break] = field(default_factory=list)


RULES: list[Rule] = []


def rule(*breaks: Break) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        RULES.append(Rule(check.__name__, check, list(breaks)))
        return check

    return keep


def sets(path: str, value: Any = None) -> Break:
    """A break that sets a value at a path of the resources, or removes it without a value."""
    return lambda template: changed(template, f"Resources/{path}", value)


def adds_resource(name: str, kind: str, **members: Any) -> Break:
    return lambda template: changed(template, f"Resources/{name}", {"Type": kind, "Properties": members})


def adds_statement(place: str, document: str, statement: Json) -> Break:
    """A break that adds_resource a statement to a policy."""

    def add(template: Json) -> Json:
        at = len(properties(template, place)[document]["Statement"])
        return changed(template, f"Resources/{place}/Properties/{document}/Statement/{at}", statement)

    return add


def changes_statement(name: str, sid: str, path: str = "", value: Any = None) -> Break:
    """A break that changes a value in the statement with this Sid. Without a path, it removes the statement."""

    def turn(template: Json) -> Json:
        written = properties(template, name)["PolicyDocument"]["Statement"]
        inner = [(at, statement.get("Fn::If", ["", statement])[1]) for at, statement in enumerate(written)]
        [(at, found)] = [(at, statement) for at, statement in inner if statement["Sid"] == sid]
        way = f"Resources/{name}/Properties/PolicyDocument/Statement/{at}"
        return changed(
            template,
            way + ("/Fn::If/1" if found is not written[at] and path else "") + (f"/{path}" if path else ""),
            value,
        )

    return turn


def allow(action: Any, resource: Any, **more: Any) -> Json:
    return {"Sid": "New", "Effect": "Allow", "Action": action, "Resource": resource, **more}


@rule(
    sets("Key/DeletionPolicy"),
    sets("RequestsTable/UpdateReplacePolicy", "Delete"),
    sets("SignDirectKey/DeletionPolicy", "Delete"),
)
def keys_and_tables_outlive_the_stack(template: Json) -> Iterator[str]:
    for kind in ("AWS::KMS::Key", "AWS::DynamoDB::Table"):
        for name, body in of_type(template, kind).items():
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if body.get(policy) != "Retain":
                    yield f"{name} has {policy} {body.get(policy)}"


@rule(
    sets("SigningQueue/Properties/FifoQueue", False),
    sets("SigningQueue/Properties/DeduplicationScope", "queue"),
    sets("ResignQueue/Properties/FifoThroughputLimit", "perQueue"),
    sets("BroadcastQueue/Properties/ContentBasedDeduplication"),
    sets("SigningQueue/Properties/SqsManagedSseEnabled"),
    sets("BroadcastDeadLetters/Properties/SqsManagedSseEnabled", False),
    sets("ResignDeadLetters/Properties/FifoQueue"),
    sets("SigningQueue/Properties/RedrivePolicy"),
    sets("SigningQueue/Properties/RedrivePolicy/maxReceiveCount", 4),
    sets("ResignQueue/Properties/RedrivePolicy/deadLetterTargetArn", {"Fn::GetAtt": ["SigningDeadLetters", "Arn"]}),
    sets("SigningDeadLetters/Properties/MessageRetentionPeriod", 345_600),
    sets("SigningQueue/Properties/MessageRetentionPeriod", 345_600),
    sets("BroadcastDeadLetters"),
)
def every_queue_is_fifo_encrypted_and_has_a_dead_letter_queue(template: Json) -> Iterator[str]:
    queues = of_type(template, "AWS::SQS::Queue")
    dead = {queue: f"{queue.removesuffix('Queue')}DeadLetters" for queue in QUEUES}
    if queues.keys() != {*dead, *dead.values()}:
        yield f"the queues are {sorted(queues)}"
    for name, body in queues.items():
        for what in ("FifoQueue", "SqsManagedSseEnabled"):
            if body["Properties"].get(what) is not True:
                yield f"{name} has no {what}"
        if name not in POKES and body["Properties"].get("MessageRetentionPeriod") != 14 * DAY_S:
            yield f"{name} does not have the longest retention"
    for queue, letters in dead.items():
        body = properties(template, queue)
        wanted = {
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
            "ContentBasedDeduplication": True,
        }
        for what, value in wanted.items():
            if body.get(what) != value:
                yield f"{what} of {queue} is {body.get(what)}"
        redrive = body.get("RedrivePolicy", {})
        if ref(redrive.get("deadLetterTargetArn")) != letters:
            yield f"{queue} has the dead-letter queue {redrive.get('deadLetterTargetArn')}"
        if redrive.get("maxReceiveCount", 0) < 5:
            yield f"{queue} has the maxReceiveCount {redrive.get('maxReceiveCount')}"


@rule(
    sets("SigningQueue/Properties/VisibilityTimeout", 60),
    sets("SignerFunction/Properties/Timeout", 60),
    sets("BroadcastQueue/Properties/VisibilityTimeout", 360),
    sets("ResignQueue/Properties/VisibilityTimeout", 20),
    sets("BroadcasterFunction/Properties/Timeout", 300),
    sets("BroadcastQueue/Properties/RedrivePolicy/maxReceiveCount", 10),
    sets("ResignQueue/Properties/MessageRetentionPeriod", 1_209_600),
)
def requests_have_long_and_pokes_short_visibility_timeouts(template: Json) -> Iterator[str]:
    for queue, function in QUEUES.items():
        body = properties(template, queue)
        timeout, held = properties(template, function)["Timeout"], body["VisibilityTimeout"]
        if queue not in POKES:
            if held < 6 * timeout:
                yield f"{queue} hides requests for {held} s, less than six times {timeout} s"
            continue
        if held != timeout:
            yield f"{queue} hides pokes for {held} s: Lambda requires {timeout} s, and more locks a lane for longer"
        if held > 60:
            yield f"a pass that crashes locks its lane for {held} s"
        deliveries = body["MessageRetentionPeriod"] // held
        if body["RedrivePolicy"]["maxReceiveCount"] <= deliveries:
            yield f"an outage moves the pokes of {queue} into the dead-letter queue, after {deliveries} deliveries"


SECURE = {"Bool": {"aws:SecureTransport": "false"}}


@rule(
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SecureTransport", "true"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Resource/1"),
    sets("QueuePolicy/Properties/Queues/3"),
    sets("OutcomeTopicPolicy/Properties/PolicyDocument/Statement/0"),
)
def queues_and_topic_require_tls(template: Json) -> Iterator[str]:
    queues = set(of_type(template, "AWS::SQS::Queue"))
    covered: set[str] = set()
    for name in of_type(template, "AWS::SQS::QueuePolicy"):
        attached = names(properties(template, name)["Queues"])
        for statement in statements(properties(template, name)["PolicyDocument"]):
            if is_tls_only(statement) and "sqs:*" in actions(statement):
                covered |= resources(statement) & attached
    if covered != queues:
        yield f"these do not require TLS: {sorted(queues - covered)}"
    for statement in statements(properties(template, "OutcomeTopicPolicy")["PolicyDocument"]):
        if is_tls_only(statement) and {"sns:Publish", "sns:Subscribe"} <= actions(statement):
            return
    yield "the topic does not require TLS"


def is_tls_only(statement: Json) -> bool:
    return statement["Effect"] == "Deny" and statement["Principal"] == "*" and statement["Condition"] == SECURE


@rule(
    sets("QueuePolicy/Properties/PolicyDocument/Statement/1"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/2/Condition/ArnNotEquals/aws:PrincipalArn/2", "*"),
    sets(
        "QueuePolicy/Properties/PolicyDocument/Statement/1/Condition/ArnNotEquals/aws:PrincipalArn/0",
        {"Ref": "SignpostClient"},
    ),
    sets("OutcomeTopicPolicy/Properties/PolicyDocument/Statement/1/Effect", "Allow"),
)
def only_stages_send_to_inner_queues_and_the_topic(template: Json) -> Iterator[str]:
    senders = {
        ("QueuePolicy", "sqs:SendMessage", "ResignQueue"): {"BroadcasterRole", "OperatorArn"},
        ("QueuePolicy", "sqs:SendMessage", "BroadcastQueue"): {"SignerRole", "BroadcasterRole", "OperatorArn"},
        ("OutcomeTopicPolicy", "sns:Publish", "OutcomeTopic"): {"SignerRole", "BroadcasterRole", "OperatorArn"},
    }
    for (policy, action, target), wanted in senders.items():
        found = [
            names(statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"])
            for statement in statements(properties(template, policy)["PolicyDocument"])
            if statement["Effect"] == "Deny" and "ArnNotEquals" in statement["Condition"]
            if actions(statement) == {action} and resources(statement) == {target}
        ]
        if found != [wanted]:
            yield f"{action} on {target} is limited to {found}, not to {sorted(wanted)}"


@rule(
    sets("SigningSource/Properties/FunctionResponseTypes"),
    sets("ResignSource/Properties/FunctionResponseTypes", []),
    sets("SigningSource/Properties/BatchSize", 1),
    sets("BroadcastSource/Properties/BatchSize", 10),
    sets("BroadcastSource/Properties/ScalingConfig"),
    sets("SigningSource/Properties/MaximumBatchingWindowInSeconds", 5),
    sets("ResignSource"),
    sets("ResignSource/Properties/FunctionName", {"Ref": "BroadcasterFunction"}),
    sets("SignerFunction/Properties/ReservedConcurrentExecutions", 1),
)
def event_sources_batch_except_one_lane_per_pass(template: Json) -> Iterator[str]:
    sources = of_type(template, "AWS::Lambda::EventSourceMapping")
    found = {
        ref(body["Properties"]["EventSourceArn"]): ref(body["Properties"]["FunctionName"]) for body in sources.values()
    }
    if found != QUEUES or len(sources) != len(QUEUES):
        yield f"queues and their functions are {found}"
    for name, body in sources.items():
        members = body["Properties"]
        if members.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name} repeats a whole batch for one message"
        # A batch is acknowledged as a whole, so a finished lane would stay locked until the slowest one is done.
        if members.get("BatchSize") != (1 if name == "BroadcastSource" else 10):
            yield f"{name} has batches of {members.get('BatchSize')}"
        if "MaximumConcurrency" not in members.get("ScalingConfig", {}):
            yield f"{name} has no concurrency limit"
        if "MaximumBatchingWindowInSeconds" in members:
            yield f"{name} has a batching window; FIFO queues do not support one"
    for name in FUNCTIONS:
        if "ReservedConcurrentExecutions" in properties(template, name):
            yield f"{name}: batches refused for a reservation count as received"


@rule(
    sets("SignerFunction/Properties/RecursiveLoop"),
    sets("BroadcasterFunction/Properties/RecursiveLoop", "Terminate"),
    sets("SignDirectFunction/Properties/RecursiveLoop", "Allow"),
)
def lambda_does_not_stop_a_busy_lane_as_a_loop(template: Json) -> Iterator[str]:
    for name in FUNCTIONS:
        # The direct signer sends to no queue, so a loop through it would be a real one.
        wanted = None if name == "SignDirectFunction" else "Allow"
        if properties(template, name).get("RecursiveLoop") != wanted:
            yield f"{name} has RecursiveLoop {properties(template, name).get('RecursiveLoop')}"


KEY_SCHEMAS = {"RequestsTable": ["requestId"], "AccountsTable": ["account", "item"]}


@rule(
    sets("RequestsTable/Properties/BillingMode", "PROVISIONED"),
    sets("AccountsTable/Properties/DeletionProtectionEnabled", False),
    sets("RequestsTable/Properties/PointInTimeRecoverySpecification"),
    sets("AccountsTable/Properties/TimeToLiveSpecification/AttributeName", "ttl"),
    sets("RequestsTable/Properties/GlobalSecondaryIndexes/0/Projection/ProjectionType", "ALL"),
    sets("AccountsTable/Properties/KeySchema/1"),
)
def tables_are_on_demand_recoverable_and_protected(template: Json) -> Iterator[str]:
    wanted = {
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "TimeToLiveSpecification": {"AttributeName": "expiresAt", "Enabled": True},
    }
    for name, key in KEY_SCHEMAS.items():
        body = properties(template, name)
        for what, value in wanted.items():
            if body.get(what) != value:
                yield f"{what} of {name} is {body.get(what)}"
        if [part["AttributeName"] for part in body["KeySchema"]] != key:
            yield f"the key of {name} is {body['KeySchema']}"
    [index] = properties(template, "RequestsTable")["GlobalSecondaryIndexes"]
    if [part["AttributeName"] for part in index["KeySchema"]] != ["account", "createdAt"]:
        yield f"byAccount is over {index['KeySchema']}"
    if index["Projection"] != {"ProjectionType": "KEYS_ONLY"}:
        yield "byAccount is rewritten with every change of a request"


@rule(sets("OutcomeTopic/Properties/KmsMasterKeyId"), sets("OutcomeTopic/Properties/FifoTopic"))
def topic_is_encrypted_and_optionally_fifo(template: Json) -> Iterator[str]:
    body = properties(template, "OutcomeTopic")
    if body.get("KmsMasterKeyId") != "alias/aws/sns":
        yield f"the topic is encrypted with {body.get('KmsMasterKeyId')}"
    if body.get("FifoTopic", {}).get("Fn::If", [None])[0] != "HasFifoTopic":
        yield "the FIFO topic is not an option"


@rule(
    sets("SignerFunction/Properties/Runtime", "provided.al2"),
    sets("SignerFunction/Properties/Environment/Variables/SIGNPOST_RPC_URLS", {"Ref": "RpcUrls"}),
    sets("BroadcasterFunction/Properties/Environment/Variables/SIGNPOST_FINALITY"),
    sets(
        "BroadcasterFunction/Properties/Environment/Variables/SIGNPOST_RPC_URLS",
        {"Fn::Sub": "{{resolve:secretsmanager:${RpcSecretArn}}}"},
    ),
    sets("SignDirectFunction/Properties/LoggingConfig"),
    sets("BroadcasterLogs/Properties/RetentionInDays"),
    sets("SignDirectFunction/Properties/Environment/Variables/KMS_KEY_ID", {"Fn::GetAtt": ["Key", "Arn"]}),
)
def functions_get_their_variables_and_no_secret(template: Json) -> Iterator[str]:
    for name, stage in FUNCTIONS.items():
        body = properties(template, name)
        if (body["Runtime"], body["Handler"]) != ("provided.al2023", "bootstrap"):
            yield f"{name} runs as {body['Runtime']}, {body['Handler']}"
        if body["Code"].get("S3Key") != {"Fn::Sub": f"${{CodePrefix}}/{stage}.zip"}:
            yield f"{name} runs {body['Code']}"
        variables = body["Environment"]["Variables"]
        if set(variables) != ENVIRONMENT[name]:
            yield f"{name} gets other variables than it needs: {set(variables) ^ ENVIRONMENT[name]}"
        if "resolve:" in str(variables):
            yield f"{name} has a secret in its environment"
        logs = ref(body.get("LoggingConfig", {}).get("LogGroup"))
        if logs != name.replace("Function", "Logs") or "RetentionInDays" not in properties(template, logs):
            yield f"the logs of {name} have no retention or go to another group"
    direct = names(properties(template, "SignDirectFunction")["Environment"]["Variables"]["KMS_KEY_ID"])
    if direct != {"SignDirectKey", "SignDirectKeyArn"}:
        yield f"the direct signer signs with {direct}, so two programs may count an account's nonces"


# Resources that would open a route out of the network.
GATEWAYS = ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::TransitGateway")
INSIDE = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.64.0.0/24"}


@rule(
    adds_resource("Way", "AWS::EC2::InternetGateway"),
    adds_resource("Way", "AWS::EC2::VPCPeeringConnection"),
    adds_resource("Way", "AWS::EC2::NatGateway"),
    sets("SecurityGroup/Properties/SecurityGroupEgress/0/CidrIp", "0.0.0.0/0"),
    sets("SecurityGroup/Properties/SecurityGroupEgress"),
    sets("KmsEndpoint/Properties/PolicyDocument"),
    sets("DynamoDbEndpoint/Properties/VpcEndpointType", "Gateway"),
    sets("SqsEndpoint/Properties/PolicyDocument/Statement/0/Condition"),
    sets("SnsEndpoint"),
    sets("BroadcasterFunction/Properties/VpcConfig", {"SubnetIds": []}),
    sets("SignerFunction/Properties/VpcConfig"),
    changes_statement("SignerRights", "NoNetworkCallsFromTheFunction"),
)
def signer_network_has_no_route_to_a_node(template: Json) -> Iterator[str]:
    for name, body in template["Resources"].items():
        if body["Type"].startswith((*GATEWAYS, "AWS::EC2::VPCPeering", "AWS::EC2::VPN", "AWS::EC2::EIP")):
            yield f"{name} opens a route out of the network"
    services = set()
    for name, body in of_type(template, "AWS::EC2::VPCEndpoint").items():
        members = body["Properties"]
        services.add(members["ServiceName"]["Fn::Sub"].rsplit(".", 1)[-1])
        if members["VpcEndpointType"] != "Interface":
            yield f"{name} is a {members['VpcEndpointType']} endpoint"
        allowed = members.get("PolicyDocument", {}).get("Statement", [{}])
        if any(
            s.get("Condition") != {"ArnEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["SignerRole", "Arn"]}}}
            for s in allowed
        ):
            yield f"{name} is not limited to the signer"
    if services != {"kms", "dynamodb", "sqs", "sns", "secretsmanager"}:
        yield f"the signer reaches {sorted(services)}"
    for direction in ("SecurityGroupIngress", "SecurityGroupEgress"):
        rules = properties(template, "SecurityGroup").get(direction, [])
        if [{k: v for k, v in one.items() if k != "Description"} for one in rules] != [INSIDE]:
            yield f"{direction} is {rules}"
    if "Fn::If" not in properties(template, "SignerFunction").get("VpcConfig", {}):
        yield "the signer's network is not an option"
    if "VpcConfig" in properties(template, "BroadcasterFunction"):
        yield "the broadcaster is in a network without nodes"
    denied = [s for s in statements(properties(template, "SignerRights")["PolicyDocument"]) if s["Effect"] == "Deny"]
    if not any(
        "lambda:SourceFunctionArn" in s["Condition"].get("ArnEquals", {}) and actions(s) == {"ec2:*"} for s in denied
    ):
        yield "the signer's own code may create network interfaces"


@rule(
    sets("Sweep/Properties/ScheduleExpression", "rate(1 hour)"),
    sets("Sweep/Properties/Targets/0/Input", "{}"),
    sets("Sweep/Properties/Targets/0/Arn", {"Fn::GetAtt": ["SignerFunction", "Arn"]}),
    sets("SweepPermission/Properties/SourceArn"),
    sets("SweepOnce"),
)
def sweep_runs_every_minute(template: Json) -> Iterator[str]:
    sweep = properties(template, "Sweep")
    [target] = sweep["Targets"]
    if sweep["ScheduleExpression"] != "rate(1 minute)":
        yield f"it runs at {sweep['ScheduleExpression']}"
    if target["Input"] != '{"signpost":"sweep"}' or ref(target["Arn"]) != "BroadcasterFunction":
        yield f"its target is {target}"
    permission = properties(template, "SweepPermission")
    if permission.get("SourceArn") != {"Fn::GetAtt": ["Sweep", "Arn"]}:
        yield "any schedule may start the broadcaster"
    if template["Resources"].get("SweepOnce", {}).get("Properties", {}).get("MaximumRetryAttempts") != 0:
        yield "a failed sweep is retried beside the next one"


@rule(
    *(
        sets(name)
        for name in (
            "SigningDeadLettersAlarm",
            "SigningAgeAlarm",
            "HeadStuckAlarm",
            "KmsThrottlesAlarm",
            "SignerErrorsAlarm",
        )
    ),
    sets("FundsLowAlarm/Properties/AlarmActions"),
    sets("PausedAlarm/Properties/MetricName", "pauses"),
    sets("DisplacedFilter/Properties/FilterPattern", "{$.signpost_displaced > 0}"),
    sets("NoNodeFilter"),
    sets("RefusalsFilter"),
    sets("WaitsReceiptAlarm"),
    sets("WaitsBlockAlarm/Properties/Dimensions", [{"Name": "cause", "Value": "blocks"}]),
    sets("NotSignedFilter/Properties/LogGroupName", {"Ref": "SignDirectLogs"}),
    sets("BroadcasterErrorsAlarm/Properties/TreatMissingData", "breaching"),
    sets("BroadcasterSilentAlarm/Properties/TreatMissingData", "notBreaching"),
    sets("BroadcasterSilentAlarm"),
    sets("SignerThrottlesAlarm"),
    sets("SweepFailedAlarm/Properties/Dimensions"),
    sets("ResignAgeAlarm/Properties/AlarmActions", [{"Ref": "AlarmTopic"}]),
    sets("SignedFilter"),
    sets("UnstoredSignaturesAlarm"),
    sets("Dashboard"),
)
def every_failure_has_an_alarm(template: Json) -> Iterator[str]:
    meters = set(re.findall(r'"(signpost_\w+)"', (ROOT / "crates/txmgr/src/meters.rs").read_text()))
    meters |= set(re.findall(r'"(signpost_aws_\w+)"', (ROOT / "crates/aws/src/repeat.rs").read_text()))
    filtered = set()
    for name, body in of_type(template, "AWS::Logs::MetricFilter").items():
        [made] = body["Properties"]["MetricTransformations"]
        filtered.add(made["MetricName"])
        for meter in re.findall(r"\$\.(signpost_\w+)", body["Properties"]["FilterPattern"]):
            if meter not in meters:
                yield f"{name} uses {meter}, which does not exist"
        if ref(body["Properties"]["LogGroupName"]) not in ("SignerLogs", "BroadcasterLogs"):
            yield f"{name} reads another log group"
    waiting = (ROOT / "crates/txmgr/src/record/waiting.rs").read_text()
    causes = set(re.findall(r'Self::\w+ => "(\w+)",', waiting))
    watched = set()
    found = {}
    for name, body in of_type(template, "AWS::CloudWatch::Alarm").items():
        members = body["Properties"]
        slug = members["AlarmName"]["Fn::Sub"].removeprefix("${NamePrefix}-")
        for metric in metrics(members):
            if metric["MetricName"] == "waits":
                watched |= {each["Value"] for each in metric["Dimensions"]}
            ours = metric["Namespace"] == {"Fn::Sub": "Signpost/${NamePrefix}"}
            found.setdefault(slug, ("Signpost" if ours else metric["Namespace"], metric["MetricName"]))
            if ours and metric["MetricName"] not in filtered:
                yield f"{name} watches {metric['MetricName']}, which no filter makes"
            # AWS/Usage counts KMS calls by account and region only.
            if not ours and metric["Namespace"] != "AWS/Usage" and len(metric.get("Dimensions") or []) != 1:
                yield f"{name} watches {metric['MetricName']} of the whole account"
        if names(members.get("AlarmActions", [])) != {"AlarmTopic", "AlarmTopicArn"}:
            yield f"{name} has no recipient"
        # A schedule starts the broadcaster every minute, so missing data means a failure.
        if members["TreatMissingData"] != ("breaching" if slug == "broadcaster-silent" else "notBreaching"):
            yield f"{name} treats missing data as {members['TreatMissingData']}"
    # A request that waits for its seal has the alarm `unsealed`.
    if watched != causes - {"predecessor", "seal"}:
        yield f"of {causes} only {watched} have an alarm"
    if found != ALARMS:
        yield f"alarms missing {ALARMS.keys() - found.keys()}, unknown {found.keys() - ALARMS.keys()}, other {found}"
    if not of_type(template, "AWS::CloudWatch::Dashboard"):
        yield "there is no dashboard"


@rule(
    lambda template: {**template, "Transform": "AWS::Serverless-2016-10-31"},
    adds_resource("Magic", "AWS::CloudFormation::CustomResource"),
    adds_resource("Magic", "Custom::Thing"),
    adds_resource("Nested", "AWS::CloudFormation::Stack"),
)
def template_is_plain_cloudformation(template: Json) -> Iterator[str]:
    if "Transform" in template:
        yield f"it needs {template['Transform']}"
    for name, body in template["Resources"].items():
        if body["Type"].startswith(("Custom::", "AWS::CloudFormation::")):
            yield f"{name} is a {body['Type']}"


@rule(
    lambda template: changed(template, "Parameters/Network/Default", "bsc"),
    lambda template: changed(template, "Parameters/KmsKeyArns"),
    lambda template: changed(template, "Rules/NodesAreGiven"),
    lambda template: changed(template, "Rules/AlarmsHaveARecipient"),
    lambda template: changed(template, "Mappings/Networks/bsc/ChainId", "97"),
)
def safety_parameters_must_be_given(template: Json) -> Iterator[str]:
    parameters = template["Parameters"]
    for name in ("Network", "CodeBucket"):
        if "Default" in parameters[name]:
            yield f"{name} has a default"
    wanted = {"NamePrefix", "Accounts", "KmsKeyArns", "SignerConcurrency", "BroadcasterConcurrency", "AlarmEmail"}
    wanted |= {"RpcSecretArn", "FifoTopic", "SignerInVpc", "CodePrefix", "Architecture", "OperatorArn", "Subscribers"}
    if not wanted <= parameters.keys():
        yield f"parameters are missing: {wanted - parameters.keys()}"
    if template["Rules"].keys() != {"AKeyIsGiven", "NodesAreGiven", "AlarmsHaveARecipient", "FipsOrNetwork"}:
        yield f"a stack without a key, nodes or a recipient is accepted: {sorted(template['Rules'])}"
    chains = {name: network["ChainId"] for name, network in template["Mappings"]["Networks"].items()}
    if chains != {"bsc": "56", "bsc-testnet": "97"}:
        yield f"the chains are {chains}"
