"""The rules that infra/template.yaml keeps, and for each how it could be broken.

A rule is a function from the template to its problems. Beside it stand breaks: changes to the template
that it must call a problem. A rule that no break proves is a rule that does not look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rights import needed
from template import (
    ROOT,
    Json,
    actions,
    changed,
    either,
    metrics,
    names,
    of_type,
    policies,
    principals,
    properties,
    ref,
    resources,
    statements,
)

Check = Callable[[Json], Iterator[str]]
Break = Callable[[Json], Json]

QUEUES = {"SigningQueue": "SignerFunction", "ResignQueue": "SignerFunction", "BroadcastQueue": "BroadcasterFunction"}
# What is in them: of a request there is one, of a poke as many as you like.
POKES = ("ResignQueue", "BroadcastQueue")
FUNCTIONS = {"SignerFunction": "signer", "BroadcasterFunction": "broadcaster", "SignDirectFunction": "sign-direct"}
KEYS = {"Key": "SignerRole", "SignDirectKey": "SignDirectRole"}
DAY_S = 86_400

# Everything a part may do, on what: what the calls need that were seen, and those that AWS makes in a role's name.
GRANTS = needed()
SIGNING_CONDITION = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "DIGEST"}}

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
# What the functions read, exactly.
ENVIRONMENT = {
    "SignerFunction": SHARED | {"SIGNPOST_POLICY", "SIGNPOST_ACCOUNTS", "SIGNPOST_SEAL_SECRET_ARN", "AWS_ENDPOINT_URL_DYNAMODB"},
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
# What must ring, by the name a runbook entry has in infra/OPERATING.md.
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
    """What the template keeps, and how it could be broken."""

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
    """Another value at a path of the template's resources; without one, none."""
    return lambda template: changed(template, f"Resources/{path}", value)


def adds(name: str, kind: str, **members: Any) -> Break:
    return lambda template: changed(template, f"Resources/{name}", {"Type": kind, "Properties": members})


def grants(place: str, document: str, statement: Json) -> Break:
    """One more statement in a policy."""

    def add(template: Json) -> Json:
        at = len(properties(template, place)[document]["Statement"])
        return changed(template, f"Resources/{place}/Properties/{document}/Statement/{at}", statement)

    return add


def turns(name: str, sid: str, path: str = "", value: Any = None) -> Break:
    """Another value in the statement of this name; without a path, it is taken out."""

    def turn(template: Json) -> Json:
        written = properties(template, name)["PolicyDocument"]["Statement"]
        inner = [(at, statement.get("Fn::If", ["", statement])[1]) for at, statement in enumerate(written)]
        [(at, found)] = [(at, statement) for at, statement in inner if statement["Sid"] == sid]
        way = f"Resources/{name}/Properties/PolicyDocument/Statement/{at}"
        return changed(template, way + ("/Fn::If/1" if found is not written[at] and path else "") + (f"/{path}" if path else ""), value)

    return turn


def allow(action: Any, resource: Any, **more: Any) -> Json:
    return {"Sid": "New", "Effect": "Allow", "Action": action, "Resource": resource, **more}


@rule(sets("Key/DeletionPolicy"), sets("RequestsTable/UpdateReplacePolicy", "Delete"), sets("SignDirectKey/DeletionPolicy", "Delete"))
def keys_and_tables_outlive_the_stack(template: Json) -> Iterator[str]:
    for kind in ("AWS::KMS::Key", "AWS::DynamoDB::Table"):
        for name, body in of_type(template, kind).items():
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if body.get(policy) != "Retain":
                    yield f"{name} has {policy} {body.get(policy)}"


@rule(
    sets("Key/Properties/KeySpec", "ECC_NIST_P256"),
    sets("SignDirectKey/Properties/KeyUsage", "ENCRYPT_DECRYPT"),
    sets("Key/Properties/PendingWindowInDays", 7),
    sets("KeyAlias/Properties/TargetKeyId", {"Ref": "SignDirectKey"}),
)
def a_key_is_for_this_curve_and_slow_to_delete(template: Json) -> Iterator[str]:
    for name in KEYS:
        wanted = {"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY"}
        for what, value in wanted.items():
            if properties(template, name).get(what) != value:
                yield f"{what} of {name} is not {value}"
        if properties(template, name).get("PendingWindowInDays", 30) != 30:
            yield f"{name} is gone before a month is over"
    if ref(properties(template, "KeyAlias")["TargetKeyId"]) != "Key":
        yield "the alias is not the key's"


ROOT_ARN = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}


