"""Rules for infra/template.yaml about keys, roles and permissions.

Read rules.py first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rights import needed
from rules import FUNCTIONS, KEYS, adds_resource, adds_statement, allow, changes_statement, rule, sets
from template import (
    ROOT,
    Json,
    actions,
    changed,
    either,
    names,
    policies,
    principals,
    properties,
    ref,
    resources,
    statements,
)

# The permissions of each component by resource: those of the observed calls and of AWS's own calls with its role.
GRANTS = needed()
SIGNING_CONDITION = {"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "DIGEST"}}

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
