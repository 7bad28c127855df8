"""Rules for infra/template.yaml about monitoring besides metrics: changes to keys, code and roles, the undeletable
trail of signatures, and the recipients of alarms.

Read rules.py first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rules import adds_resource, rule, sets
from template import ROOT, Json, changed, names, of_type, principals, properties, ref, statements

CLOUDTRAIL = "AWS API Call via CloudTrail"
# Calls after which another principal could sign or get a signature.
CHANGES = {
    "kms": {"PutKeyPolicy", "ScheduleKeyDeletion", "DisableKey", "UpdateAlias", "CreateGrant"},
    "lambda": {"UpdateFunctionCode", "UpdateFunctionConfiguration"},
    "iam": {"PutRolePolicy", "AttachRolePolicy", "UpdateAssumeRolePolicy"},
}


@rule(
    sets("KeyChanged"),
    sets("KeyChanged/Properties/EventPattern/detail/eventName/0"),
    sets("SignGranted/Properties/EventPattern/detail/requestParameters/operations", ["Decrypt"]),
    sets("CodeChanged/Properties/EventPattern/detail/eventName/1"),
    sets("RoleChanged/Properties/EventPattern/source", ["aws.sts"]),
    sets("RoleChanged/Properties/EventPattern/detail/requestParameters/roleName", ["signpost"]),
    sets("CodeChanged/Properties/Targets/0"),
    sets("CodeChanged/Properties/Targets/1"),
    sets("KeyChanged/Properties/State", "DISABLED"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/2"),
    sets("AlarmTopicPolicy/Properties/PolicyDocument/Statement/1/Principal/Service", "sns.amazonaws.com"),
)
def changes_to_keys_code_and_roles_are_reported(template: Json) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for name, body in of_type(template, "AWS::Events::Rule").items():
        members = body["Properties"]
        # Another rule checks the reports of direct signer invocations.
        if "EventPattern" not in members or name == "SignDirectStranger":
            continue
        pattern = members["EventPattern"]
        [source] = pattern["source"]
        detail = pattern["detail"]
        service = source.removeprefix("aws.")
        if detail["eventSource"] != [f"{service}.amazonaws.com"] or pattern["detail-type"] != [CLOUDTRAIL]:
            yield f"{name} does not match events of {service}"
        calls = {call["prefix"] if isinstance(call, dict) else call for call in detail["eventName"]}
        found.setdefault(service, set()).update(calls)
        if "CreateGrant" in calls and detail["requestParameters"] != {"operations": ["Sign"]}:
            yield f"{name} matches other grants"
        ours = {
            "iam": ("roleName", {"prefix": {"Fn::Sub": "${NamePrefix}-"}}),
            "lambda": ("functionName", {"wildcard": {"Fn::Sub": "*${NamePrefix}-*"}}),
        }
        if service in ours:
            parameter, wanted = ours[service]
            if detail["requestParameters"] != {parameter: [wanted]}:
                yield f"{name} matches {detail['requestParameters']}"
        recipients = names([{"Ref": ref(target["Arn"])} for target in targets(members)])
        if recipients != {"AlarmTopic", "AlarmTopicArn"}:
            yield f"{name} reports to {recipients}"
        if members.get("State", "ENABLED") != "ENABLED":
            yield f"{name} is disabled"
    for service, calls in CHANGES.items():
        if not calls <= found.get(service, set()):
            yield f"calls of {service} are not reported: {calls - found.get(service, set())}"
    may = {
        principal
        for statement in statements(properties(template, "AlarmTopicPolicy")["PolicyDocument"])
        if statement["Effect"] == "Allow"
        for principal in principals(statement)
    }
    if may != {'{"Service": "cloudwatch.amazonaws.com"}', '{"Service": "events.amazonaws.com"}'}:
        yield f"{sorted(may)} may publish to the alarm topic"


def targets(rule_of_events: Json) -> list[Json]:
    return [one["Fn::If"][1] if "Fn::If" in one else one for one in rule_of_events["Targets"]]


@rule(
    sets("TrailBucket/Properties/ObjectLockEnabled"),
    sets("TrailBucket/Properties/ObjectLockConfiguration/Rule/DefaultRetention/Mode", "GOVERNANCE"),
    sets("TrailBucket/DeletionPolicy"),
    sets("TrailBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy", False),
    sets("TrailBucket/Properties/VersioningConfiguration"),
    sets("TrailBucketPolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SecureTransport", "true"),
    sets("TrailSubscription/Properties/FilterPattern", '{$.message = "Signed"}'),
    sets("TrailSubscription/Properties/LogGroupName", {"Ref": "BroadcasterLogs"}),
    sets("TrailRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition"),
    adds_resource("Another", "AWS::S3::Bucket"),
)
def trail_cannot_be_deleted_or_read_publicly(template: Json) -> Iterator[str]:
    buckets = of_type(template, "AWS::S3::Bucket")
    if set(buckets) != {"TrailBucket"}:
        yield f"the buckets are {sorted(buckets)}"
    body = template["Resources"]["TrailBucket"]
    members = body["Properties"]
    if body.get("DeletionPolicy") != "Retain" or body.get("UpdateReplacePolicy") != "Retain":
        yield "it is deleted with the stack"
    lock = members.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    if not members.get("ObjectLockEnabled") or lock != {"Mode": "COMPLIANCE", "Days": {"Ref": "TrailRetentionDays"}}:
        yield f"an administrator may delete objects from it: {lock}"
    if members.get("VersioningConfiguration") != {"Status": "Enabled"}:
        yield "object lock needs versioning"
    if len(members["PublicAccessBlockConfiguration"]) != 4 or not all(
        members["PublicAccessBlockConfiguration"].values()
    ):
        yield "public access is not blocked"
    [tls] = statements(properties(template, "TrailBucketPolicy")["PolicyDocument"])
    if (tls["Effect"], tls["Condition"]) != ("Deny", {"Bool": {"aws:SecureTransport": "false"}}):
        yield "it does not require TLS"
    # The signer's log line for each signature, written once the signature is stored. logs.rs flattens it.
    if not re.search(r'tracing::info!\([^;]*"signed"\);', (ROOT / "crates/txmgr/src/signer/attempt.rs").read_text()):
        yield "the signer does not log signatures"
    subscription = properties(template, "TrailSubscription")
    if subscription["FilterPattern"] != '{$.message = "signed"}' or ref(subscription["LogGroupName"]) != "SignerLogs":
        yield f"it receives {subscription['FilterPattern']}"
    for statement in statements(properties(template, "TrailRole")["AssumeRolePolicyDocument"]):
        if statement.get("Condition") != {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}:
            yield "its role may be assumed for other accounts"


@rule(
    lambda template: changed(template, "Rules/AlarmsHaveARecipient/Assertions/0/Assert", {"Fn::Or": [True, True]}),
    sets("AlarmTopic/Properties/Subscription"),
)
def alarms_have_a_recipient(template: Json) -> Iterator[str]:
    given = [{"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]} for name in ("AlarmEmail", "AlarmTopicArn")]
    if template["Rules"]["AlarmsHaveARecipient"]["Assertions"][0]["Assert"] != {"Fn::Or": given}:
        yield "a stack without a recipient of alarms is accepted"
    if "AlarmEmail" not in str(properties(template, "AlarmTopic").get("Subscription")):
        yield "AlarmEmail is not subscribed"


@rule(
    sets("Key/Properties/KeyPolicy/Statement/0/Principal/AWS", {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:root"}),
    adds_resource(
        "Elsewhere",
        "AWS::IAM::ManagedPolicy",
        PolicyDocument={"Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws-cn:s3:::x"}]},
    ),
    sets(
        "SignerFunction/Properties/Environment/Variables/AWS_ENDPOINT_URL_DYNAMODB",
        "https://dynamodb.us-east-1.amazonaws.com",
    ),
)
def template_and_code_name_no_partition(template: Json) -> Iterator[str]:
    # Service names in principals and event sources are the same in all partitions.
    services = re.compile(r"[a-z]+\.amazonaws\.com$|com\.amazonaws\.\$\{AWS::Region\}\.[a-z]+$")
    for name, body in template["Resources"].items():
        for text in texts(body):
            if re.search(r"\barn:aws[a-z-]*:", text) or ("amazonaws.com" in text and not services.fullmatch(text)):
                yield f"{name} works in one partition only: {text}"
    # The programs must not either, except in tests and comments.
    for file in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        code = file.read_text().split("#[cfg(test)]")[0]
        for line in code.splitlines():
            if re.search(r'"[^"]*arn:aws[a-z-]*:', line) and not line.lstrip().startswith("//"):
                yield f"{file.relative_to(ROOT)}: {line.strip()}"


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)
    elif isinstance(value, str):
        yield value


PROGRAMS = {"Signer": "signer", "Broadcaster": "broadcaster", "SignDirect": "sign-direct"}


@rule(
    sets("SignerLogs/DeletionPolicy"),
    sets("SignDirectLogs/UpdateReplacePolicy", "Delete"),
    sets("BroadcasterLogs/Properties/KmsKeyId"),
    sets("RequestsTable/Properties/SSESpecification"),
    sets("AccountsTable/Properties/SSESpecification/Fn::If/1/KMSMasterKeyId", {"Ref": "LogKmsKeyArn"}),
    sets("SignerFunction/Properties/Code/S3ObjectVersion"),
    sets("BroadcasterFunction/Properties/Code/S3ObjectVersion/Fn::If/1", {"Ref": "SignerObjectVersion"}),
    sets("SignDirectFunction/Properties/CodeSigningConfigArn"),
)
def code_and_keys_can_be_pinned_and_logs_outlive_the_stack(template: Json) -> Iterator[str]:
    nothing = {"Ref": "AWS::NoValue"}
    for part in PROGRAMS:
        function = properties(template, f"{part}Function")
        version = {"Fn::If": [f"Has{part}Version", {"Ref": f"{part}ObjectVersion"}, nothing]}
        if function["Code"].get("S3ObjectVersion") != version:
            yield f"the object version of the {part} cannot be pinned"
        if function.get("CodeSigningConfigArn") != {
            "Fn::If": ["HasCodeSigning", {"Ref": "CodeSigningConfigArn"}, nothing]
        }:
            yield f"code signing of the {part} is not an option"
        logs = template["Resources"][f"{part}Logs"]
        if {logs.get("DeletionPolicy"), logs.get("UpdateReplacePolicy")} != {"Retain"}:
            yield f"the logs of the {part} are deleted with the stack"
        if logs["Properties"].get("KmsKeyId") != {"Fn::If": ["HasLogKey", {"Ref": "LogKmsKeyArn"}, nothing]}:
            yield f"the logs of the {part} cannot use a customer key"
    own = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "TableKmsKeyArn"}}
    for name in of_type(template, "AWS::DynamoDB::Table"):
        if properties(template, name).get("SSESpecification") != {"Fn::If": ["HasTableKey", own, nothing]}:
            yield f"{name} cannot use a customer key"


@rule(
    sets("NamesFirewallInForce"),
    sets("NamesFirewall/Properties/FirewallRules/1"),
    sets("NamesFirewall/Properties/FirewallRules/1/Priority", 5),
    sets("NamesFirewall/Properties/FirewallRules/1/Action", "ALERT"),
    sets("EndpointNames/Properties/Domains/4", "*"),
    sets("EndpointNames/Properties/Domains/0"),
    sets("AllNames/Properties/Domains/0", "*.example"),
    sets("FlowLogs/Properties/TrafficType", "REJECT"),
    sets("Key/Properties/KeyPolicy/Statement/3"),
)
def signer_network_resolves_only_its_endpoints(template: Json) -> Iterator[str]:
    here = "${AWS::Region}.${AWS::URLSuffix}"
    wanted = {f"{service}.{here}" for service in ("kms", "sqs", "sns", "secretsmanager")} | {
        "*.dynamodb.${AWS::Region}.vpce.${AWS::URLSuffix}"
    }
    allowed = {
        str(name.get("Fn::Sub")) if isinstance(name, dict) else name
        for name in properties(template, "EndpointNames")["Domains"]
    }
    if allowed != wanted:
        yield f"allowed names: {sorted(allowed)}"
    rules = sorted(properties(template, "NamesFirewall")["FirewallRules"], key=lambda one: int(one["Priority"]))
    if [(one["Action"], ref(one["FirewallDomainListId"])) for one in rules] != [
        ("ALLOW", "EndpointNames"),
        ("BLOCK", "AllNames"),
    ]:
        yield f"the firewall rules are {rules}"
    if properties(template, "AllNames")["Domains"] != ["*"]:
        yield "it does not block all other names"
    force = template["Resources"].get("NamesFirewallInForce", {"Properties": {}})["Properties"]
    if (ref(force.get("VpcId")), ref(force.get("FirewallRuleGroupId"))) != ("Vpc", "NamesFirewall"):
        yield "the firewall is not associated with the VPC"
    logs = properties(template, "FlowLogs")
    if (ref(logs["ResourceId"]), logs["TrafficType"], ref(logs["LogDestination"])) != (
        "Vpc",
        "ALL",
        "FlowLogsBucketArn",
    ):
        yield "flow logs are incomplete"
    # Signing is denied outside of this network, also if aws:SourceVpc is missing.
    denied = [
        s
        for s in statements(properties(template, "Key")["KeyPolicy"])
        if s["Effect"] == "Deny" and "kms:Sign" in s["Action"]
    ]
    if not any(s["Condition"] == {"StringNotEquals": {"aws:SourceVpc": {"Ref": "Vpc"}}} for s in denied):
        yield "stolen credentials can sign outside of the network"