@rule(
    grants("Key", "KeyPolicy", allow("kms:Sign", "*", Principal=ROOT_ARN)),
    grants("Key", "KeyPolicy", allow("kms:*", "*", Principal=ROOT_ARN)),
    grants("Key", "KeyPolicy", allow("kms:CreateGrant", "*", Principal=ROOT_ARN)),
    grants("Key", "KeyPolicy", allow("kms:GetPublicKey", "*", Principal=ROOT_ARN)),
    grants("Key", "KeyPolicy", allow("kms:Sign", "*", Principal={"AWS": {"Fn::GetAtt": ["BroadcasterRole", "Arn"]}})),
    grants("SignDirectKey", "KeyPolicy", allow("kms:Sign", "*", Principal={"AWS": {"Fn::GetAtt": ["SignerRole", "Arn"]}})),
    sets("Key/Properties/KeyPolicy/Statement/0"),
    sets("Key/Properties/KeyPolicy/Statement/1/Condition"),
    sets("Key/Properties/KeyPolicy/Statement/1/Condition/StringEquals/kms:MessageType", "RAW"),
    sets("Key/Properties/KeyPolicy/Statement/2"),
    sets("SignDirectKey/Properties/KeyPolicy/Statement/2/Effect", "Allow"),
    sets("Key/Properties/KeyPolicy/Statement/2/Condition/ArnNotEquals/aws:PrincipalArn", "*"),
)
def the_account_administers_a_key_and_one_role_signs_with_it(template: Json) -> Iterator[str]:
    for key, role in KEYS.items():
        administers, signs, denied = False, False, False
        for statement in statements(properties(template, key)["KeyPolicy"]):
            who, what = principals(statement), actions(statement)
            if statement["Effect"] == "Deny":
                only = names(statement.get("Condition", {}).get("ArnNotEquals", {}).get("aws:PrincipalArn", []))
                denied |= {"kms:Sign", "kms:CreateGrant"} <= what and only == {role} and who == {'"*"'}
                continue
            if any("*" in action for action in what):
                yield f"{key}: {sorted(what)} has a wildcard"
            if "kms:PutKeyPolicy" in what and who == {f'{{"Fn::Sub": "{ROOT_ARN["AWS"]["Fn::Sub"]}"}}'}:
                administers = True
            if what & {"kms:Sign", "kms:CreateGrant"}:
                good = who == {role} and what == {"kms:Sign"} and statement.get("Condition") == SIGNING_CONDITION
                signs |= good
                if not good:
                    yield f"{key}: {sorted(what)} is allowed to {sorted(who)} under {statement.get('Condition')}"
            if "kms:GetPublicKey" in what and not who <= {role, "OperatorArn"}:
                yield f"{key}: its public key may be read by {sorted(who)}"
        if not administers:
            yield f"{key}: nobody may administer it"
        if not signs:
            yield f"{key}: {role} may not sign"
        if not denied:
            yield f"{key}: others than {role} are not denied to sign"


