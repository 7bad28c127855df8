"""The rules for infra/template.yaml, each with changes that break it.

A rule is a function from the template to its problems. Its breaks are changes to the template for which it must report
a problem. Every rule needs at least one break, which shows that the rule works.
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
# The queues of pokes. A poke may be repeated or lost; a request may not.
POKES = ("ResignQueue", "BroadcastQueue")
FUNCTIONS = {"SignerFunction": "signer", "BroadcasterFunction": "broadcaster", "SignDirectFunction": "sign-direct"}
KEYS = {"Key": "SignerRole", "SignDirectKey": "SignDirectRole"}
DAY_S = 86_400

# The permissions of each component by resource: those of the observed calls and of AWS's own calls with its role.
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
    sets("Key/Properties/KeySpec", "ECC_NIST_P256"),
    sets("SignDirectKey/Properties/KeyUsage", "ENCRYPT_DECRYPT"),
    sets("Key/Properties/PendingWindowInDays", 7),
    sets("KeyAlias/Properties/TargetKeyId", {"Ref": "SignDirectKey"}),
)
def keys_are_secp256k1_and_slow_to_delete(template: Json) -> Iterator[str]:
    for name in KEYS:
        wanted = {"KeySpec": "ECC_SECG_P256K1", "KeyUsage": "SIGN_VERIFY"}
        for what, value in wanted.items():
            if properties(template, name).get(what) != value:
                yield f"{what} of {name} is not {value}"
        if properties(template, name).get("PendingWindowInDays", 30) != 30:
            yield f"{name} can be deleted in less than a month"
    if ref(properties(template, "KeyAlias")["TargetKeyId"]) != "Key":
        yield "the alias names another key"


ROOT_ARN = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}


@rule(
    adds_statement("Key", "KeyPolicy", allow("kms:Sign", "*", Principal=ROOT_ARN)),
    adds_statement("Key", "KeyPolicy", allow("kms:*", "*", Principal=ROOT_ARN)),
    adds_statement("Key", "KeyPolicy", allow("kms:CreateGrant", "*", Principal=ROOT_ARN)),
    adds_statement("Key", "KeyPolicy", allow("kms:GetPublicKey", "*", Principal=ROOT_ARN)),
    adds_statement(
        "Key", "KeyPolicy", allow("kms:Sign", "*", Principal={"AWS": {"Fn::GetAtt": ["BroadcasterRole", "Arn"]}})
    ),
    adds_statement(
        "SignDirectKey", "KeyPolicy", allow("kms:Sign", "*", Principal={"AWS": {"Fn::GetAtt": ["SignerRole", "Arn"]}})
    ),
    sets("Key/Properties/KeyPolicy/Statement/0"),
    sets("Key/Properties/KeyPolicy/Statement/1/Condition"),
    sets("Key/Properties/KeyPolicy/Statement/1/Condition/StringEquals/kms:MessageType", "RAW"),
    sets("Key/Properties/KeyPolicy/Statement/2"),
    sets("SignDirectKey/Properties/KeyPolicy/Statement/2/Effect", "Allow"),
    sets("Key/Properties/KeyPolicy/Statement/2/Condition/ArnNotEquals/aws:PrincipalArn", "*"),
)
def account_administers_each_key_and_one_role_signs(template: Json) -> Iterator[str]:
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
            yield f"{key}: the account may not administer it"
        if not signs:
            yield f"{key}: {role} may not sign"
        if not denied:
            yield f"{key}: signing is not denied to all but {role}"


# Wildcards without a narrower alternative in AWS.
WATCH_QUEUES = {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:signpost-watch-*"}
WILDCARDS = {
    ("TrailRights", "WriteObjects", "{'Fn::Sub': '${TrailBucket.Arn}/*'}"): "Firehose chooses the names of objects",
    ("SignerRights", "AttachToTheNetwork", "*"): "the names of network interfaces are not known in advance",
    ("SignpostViewer", "WatchThroughAQueue", str(WATCH_QUEUES)): "each run of `signpost watch` creates its own queue",
}


@rule(
    adds_statement("SignerRights", "PolicyDocument", allow("dynamodb:*", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
    adds_statement("BroadcasterRights", "PolicyDocument", allow("sqs:SendMessage", "*")),
    adds_statement("SignpostClient", "PolicyDocument", allow("sns:Subscribe", {"Fn::Sub": "arn:aws:sns:*:*:x"})),
    sets("KmsEndpoint/Properties/PolicyDocument/Statement/0/Resource", "*"),
    sets("SignerRights/Properties/PolicyDocument/Statement/0/NotAction", "kms:Decrypt"),
    adds_resource("Other", "AWS::IAM::User", Policies=[]),
    sets("SignerRole/Properties/ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"]),
    sets("SignDirectRole/Properties/Policies", [{"PolicyName": "more"}]),
)
def no_permission_is_a_wildcard(template: Json) -> Iterator[str]:
    for name, statement in policies(template):
        if "NotAction" in statement or "NotResource" in statement or "NotPrincipal" in statement:
            yield f"{name}: {statement} uses a negated element"
        if statement["Effect"] != "Allow" or template["Resources"][name]["Type"] == "AWS::KMS::Key":
            # In a key policy "*" is the key itself; another rule checks its actions.
            continue
        for value in [*either(statement["Action"]), *either(statement["Resource"])]:
            if "*" in str(value) and (name, statement.get("Sid"), str(value)) not in WILDCARDS:
                yield f"{name}: {value}"
    for name, body in template["Resources"].items():
        if body["Type"] in ("AWS::IAM::User", "AWS::IAM::Group", "AWS::IAM::AccessKey"):
            yield f"{name} is a {body['Type']}"
        more = {"ManagedPolicyArns", "Policies"} & set(body["Properties"])
        if body["Type"] == "AWS::IAM::Role" and more:
            yield f"{name} has permissions outside of the template's policies: {more}"


@rule(
    adds_statement("BroadcasterRights", "PolicyDocument", allow("kms:Sign", {"Fn::GetAtt": ["Key", "Arn"]})),
    adds_statement("SignerRights", "PolicyDocument", allow("secretsmanager:GetSecretValue", {"Ref": "RpcSecretArn"})),
    adds_statement(
        "SignpostClient", "PolicyDocument", allow("dynamodb:Query", {"Fn::GetAtt": ["RequestsTable", "Arn"]})
    ),
    adds_statement(
        "SignDirectRights",
        "PolicyDocument",
        allow("kms:Sign", {"Fn::GetAtt": ["Key", "Arn"]}, Condition=SIGNING_CONDITION),
    ),
    changes_statement("BroadcasterRights", "ReadRequests"),
    changes_statement("SignerRights", "Sign", "Condition"),
    sets("SignerRights/Properties/Roles", [{"Ref": "BroadcasterRole"}]),
    adds_resource(
        "More", "AWS::IAM::Policy", PolicyName="more", Roles=[], PolicyDocument={"Statement": [allow("kms:Sign", "x")]}
    ),
    sets("SignerRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal", {"AWS": "*"}),
    sets("SignerFunction/Properties/Role", {"Fn::GetAtt": ["BroadcasterRole", "Arn"]}),
    sets("BroadcasterRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition"),
    adds_statement("SignpostViewer", "PolicyDocument", allow("sns:Publish", {"Ref": "OutcomeTopic"})),
    adds_statement(
        "SignpostOperator", "PolicyDocument", allow("dynamodb:DeleteItem", {"Fn::GetAtt": ["RequestsTable", "Arn"]})
    ),
    changes_statement("SignpostOperator", "RegisterAccounts"),
)
def each_role_has_exactly_the_permissions_of_its_stage(template: Json) -> Iterator[str]:
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
            given, wanted = found.get(name, {}).get(resource, set()), GRANTS.get(name, {}).get(resource, set())
            if given != wanted:
                yield f"{name} on {resource}: too much {sorted(given - wanted)}, too little {sorted(wanted - given)}"
    for function, stage in FUNCTIONS.items():
        part = function.removesuffix("Function")
        if names(properties(template, f"{part}Rights")["Roles"]) != {f"{part}Role"}:
            yield f"{part}Rights is not attached to {part}Role only"
        if ref(properties(template, function)["Role"]) != f"{part}Role":
            yield f"{function} has another role"
        trust = properties(template, f"{part}Role")["AssumeRolePolicyDocument"]["Statement"]
        # Lambda passes the function's account when it assumes a role, so a function of another account is refused.
        here = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
        if [(s["Principal"], s.get("Condition")) for s in trust] != [({"Service": "lambda.amazonaws.com"}, here)]:
            yield f"{part}Role may be assumed by {trust}"


def listed(file: str, name: str) -> set[str]:
    """A list of attributes from the code of the store."""
    code = (ROOT / "crates/aws/src" / file).read_text()
    [found] = re.findall(rf"pub const {name}: \[&str; \d+\] =\s*\[(.*?)\];", code, re.S)
    return set(re.findall(r'"(\w+)"', found))


def written() -> dict[tuple[str, str, str], set[str]]:
    """The attributes that each policy may write by action and table, from the code of the store."""
    key, requests, heads = (
        {"account", "item"},
        {"requestId", "createdAt"} | listed("item/record.rs", "MUTABLE"),
        "store/written.rs",
    )
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
    changes_statement("BroadcasterRights", "ChangeRequests", f"{ATTRIBUTES}/0", "digest"),
    changes_statement("BroadcasterRights", "ChangeRequests", f"{ATTRIBUTES}/22", "nonce"),
    changes_statement("BroadcasterRights", "ChangeHeadsAndSlots", f"{ATTRIBUTES}/11", "kmsKeyId"),
    changes_statement("BroadcasterRights", "ChangeRequests", "Condition/Null"),
    changes_statement("BroadcasterRights", "ChangeRequests", "Condition"),
    changes_statement("SignerRights", "TakeSlots", f"{ATTRIBUTES}/4", "name"),
    adds_statement(
        "SignerRights", "PolicyDocument", allow("dynamodb:UpdateItem", {"Fn::GetAtt": ["RequestsTable", "Arn"]})
    ),
    adds_statement(
        "BroadcasterRights", "PolicyDocument", allow("dynamodb:PartiQLUpdate", {"Fn::GetAtt": ["RequestsTable", "Arn"]})
    ),
    adds_statement(
        "SignerRights", "PolicyDocument", allow("dynamodb:DeleteItem", {"Fn::GetAtt": ["AccountsTable", "Arn"]})
    ),
)
def writes_name_their_attributes_and_no_stage_deletes(template: Json) -> Iterator[str]:
    """UpdateItem creates a missing item, so it equals a PutItem with the attributes that it may name. Only the list of
    attributes prevents the creation of a valid item."""
    lists, found = written(), set()
    for name, statement in policies(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        if statement["Effect"] != "Allow":
            continue
        bare = {"dynamodb:BatchWriteItem", "dynamodb:PartiQLUpdate", "dynamodb:PartiQLInsert", "dynamodb:PartiQLDelete"}
        if name != "SignpostOperator":
            bare.add("dynamodb:DeleteItem")
        if actions(statement) & bare:
            yield f"{name} writes or deletes without a list of attributes: {sorted(actions(statement) & bare)}"
        for action in actions(statement) & {"dynamodb:UpdateItem", "dynamodb:PutItem"}:
            for table in resources(statement):
                wanted = lists.get((name, action, table))
                if wanted is None and action == "dynamodb:PutItem":
                    continue
                found.add((name, action, table))
                condition = statement.get("Condition", {})
                named = condition.get("ForAllValues:StringEquals", {}).get("dynamodb:Attributes", [])
                # ForAllValues is true for an empty set, so the Null condition is needed too.
                if (
                    condition.get("Null") != {"dynamodb:Attributes": "false"}
                    or set(named) != wanted
                    or len(named) != len(set(named))
                ):
                    yield f"{name}: {action} on {table} of {sorted(named)}, not {sorted(wanted or ())}"
    if found != lists.keys():
        yield f"missing lists of attributes: {sorted(lists.keys() - found)}"


ONLY_THERE = {"signer": "SignerRights", "broadcaster": "BroadcasterRights", "sign-direct": "SignDirectRights"}


@rule(
    changes_statement("SignerRights", "OnlyInTheFunction"),
    changes_statement("SignDirectRights", "OnlyInTheFunction", "Effect", "Allow"),
    changes_statement("BroadcasterRights", "OnlyInTheFunction", "Action", ["dynamodb:*", "sns:*"]),
)
def credentials_work_only_in_their_function(template: Json) -> Iterator[str]:
    for stage, name in ONLY_THERE.items():
        arn = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${NamePrefix}-" + stage
        elsewhere = {"ArnNotEquals": {"lambda:SourceFunctionArn": {"Fn::Sub": arn}}}
        denied = [
            action
            for policy, statement in policies(template, "AWS::IAM::Policy")
            if policy == name
            and statement["Effect"] == "Deny"
            and statement.get("Condition") == elsewhere
            and statement["Resource"] == "*"
            for action in actions(statement)
        ]
        # Exempt: Lambda's own polls, which do not name the function, and logs, which are not confidential.
        free = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
        for resource, allowed in GRANTS[name].items():
            for action in allowed - free:
                service = action.partition(":")[0]
                if service not in ("logs", "ec2") and not {action, f"{service}:*"} & set(denied):
                    yield f"{name}: {action} on {resource} also works outside of the function"


# The SDK's methods and their IAM actions. A transaction needs the permissions of its parts.
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
    changes_statement("BroadcasterRights", "ReadAccounts", "Action", ["dynamodb:GetItem", "dynamodb:BatchWriteItem"]),
    adds_statement("SignerRights", "PolicyDocument", allow("dynamodb:Scan", {"Fn::GetAtt": ["RequestsTable", "Arn"]})),
)
def store_permissions_match_its_calls(template: Json) -> Iterator[str]:
    # operator.rs runs with an operator's credentials, not in a function.
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
        yield f"calls without permission: {sorted(made - allowed)}, unused permissions: {sorted(allowed - made)}"


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


CALLERS = {"Fn::Split": [",", {"Ref": "SignDirectCallerArns"}]}


@rule(
    sets("SignDirectFunction/Properties/Environment/Variables/LOG_LEVEL", "WARNING"),
    sets(
        "SignDirectFunction/Properties/Environment/Variables/SIGNPOST_POLICY",
        {"Fn::If": ["HasPolicy", {"Ref": "Policy"}, "none"]},
    ),
    sets("SignDirectAccess"),
    sets("SignDirectAccess/Condition", "HasSignDirect"),
    sets("SignDirectAccess/Properties/ResourceArn", {"Fn::GetAtt": ["SignerFunction", "Arn"]}),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Effect", "Allow"),
    sets(
        "SignDirectAccess/Properties/PolicyDocument/Statement/0/Resource", {"Fn::GetAtt": ["SignDirectFunction", "Arn"]}
    ),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Action", "lambda:InvokeFunctionUrl"),
    sets("SignDirectAccess/Properties/PolicyDocument/Statement/0/Condition"),
    adds_statement(
        "SignDirectAccess",
        "PolicyDocument",
        allow("lambda:InvokeFunction", {"Fn::GetAtt": ["SignDirectFunction", "Arn"]}, Principal="*"),
    ),
    adds_resource(
        "More",
        "AWS::Lambda::Permission",
        FunctionName={"Ref": "SignDirectFunction"},
        Action="lambda:InvokeFunction",
        Principal="*",
    ),
    adds_resource(
        "More", "AWS::Lambda::Url", TargetFunctionArn={"Fn::GetAtt": ["SignDirectFunction", "Arn"]}, AuthType="NONE"
    ),
    sets("SignDirectUsedAlarm/Condition", "HasSignDirectCallers"),
    sets("SignDirectStranger/Properties/Targets/0/Arn", {"Ref": "OutcomeTopic"}),
    sets("SignDirectStranger/Condition", "HasNoSignDirectCallers"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/1"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/2"),
    lambda template: changed(template, "Conditions/HasSignDirectCallers", {"Condition": "HasSignDirect"}),
)
def direct_signer_admits_named_callers_and_reports_uses(template: Json) -> Iterator[str]:
    variables = properties(template, "SignDirectFunction")["Environment"]["Variables"]
    if variables["LOG_LEVEL"] != "INFO":
        yield "signatures are not logged"
    if "none" in list(either(variables["SIGNPOST_POLICY"])):
        yield "it starts without a policy"
    given = {"Fn::Not": [{"Fn::Equals": [{"Ref": "SignDirectCallerArns"}, ""]}]}
    if template["Conditions"]["HasSignDirectCallers"] != {"Fn::And": [{"Condition": "HasSignDirect"}, given]}:
        yield "HasSignDirectCallers has another meaning"
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
        yield "invoking it is not denied to all but the named callers"
    for name, body in template["Resources"].items():
        if body["Type"] in ("AWS::Lambda::Permission", "AWS::Lambda::Url", "AWS::Lambda::EventSourceMapping"):
            if "SignDirectFunction" in str(body["Properties"]):
                yield f"{name} lets others invoke it"
    if template["Resources"]["SignDirectUsedAlarm"].get("Condition") != "HasNoSignDirectCallers":
        yield "without named callers, uses are not reported"
    stranger = template["Resources"]["SignDirectStranger"]
    if (stranger.get("Condition"), [ref(target["Arn"]) for target in either(stranger["Properties"]["Targets"])]) != (
        "HasSignDirectCallers",
        ["AlarmTopic", "AlarmTopicArn"],
    ):
        yield "uses by other callers are not reported"
    publishers = {"cloudwatch.amazonaws.com", "events.amazonaws.com"}
    topic = [s for name, s in policies(template, "AWS::SNS::TopicPolicy") if name == "AlarmTopicPolicy"]
    may = {s["Principal"]["Service"] for s in topic if s["Effect"] == "Allow"}
    if may != publishers:
        yield f"{may} may publish to the alarm topic"


# Resources that would open a route out of the network.
GATEWAYS = ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::TransitGateway")
INSIDE = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "10.64.0.0/24"}


@rule(
    sets("SealSecret/Properties/GenerateSecretString"),
    sets("SealSecret/Properties/SecretString", "public in the template"),
    sets("SealSecret/DeletionPolicy"),
    sets("SealSecretPolicy/Properties/ResourcePolicy/Statement/0/Condition"),
    sets("SealSecretPolicy/Properties/ResourcePolicy/Statement/0/Effect", "Allow"),
    sets("SealSecretPolicy/Properties/SecretId", {"Ref": "RpcSecretArn"}),
    sets("SealSecretPolicy"),
    sets("SignerFunction/Properties/Environment/Variables/SIGNPOST_SEAL_SECRET_ARN", {"Ref": "RpcSecretArn"}),
)
def only_the_signer_reads_the_seal_key(template: Json) -> Iterator[str]:
    secret = template["Resources"]["SealSecret"]
    if (
        set(secret["Properties"]) & {"SecretString", "KmsKeyId"}
        or secret["Properties"].get("GenerateSecretString", {}).get("PasswordLength", 0) < 32
    ):
        yield "its value is not random or not secret"
    if {secret.get("DeletionPolicy"), secret.get("UpdateReplacePolicy")} != {"Retain"}:
        yield "it is deleted with the stack, and then open requests cannot be signed"
    if "SealSecretPolicy" not in template["Resources"]:
        yield "any principal that may read secrets can read it"
        return
    policy = properties(template, "SealSecretPolicy")
    [denied] = policy["ResourcePolicy"]["Statement"]
    others = {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["SignerRole", "Arn"]}}}
    if (denied["Effect"], denied["Principal"], denied["Action"], denied.get("Condition")) != (
        "Deny",
        "*",
        "secretsmanager:GetSecretValue",
        others,
    ):
        yield "reading it is not denied to all but the signer"
    if ref(policy["SecretId"]) != "SealSecret":
        yield "its policy belongs to another secret"
    if (
        ref(properties(template, "SignerFunction")["Environment"]["Variables"]["SIGNPOST_SEAL_SECRET_ARN"])
        != "SealSecret"
    ):
        yield "the signer uses another secret"


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