# Where AWS takes nothing narrower.
WATCH_QUEUES = {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:signpost-watch-*"}
WILDCARDS = {
    ("TrailRights", "Keep", "{'Fn::Sub': '${TrailBucket.Arn}/*'}"): "the names of objects are Firehose's own",
    ("SignerRights", "AttachToTheNetwork", "*"): "the names of network interfaces are not known before",
    ("SignpostViewer", "WatchThroughAQueue", str(WATCH_QUEUES)): "each run of `signpost watch` makes a queue of its own",
}


@rule(
    grants("SignerRights", "PolicyDocument", allow("dynamodb:*", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    grants("BroadcasterRights", "PolicyDocument", allow("sqs:SendMessage", "*")),
    grants("SignpostClient", "PolicyDocument", allow("sns:Subscribe", {"Fn::Sub": "arn:aws:sns:*:*:x"})),
    sets("KmsEndpoint/Properties/PolicyDocument/Statement/0/Resource", "*"),
    sets("SignerRights/Properties/PolicyDocument/Statement/0/NotAction", "kms:Decrypt"),
    adds("Other", "AWS::IAM::User", Policies=[]),
    sets("SignerRole/Properties/ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"]),
    sets("SignDirectRole/Properties/Policies", [{"PolicyName": "more"}]),
)
def no_right_is_a_wildcard(template: Json) -> Iterator[str]:
    for name, statement in policies(template):
        if "NotAction" in statement or "NotResource" in statement or "NotPrincipal" in statement:
            yield f"{name}: {statement} says what is not meant"
        if statement["Effect"] != "Allow" or template["Resources"][name]["Type"] == "AWS::KMS::Key":
            # In a key's policy "*" is the key; its actions have a rule of their own.
            continue
        for value in [*either(statement["Action"]), *either(statement["Resource"])]:
            if "*" in str(value) and (name, statement.get("Sid"), str(value)) not in WILDCARDS:
                yield f"{name}: {value}"
    for name, body in template["Resources"].items():
        if body["Type"] in ("AWS::IAM::User", "AWS::IAM::Group", "AWS::IAM::AccessKey"):
            yield f"{name} is a {body['Type']}"
        more = {"ManagedPolicyArns", "Policies"} & set(body["Properties"])
        if body["Type"] == "AWS::IAM::Role" and more:
            yield f"{name} has rights that stand elsewhere: {more}"


@rule(
    grants("BroadcasterRights", "PolicyDocument", allow("kms:Sign", {"Fn::GetAtt": ["Key", "Arn"]})),
    grants("SignerRights", "PolicyDocument", allow("secretsmanager:GetSecretValue", {"Ref": "RpcSecretArn"})),
    grants("SignpostClient", "PolicyDocument", allow("dynamodb:Query", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    grants("SignDirectRights", "PolicyDocument", allow("kms:Sign", {"Fn::GetAtt": ["Key", "Arn"]}, Condition=SIGNING_CONDITION)),
    turns("BroadcasterRights", "ReadRequests"),
    turns("SignerRights", "Sign", "Condition"),
    sets("SignerRights/Properties/Roles", [{"Ref": "BroadcasterRole"}]),
    adds("More", "AWS::IAM::Policy", PolicyName="more", Roles=[], PolicyDocument={"Statement": [allow("kms:Sign", "x")]}),
    sets("SignerRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal", {"AWS": "*"}),
    sets("SignerFunction/Properties/Role", {"Fn::GetAtt": ["BroadcasterRole", "Arn"]}),
    sets("BroadcasterRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition"),
    grants("SignpostViewer", "PolicyDocument", allow("sns:Publish", {"Ref": "OutcomeTopic"})),
    grants("SignpostOperator", "PolicyDocument", allow("dynamodb:DeleteItem", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    turns("SignpostOperator", "RegisterAccounts"),
)
def each_role_may_do_what_its_stage_does_and_nothing_else(template: Json) -> Iterator[str]:
    found: dict[str, dict[str, set[str]]] = {}
    for name, statement in policies(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        if statement["Effect"] != "Allow":
            continue
        for resource in resources(statement):
            found.setdefault(name, {}).setdefault(resource, set()).update(actions(statement))
        if "kms:Sign" in actions(statement) and statement.get("Condition") != SIGNING_CONDITION:
            yield f"{name}: kms:Sign under {statement.get('Condition')}"
    for name in found.keys() | GRANTS.keys():
        for resource in found.get(name, {}).keys() | GRANTS.get(name, {}).keys():
            is_, wanted = found.get(name, {}).get(resource, set()), GRANTS.get(name, {}).get(resource, set())
            if is_ != wanted:
                yield f"{name} on {resource}: too much {sorted(is_ - wanted)}, too little {sorted(wanted - is_)}"
    for function, stage in FUNCTIONS.items():
        part = function.removesuffix("Function")
        if names(properties(template, f"{part}Rights")["Roles"]) != {f"{part}Role"}:
            yield f"the rights of the {stage} are not its role's"
        if ref(properties(template, function)["Role"]) != f"{part}Role":
            yield f"{function} runs in another's role"
        trust = properties(template, f"{part}Role")["AssumeRolePolicyDocument"]["Statement"]
        # Lambda names the function's account when it takes a role: another account's function gets none.
        here = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
        if [(s["Principal"], s.get("Condition")) for s in trust] != [({"Service": "lambda.amazonaws.com"}, here)]:
            yield f"{part}Role may be taken by {trust}"


def listed(file: str, name: str) -> set[str]:
    """A list of attributes in the code of the store."""
    code = (ROOT / "crates/aws/src" / file).read_text()
    [found] = re.findall(rf"pub const {name}: \[&str; \d+\] =\s*\[(.*?)\];", code, re.S)
    return set(re.findall(r'"(\w+)"', found))


def written() -> dict[tuple[str, str, str], set[str]]:
    """Who may write which attributes of what, as the code of the store says it."""
    key, requests, heads = {"account", "item"}, {"requestId", "createdAt"} | listed("item/record.rs", "MUTABLE"), "store/written.rs"
    return {
        ("SignerRights", "dynamodb:UpdateItem", "RequestsTable"): requests,
        ("SignerRights", "dynamodb:UpdateItem", "AccountsTable"): key | listed(heads, "BY_SIGNER"),
        ("SignerRights", "dynamodb:PutItem", "AccountsTable"): key | listed(heads, "OF_SLOTS"),
        ("BroadcasterRights", "dynamodb:UpdateItem", "RequestsTable"): requests,
        ("BroadcasterRights", "dynamodb:UpdateItem", "AccountsTable"): key | listed(heads, "BY_BROADCASTER"),
        ("SignpostOperator", "dynamodb:UpdateItem", "RequestsTable"): requests,
        ("SignpostOperator", "dynamodb:UpdateItem", "AccountsTable"): key | listed(heads, "BY_OPERATOR"),
    }


ATTRIBUTES = "Condition/ForAllValues:StringEquals/dynamodb:Attributes"


@rule(
    turns("BroadcasterRights", "ChangeRequests", f"{ATTRIBUTES}/0", "digest"),
    turns("BroadcasterRights", "ChangeRequests", f"{ATTRIBUTES}/22", "nonce"),
    turns("BroadcasterRights", "ChangeHeadsAndSlots", f"{ATTRIBUTES}/11", "kmsKeyId"),
    turns("BroadcasterRights", "ChangeRequests", "Condition/Null"),
    turns("BroadcasterRights", "ChangeRequests", "Condition"),
    turns("SignerRights", "TakeSlots", f"{ATTRIBUTES}/4", "name"),
    grants("SignerRights", "PolicyDocument", allow("dynamodb:UpdateItem", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    grants("BroadcasterRights", "PolicyDocument", allow("dynamodb:PartiQLUpdate", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    grants("SignerRights", "PolicyDocument", allow("dynamodb:DeleteItem", {"Fn::GetAtt": ["AccountsTable", "Arn"]})),
)
def writes_are_of_named_attributes_and_no_stage_deletes(template: Json) -> Iterator[str]:
    """UpdateItem is an upsert: it makes an item that is not there, and so is a PutItem of all it may name. Only the
    list of attributes keeps it from being one."""
    lists, found = written(), set()
    for name, statement in policies(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        if statement["Effect"] != "Allow":
            continue
        bare = {"dynamodb:BatchWriteItem", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLInsert", "dynamodb:PartiQLDelete"}
        if name != "SignpostOperator":
            bare.add("dynamodb:DeleteItem")
        if actions(statement) & bare:
            yield f"{name} writes or deletes past every list: {sorted(actions(statement) & bare)}"
        for action in actions(statement) & {"dynamodb:UpdateItem", "dynamodb:PutItem"}:
            for table in resources(statement):
                wanted = lists.get((name, action, table))
                if wanted is None and action == "dynamodb:PutItem":
                    continue
                found.add((name, action, table))
                condition = statement.get("Condition", {})
                named = condition.get("ForAllValues:StringEquals", {}).get("dynamodb:Attributes", [])
                # Of no attribute at all, "all of them" is true.
                if condition.get("Null") != {"dynamodb:Attributes": "false"} or set(named) != wanted or len(named) != len(set(named)):
                    yield f"{name}: {action} on {table} of {sorted(named)}, not {sorted(wanted or ())}"
    if found != lists.keys():
        yield f"without a list: {sorted(lists.keys() - found)}"


ONLY_THERE = {"signer": "SignerRights", "broadcaster": "BroadcasterRights", "sign-direct": "SignDirectRights"}


@rule(
    turns("SignerRights", "OnlyInTheFunction"),
    turns("SignDirectRights", "OnlyInTheFunction", "Effect", "Allow"),
    turns("BroadcasterRights", "OnlyInTheFunction", "Action", ["dynamodb:*", "sns:*"]),
)
def credentials_hold_only_in_their_function(template: Json) -> Iterator[str]:
    for stage, name in ONLY_THERE.items():
        arn = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${NamePrefix}-" + stage
        elsewhere = {"ArnNotEquals": {"lambda:SourceFunctionArn": {"Fn::Sub": arn}}}
        denied = [
            action
            for policy, statement in policies(template, "AWS::IAM::Policy")
            if policy == name and statement["Effect"] == "Deny" and statement.get("Condition") == elsewhere and statement["Resource"] == "*"
            for action in actions(statement)
        ]
        # What Lambda asks for itself, without naming the function, and logs, which hold nothing.
        free = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
        for resource, allowed in GRANTS[name].items():
            for action in allowed - free:
                service = action.partition(":")[0]
                if service not in ("logs", "ec2") and not {action, f"{service}:*"} & set(denied):
                    yield f"{name}: {action} on {resource} holds on a laptop, too"


# How the adapters spell what IAM allows; a transaction needs the rights of its parts.
CALLS = {
    "get_item": "GetItem",
    "batch_get_item": "BatchGetItem",
    "query": "Query",
    "put_item": "PutItem",
    "update_item": "UpdateItem",
    "batch_write_item": "BatchWriteItem",
    "delete_item": "DeleteItem",
    "scan": "Scan",
}


@rule(
    turns("BroadcasterRights", "ReadAccounts", "Action", ["dynamodb:GetItem", "dynamodb:BatchWriteItem"]),
    grants("SignerRights", "PolicyDocument", allow("dynamodb:Scan", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
)
def the_store_may_make_the_calls_it_makes_and_no_other(template: Json) -> Iterator[str]:
    # What operator.rs asks runs with an operator's own credentials, in no function.
    files = (file for file in sorted((ROOT / "crates/aws/src/store").glob("*.rs")) if file.name != "operator.rs")
    code = "".join(file.read_text() for file in files)
    made = {f"dynamodb:{action}" for call, action in CALLS.items() if re.search(rf"\.{call}\(\)", code)}
    allowed = {
        action
        for name, statement in policies(template, "AWS::IAM::Policy")
        if statement["Effect"] == "Allow"
        for action in actions(statement)
        if action.startswith("dynamodb:")
    }
    if made != allowed:
        yield f"calls without a right: {sorted(made - allowed)}, rights without a call: {sorted(allowed - made)}"


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
            yield f"{name} does not keep its messages as long as can be"
    for queue, letters in dead.items():
        body = properties(template, queue)
        wanted = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId", "ContentBasedDeduplication": True}
        for what, value in wanted.items():
            if body.get(what) != value:
                yield f"{what} of {queue} is {body.get(what)}"
        redrive = body.get("RedrivePolicy", {})
        if ref(redrive.get("deadLetterTargetArn")) != letters:
            yield f"{queue} gives up into {redrive.get('deadLetterTargetArn')}"
        if redrive.get("maxReceiveCount", 0) < 5:
            yield f"{queue} gives up after {redrive.get('maxReceiveCount')} deliveries"


@rule(
    sets("SigningQueue/Properties/VisibilityTimeout", 60),
    sets("SignerFunction/Properties/Timeout", 60),
    sets("BroadcastQueue/Properties/VisibilityTimeout", 360),
    sets("ResignQueue/Properties/VisibilityTimeout", 20),
    sets("BroadcasterFunction/Properties/Timeout", 300),
    sets("BroadcastQueue/Properties/RedrivePolicy/maxReceiveCount", 10),
    sets("ResignQueue/Properties/MessageRetentionPeriod", 1_209_600),
)
def requests_are_held_long_and_pokes_briefly(template: Json) -> Iterator[str]:
    for queue, function in QUEUES.items():
        body = properties(template, queue)
        timeout, held = properties(template, function)["Timeout"], body["VisibilityTimeout"]
        if queue not in POKES:
            if held < 6 * timeout:
                yield f"{queue} holds requests for {held} s, less than six times {timeout} s"
            continue
        if held != timeout:
            yield f"{queue} holds pokes for {held} s: Lambda takes no less than {timeout} s, and more locks a lane"
        if held > 60:
            yield f"a pass that crashes locks its lane for {held} s"
        deliveries = body["MessageRetentionPeriod"] // held
        if body["RedrivePolicy"]["maxReceiveCount"] <= deliveries:
            yield f"an outage puts the pokes of {queue} into the dead-letter queue, after {deliveries} deliveries"


SECURE = {"Bool": {"aws:SecureTransport": "false"}}


@rule(
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SecureTransport", "true"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/0/Resource/1"),
    sets("QueuePolicy/Properties/Queues/3"),
    sets("OutcomeTopicPolicy/Properties/PolicyDocument/Statement/0"),
)
def queues_and_topic_are_reached_by_tls_only(template: Json) -> Iterator[str]:
    queues = set(of_type(template, "AWS::SQS::Queue"))
    covered: set[str] = set()
    for name in of_type(template, "AWS::SQS::QueuePolicy"):
        attached = names(properties(template, name)["Queues"])
        for statement in statements(properties(template, name)["PolicyDocument"]):
            if is_tls_only(statement) and "sqs:*" in actions(statement):
                covered |= resources(statement) & attached
    if covered != queues:
        yield f"without TLS these can be reached: {sorted(queues - covered)}"
    for statement in statements(properties(template, "OutcomeTopicPolicy")["PolicyDocument"]):
        if is_tls_only(statement) and {"sns:Publish", "sns:Subscribe"} <= actions(statement):
            return
    yield "without TLS the topic can be reached"


def is_tls_only(statement: Json) -> bool:
    return statement["Effect"] == "Deny" and statement["Principal"] == "*" and statement["Condition"] == SECURE


@rule(
    sets("QueuePolicy/Properties/PolicyDocument/Statement/1"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/2/Condition/ArnNotEquals/aws:PrincipalArn/2", "*"),
    sets("QueuePolicy/Properties/PolicyDocument/Statement/1/Condition/ArnNotEquals/aws:PrincipalArn/0", {"Ref": "SignpostClient"}),
    sets("OutcomeTopicPolicy/Properties/PolicyDocument/Statement/1/Effect", "Allow"),
)
def only_the_stages_speak_on_the_ways_between_them(template: Json) -> Iterator[str]:
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
            yield f"{action} on {target} is left to {found}, not to {sorted(wanted)}"


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
def event_sources_give_batches_but_a_pass_its_own_lane(template: Json) -> Iterator[str]:
    sources = of_type(template, "AWS::Lambda::EventSourceMapping")
    found = {ref(body["Properties"]["EventSourceArn"]): ref(body["Properties"]["FunctionName"]) for body in sources.values()}
    if found != QUEUES or len(sources) != len(QUEUES):
        yield f"queues and their functions are {found}"
    for name, body in sources.items():
        members = body["Properties"]
        if members.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name} repeats a whole batch for one message"
        # A batch is acknowledged as one: a finished lane would be locked until the slowest beside it is.
        if members.get("BatchSize") != (1 if name == "BroadcastSource" else 10):
            yield f"{name} gives batches of {members.get('BatchSize')}"
        if "MaximumConcurrency" not in members.get("ScalingConfig", {}):
            yield f"{name} has no bound"
        if "MaximumBatchingWindowInSeconds" in members:
            yield f"{name} has a window, which FIFO has not"
    for name in FUNCTIONS:
        if "ReservedConcurrentExecutions" in properties(template, name):
            yield f"{name}: batches refused for a reservation count as received"


@rule(
    sets("SignerFunction/Properties/RecursiveLoop"),
    sets("BroadcasterFunction/Properties/RecursiveLoop", "Terminate"),
    sets("SignDirectFunction/Properties/RecursiveLoop", "Allow"),
)
def a_busy_lane_is_no_mistake_that_lambda_ends(template: Json) -> Iterator[str]:
    for name in FUNCTIONS:
        # The direct signer writes to no queue: a loop through it would be one.
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
        yield "byAccount is written again whenever a request changes"


@rule(sets("OutcomeTopic/Properties/KmsMasterKeyId"), sets("OutcomeTopic/Properties/FifoTopic"))
def the_topic_is_encrypted_and_fifo_when_asked(template: Json) -> Iterator[str]:
    body = properties(template, "OutcomeTopic")
    if body.get("KmsMasterKeyId") != "alias/aws/sns":
        yield f"the topic is encrypted with {body.get('KmsMasterKeyId')}"
    if body.get("FifoTopic", {}).get("Fn::If", [None])[0] != "HasFifoTopic":
        yield "nobody can have a FIFO topic"


@rule(
    sets("SignerFunction/Properties/Runtime", "provided.al2"),
    sets("SignerFunction/Properties/Environment/Variables/SIGNPOST_RPC_URLS", {"Ref": "RpcUrls"}),
    sets("BroadcasterFunction/Properties/Environment/Variables/SIGNPOST_FINALITY"),
    sets("BroadcasterFunction/Properties/Environment/Variables/SIGNPOST_RPC_URLS", {"Fn::Sub": "{{resolve:secretsmanager:${RpcSecretArn}}}"}),
    sets("SignDirectFunction/Properties/LoggingConfig"),
    sets("BroadcasterLogs/Properties/RetentionInDays"),
    sets("SignDirectFunction/Properties/Environment/Variables/KMS_KEY_ID", {"Fn::GetAtt": ["Key", "Arn"]}),
)
def functions_get_their_contract_and_no_secret(template: Json) -> Iterator[str]:
    for name, stage in FUNCTIONS.items():
        body = properties(template, name)
        if (body["Runtime"], body["Handler"]) != ("provided.al2023", "bootstrap"):
            yield f"{name} runs as {body['Runtime']}, {body['Handler']}"
        if body["Code"].get("S3Key") != {"Fn::Sub": f"${{CodePrefix}}/{stage}.zip"}:
            yield f"{name} runs {body['Code']}"
        variables = body["Environment"]["Variables"]
        if set(variables) != ENVIRONMENT[name]:
            yield f"{name} gets other variables than it reads: {set(variables) ^ ENVIRONMENT[name]}"
        if "resolve:" in str(variables):
            yield f"{name} has a secret in its environment"
        logs = ref(body.get("LoggingConfig", {}).get("LogGroup"))
        if logs != name.replace("Function", "Logs") or "RetentionInDays" not in properties(template, logs):
            yield f"the logs of {name} are kept for ever, or elsewhere"
    direct = names(properties(template, "SignDirectFunction")["Environment"]["Variables"]["KMS_KEY_ID"])
    if direct != {"SignDirectKey", "SignDirectKeyArn"}:
        yield f"the direct signer signs with {direct}: two counts of one account's nonces"


CALLERS = {"Fn::Split": [",", {"Ref": "SignDirectCallerArns"}]}


@rule(
    sets("SignDirectFunction/Properties/Environment/Variables/LOG_LEVEL", "WARNING"),
    sets("SignDirectFunction/Properties/Environment/Variables/SIGNPOST_POLICY", {"Fn::If": ["HasPolicy", {"Ref": "Policy"}, "none"]}),
    sets("SignDirectAccess"),
    sets("SignDirectAccess/Condition", "HasSignDirect"),
    sets("SignDirectAccess/Properties/ResourceArn", {"Fn::GetAtt": ["SignerFunction", "Arn"]}),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Resource", {"Fn::GetAtt": ["SignDirectFunction", "Arn"]}),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Action", "lambda:InvokeFunctionUrl"),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Condition"),
    grants("SignDirectAccess", "PolicyDocument", allow("lambda:InvokeFunction", {"Fn::GetAtt": ["SignDirectFunction", "Arn"]}, Principal="*")),
    adds("More", "AWS::Lambda::Permission", FunctionName={"Ref": "SignDirectFunction"}, Action="lambda:InvokeFunction", Principal="*"),
    adds("More", "AWS::Lambda::Url", TargetFunctionArn={"Fn::GetAtt": ["SignDirectFunction", "Arn"]}, AuthType="NONE"),
    sets("SignDirectUsedAlarm/Condition", "HasSignDirectCallers"),
    sets("SignDirectStranger/Properties/Targets/0/Arn", {"Ref": "OutcomeTopic"}),
    sets("SignDirectStranger/Condition", "HasNoSignDirectCallers"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/1"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/2"),
    lambda template: changed(template, "Conditions/HasSignDirectCallers", {"Condition": "HasSignDirect"}),
)
def the_direct_signer_is_for_those_named_and_tells_of_each_use(template: Json) -> Iterator[str]:
    variables = properties(template, "SignDirectFunction")["Environment"]["Variables"]
    if variables["LOG_LEVEL"] != "INFO":
        yield "a signature leaves no line in the log"
    if "none" in list(either(variables["SIGNPOST_POLICY"])):
        yield "it starts without a policy"
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": "SignDirectCallerArns"}, ""]}]}
    if template["Conditions"]["HasSignDirectCallers"] != {"Fn::And": [{"Condition": "HasSignDirect"}, given]}:
        yield "HasSignDirectCallers is something else"
    denied = False
    if access := template["Resources"].get("SignDirectAccess"):
        function = {"Fn::GetAtt": ["SignDirectFunction", "Arn"]}
        for statement in statements(access["Properties"]["PolicyDocument"]):
            if statement["Effect"] != "Deny":
                yield f"its own policy allows {statement['Action']}"
                continue
            denied |= (
                (statement["Principal"], access["Condition"]) == ("*", "HasSignDirectCallers")
                and access["Properties"]["ResourceArn"] == function
                and {"lambda:InvokeFunction", "lambda:InvokeFunctionUrl"} <= actions(statement)
                and list(either(statement["Resource"])) == [function, {"Fn::Sub": "${SignDirectFunction.Arn}:*"}]
                and statement.get("Condition") == {"ArnNotEquals": {"aws:PrincipalArn": CALLERS}}
            )
    if not denied:
        yield "others than those named are not denied to invoke it"
    for name, body in template["Resources"].items():
        if body["Type"] in ("AWS::Lambda::Permission", "AWS::Lambda::Url", "AWS::Lambda::EventSourceMapping"):
            if "SignDirectFunction" in str(body["Properties"]):
                yield f"{name} lets others in"
    if template["Resources"]["SignDirectUsedAlarm"].get("Condition") != "HasNoSignDirectCallers":
        yield "a use is not told where nobody is named"
    stranger = template["Resources"]["SignDirectStranger"]
    if (stranger.get("Condition"), [ref(target["Arn"]) for target in either(stranger["Properties"]["Targets"])]) != ("HasSignDirectCallers", ["AlarmTopic", "AlarmTopicArn"]):
        yield "a use by somebody else is not told"
    told = {"cloudwatch.amazonaws.com", "events.amazonaws.com"}
    topic = [s for name, s in policies(template, "AWS::SNS::TopicPolicy") if name == "AlarmTopicPolicy"]
    may = {s["Principal"]["Service"] for s in topic if s["Effect"] == "Allow"}
    if may != told:
        yield f"the alarm topic takes messages of {may}"


# What would be a way out.
GATEWAYS = ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::TransitGateway")
INSIDE = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.64.0.0/24"}


@rule(
    sets("SealSecret/Properties/GenerateSecretString"),
    sets("SealSecret/Properties/SecretString", "known to all who read the template"),
    sets("SealSecret/DeletionPolicy"),
    sets("SealSecretPolicy/Properties/ResourcePolicy/Statement/0/Condition"),
    sets("SealSecretPolicy/Properties/ResourcePolicy/Statement/0/Effect", "Allow"),
    sets("SealSecretPolicy/Properties/SecretId", {"Ref": "RpcSecretArn"}),
    sets("SealSecretPolicy"),
    sets("SignerFunction/Properties/Environment/Variables/SIGNPOST_SEAL_SECRET_ARN", {"Ref": "RpcSecretArn"}),
)
def the_key_of_seals_is_the_signers_alone(template: Json) -> Iterator[str]:
    secret = template["Resources"]["SealSecret"]
    if set(secret["Properties"]) & {"SecretString", "KmsKeyId"} or secret["Properties"].get("GenerateSecretString", {}).get("PasswordLength", 0) < 32:
        yield "its text is not random, or may be known"
    if {secret.get("DeletionPolicy"), secret.get("UpdateReplacePolicy")} != {"Retain"}:
        yield "it goes with the stack, and open requests with it"
    if "SealSecretPolicy" not in template["Resources"]:
        yield "whoever may read secrets reads it"
        return
    policy = properties(template, "SealSecretPolicy")
    [denied] = policy["ResourcePolicy"]["Statement"]
    others = {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["SignerRole", "Arn"]}}}
    if (denied["Effect"], denied["Principal"], denied["Action"], denied.get("Condition")) != ("Deny", "*", "secretsmanager:GetSecretValue", others):
        yield "others than the signer read it"
    if ref(policy["SecretId"]) != "SealSecret":
        yield "its policy is another secret's"
    if ref(properties(template, "SignerFunction")["Environment"]["Variables"]["SIGNPOST_SEAL_SECRET_ARN"]) != "SealSecret":
        yield "the signer reads another"


@rule(
    adds("Way", "AWS::EC2::InternetGateway"),
    adds("Way", "AWS::EC2::VPCPeeringConnection"),
    adds("Way", "AWS::EC2::NatGateway"),
    sets("SecurityGroup/Properties/SecurityGroupEgress/0/CidrIp", "0.0.0.0/0"),
    sets("SecurityGroup/Properties/SecurityGroupEgress"),
    sets("KmsEndpoint/Properties/PolicyDocument"),
    sets("DynamoDbEndpoint/Properties/VpcEndpointType", "Gateway"),
    sets("SqsEndpoint/Properties/PolicyDocument/Statement/0/Condition"),
    sets("SnsEndpoint"),
    sets("BroadcasterFunction/Properties/VpcConfig", {"SubnetIds": []}),
    sets("SignerFunction/Properties/VpcConfig"),
    turns("SignerRights", "ButNotFromTheFunction"),
)
def the_signers_network_has_no_way_to_a_node(template: Json) -> Iterator[str]:
    for name, body in template["Resources"].items():
        if body["Type"].startswith((*GATEWAYS, "AWS::EC2::VPCPeering", "AWS::EC2::VPN", "AWS::EC2::EIP")):
            yield f"{name} is a way out"
    services = set()
    for name, body in of_type(template, "AWS::EC2::VPCEndpoint").items():
        members = body["Properties"]
        services.add(members["ServiceName"]["Fn::Sub"].rsplit(".", 1)[-1])
        if members["VpcEndpointType"] != "Interface":
            yield f"{name} is a {members['VpcEndpointType']}"
        allowed = members.get("PolicyDocument", {}).get("Statement", [{}])
        if any(s.get("Condition") != {"ArnEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["SignerRole", "Arn"]}}} for s in allowed):
            yield f"{name} is open to others than the signer"
    if services != {"kms", "dynamodb", "sqs", "sns", "secretsmanager"}:
        yield f"the signer reaches {sorted(services)}"
    for direction in ("SecurityGroupIngress", "SecurityGroupEgress"):
        rules = properties(template, "SecurityGroup").get(direction, [])
        if [{k: v for k, v in one.items() if k != "Description"} for one in rules] != [INSIDE]:
            yield f"{direction} is {rules}"
    if "Fn::If" not in properties(template, "SignerFunction").get("VpcConfig", {}):
        yield "the signer cannot be put there"
    if "VpcConfig" in properties(template, "BroadcasterFunction"):
        yield "the broadcaster is in a network without nodes"
    denied = [s for s in statements(properties(template, "SignerRights")["PolicyDocument"]) if s["Effect"] == "Deny"]
    if not any("lambda:SourceFunctionArn" in s["Condition"].get("ArnEquals", {}) and actions(s) == {"ec2:*"} for s in denied):
        yield "the signer's own code may make network interfaces"


@rule(
    sets("Sweep/Properties/ScheduleExpression", "rate(1 hour)"),
    sets("Sweep/Properties/Targets/0/Input", "{}"),
    sets("Sweep/Properties/Targets/0/Arn", {"Fn::GetAtt": ["SignerFunction", "Arn"]}),
    sets("SweepPermission/Properties/SourceArn"),
    sets("SweepOnce"),
)
def the_sweep_runs_every_minute(template: Json) -> Iterator[str]:
    sweep = properties(template, "Sweep")
    [target] = sweep["Targets"]
    if sweep["ScheduleExpression"] != "rate(1 minute)":
        yield f"it runs at {sweep['ScheduleExpression']}"
    if target["Input"] != '{"signpost":"sweep"}' or ref(target["Arn"]) != "BroadcasterFunction":
        yield f"it asks {target}"
    permission = properties(template, "SweepPermission")
    if permission.get("SourceArn") != {"Fn::GetAtt": ["Sweep", "Arn"]}:
        yield "anybody's schedule may start the broadcaster"
    if template["Resources"].get("SweepOnce", {}).get("Properties", {}).get("MaximumRetryAttempts") != 0:
        yield "a sweep that failed is repeated, beside the next"


@rule(
    *(sets(name) for name in ("SigningDeadLettersAlarm", "SigningAgeAlarm", "HeadStuckAlarm", "KmsThrottlesAlarm", "SignerErrorsAlarm")),
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
def what_can_go_wrong_rings(template: Json) -> Iterator[str]:
    meters = set(re.findall(r'"(signpost_\w+)"', (ROOT / "crates/txmgr/src/meters.rs").read_text()))
    meters |= set(re.findall(r'"(signpost_aws_\w+)"', (ROOT / "crates/aws/src/repeat.rs").read_text()))
    filtered = set()
    for name, body in of_type(template, "AWS::Logs::MetricFilter").items():
        [made] = body["Properties"]["MetricTransformations"]
        filtered.add(made["MetricName"])
        for meter in re.findall(r"\$\.(signpost_\w+)", body["Properties"]["FilterPattern"]):
            if meter not in meters:
                yield f"{name} looks for {meter}, which nothing measures"
        if ref(body["Properties"]["LogGroupName"]) not in ("SignerLogs", "BroadcasterLogs"):
            yield f"{name} looks elsewhere"
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
                yield f"{name} watches {metric['MetricName']}, which nothing makes"
            # What KMS was asked is counted by account and region only.
            if not ours and metric["Namespace"] != "AWS/Usage" and len(metric.get("Dimensions") or []) != 1:
                yield f"{name} watches everybody's {metric['MetricName']}"
        if names(members.get("AlarmActions", [])) != {"AlarmTopic", "AlarmTopicArn"}:
            yield f"{name} does not ring"
        # A schedule starts the broadcaster every minute: nothing measured there is the fault itself.
        if members["TreatMissingData"] != ("breaching" if slug == "broadcaster-silent" else "notBreaching"):
            yield f"{name} rings for nothing, or not when nothing runs"
    # What waits for its seal was found by the signer, which rings `unsealed`.
    if watched != causes - {"predecessor", "seal"}:
        yield f"of {causes} only {watched} ring"
    if found != ALARMS:
        yield f"alarms missing {ALARMS.keys() - found.keys()}, unknown {found.keys() - ALARMS.keys()}, other {found}"
    if not of_type(template, "AWS::CloudWatch::Dashboard"):
        yield "there is no dashboard"


@rule(
    lambda template: {**template, "Transform": "AWS::Serverless-2016-10-31"},
    adds("Magic", "AWS::CloudFormation::CustomResource"),
    adds("Magic", "Custom::Thing"),
    adds("Nested", "AWS::CloudFormation::Stack"),
)
def it_is_plain_cloudformation(template: Json) -> Iterator[str]:
    if "Transform" in template:
        yield f"it needs {template['Transform']}"
    for name, body in template["Resources"].items():
        if body["Type"].startswith(("Custom::", "AWS::CloudFormation::")):
            yield f"{name} is a {body['Type']}"


@rule(
    lambda template: changed(template, "Parameters/Network/Default", "bsc"),
    lambda template: changed(template, "Parameters/KmsKeyArns"),
    lambda template: changed(template, "Rules/NodesAreGiven"),
    lambda template: changed(template, "Rules/SomebodyHearsTheAlarms"),
    lambda template: changed(template, "Mappings/Networks/bsc/ChainId", "97"),
)
def what_touches_safety_must_be_said(template: Json) -> Iterator[str]:
    parameters = template["Parameters"]
    for name in ("Network", "CodeBucket"):
        if "Default" in parameters[name]:
            yield f"{name} has a default"
    wanted = {"NamePrefix", "Accounts", "KmsKeyArns", "SignerConcurrency", "BroadcasterConcurrency", "AlarmEmail"}
    wanted |= {"RpcSecretArn", "FifoTopic", "SignerInVpc", "CodePrefix", "Architecture", "OperatorArn", "Subscribers"}
    if not wanted <= parameters.keys():
        yield f"parameters are missing: {wanted - parameters.keys()}"
    if template["Rules"].keys() != {"AKeyIsGiven", "NodesAreGiven", "SomebodyHearsTheAlarms", "FipsOrNetwork"}:
        yield f"a stack without key, nodes or an ear is taken: {sorted(template['Rules'])}"
    chains = {name: network["ChainId"] for name, network in template["Mappings"]["Networks"].items()}
    if chains != {"bsc": "56", "bsc-testnet": "97"}:
        yield f"the chains are {chains}"
