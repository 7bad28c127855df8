"""The AWS calls of each component, and the questions to an evaluator of IAM policies.

The calls are those that the AWS gate saw in the end-to-end tests (calls.json, written by tests/e2e/test_calls.py), and
those that AWS itself makes with a role, which the gate does not see. denied.py has the calls that must be denied;
test_rights.py has the tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deployed import ACCOUNT, KEYS_ACCOUNT, REGION, FOREIGN_ACCOUNT, Deployed
from template import ROOT, Json

CALLS_FILE = ROOT / "tests/infra/calls.json"
# Components that are a function, with the prefix of their resources. Their credentials work only in the function.
STAGES = {"signer": "Signer", "broadcaster": "Broadcaster", "sign-direct": "SignDirect"}
# The policies of all other components.
MANAGED = {
    "direct-caller": ["SignDirectCaller"],
    "backend": ["SignpostClient"],
    "viewer": ["SignpostViewer"],
    "operator": ["SignpostViewer", "SignpostOperator"],
}
# Other roles that AWS services assume: the role and its policy.
SERVICES = {"trail": ("TrailRole", "TrailRights")}
# AWS services that make calls as themselves.
OF_AWS = ("lambda", "cloudwatch", "events", "logs", "firehose")
# Administrators with every IAM permission: in our account and in another one.
ADMINISTRATORS = {"administrator": ACCOUNT, "foreign-account": FOREIGN_ACCOUNT}
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
OPERATOR = f"arn:aws:iam::{ACCOUNT}:role/operator"
RPC_SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:nodes-AbCdEf"
OWN_KEY = f"arn:aws:kms:{REGION}:{KEYS_ACCOUNT}:key/11111111-0000-0000-0000-000000000000"
OWN_DIRECT_KEY = f"arn:aws:kms:{REGION}:{KEYS_ACCOUNT}:key/22222222-0000-0000-0000-000000000000"

SUBSCRIBER = f"arn:aws:sqs:{REGION}:{FOREIGN_ACCOUNT}:elsewhere"

USUAL = {
    "Network": "bsc-testnet",
    "CodeBucket": "code",
    "RpcSecretArn": RPC_SECRET,
    "OperatorArn": OPERATOR,
    "SignDirect": "true",
    "SignDirectCallerArns": f"arn:aws:iam::{ACCOUNT}:role/direct-caller",
}
# Each permission is needed in one of these, and each denied call is denied in all of them.
DEPLOYMENTS = {
    "usual": USUAL,
    "keys of another account, in a network": USUAL
    | {
        "CreateKey": "false",
        "KmsKeyArns": OWN_KEY,
        "SignDirectKeyArn": OWN_DIRECT_KEY,
        "SignerInVpc": "true",
        "Subscribers": SUBSCRIBER,
        "TrailRetentionDays": "30",
    },
    "a key of the stack, in a network": USUAL | {"SignerInVpc": "true"},
}


@dataclass(frozen=True)
class Call:
    """A call. `on` is a resource of the template or a name that `Place.thing` knows. `where` is where a function's
    credentials are used: in the function, by Lambda itself, on a laptop or in another function. For other callers it is
    `network` if they are in the signer's network."""

    who: str
    action: str
    on: str
    conditions: tuple[tuple[str, Any], ...] = ()
    where: str = "function"
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        more = "".join(f", {name}={value}" for name, value in self.conditions)
        place = f" ({self.where})" if self.who in STAGES and self.where != "function" else ""
        return f"{self.who}{place}: {self.action} on {self.on}{more}"


def call(who: str, action: str, on: str, why: str = "", where: str = "function", **conditions: Any) -> Call:
    """Makes a call. Conditions are written as `kms__MessageType`."""
    named = {name.replace("__", ":"): tuple(v) if isinstance(v, list) else v for name, v in conditions.items()}
    return Call(who, action, on, tuple(sorted(named.items())), where, why)


def observed() -> list[Call]:
    """The calls that the gate saw."""
    rows: list[Json] = json.loads(CALLS_FILE.read_text())
    return [
        Call(
            row["who"],
            row["action"],
            row["on"],
            tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(row.get("conditions", {}).items())),
        )
        for row in rows
    ]


POLLED = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
LOGGED = ("logs:CreateLogStream", "logs:PutLogEvents")
NETWORK = {
    "ec2:AssignPrivateIpAddresses": "Interface",
    "ec2:CreateNetworkInterface": "Interface",
    "ec2:DeleteNetworkInterface": "Interface",
    "ec2:DescribeNetworkInterfaces": "*",
    "ec2:DescribeSubnets": "*",
    "ec2:UnassignPrivateIpAddresses": "Interface",
}
ADMINISTERED = (
    "CancelKeyDeletion",
    "CreateAlias",
    "DeleteAlias",
    "DescribeKey",
    "DisableKey",
    "EnableKey",
    "GetKeyPolicy",
    "ListGrants",
    "ListResourceTags",
    "PutKeyPolicy",
    "RevokeGrant",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
)


def made_by_aws() -> list[Call]:
    """The calls that the gate does not see, with their source in AWS's documentation."""
    queues = {"signer": ("SigningQueue", "ResignQueue"), "broadcaster": ("BroadcastQueue",)}
    polls = "Lambda developer guide, using Lambda with SQS: execution role permissions"
    logs = "Lambda developer guide, sending function logs to CloudWatch: the role creates streams and puts events"
    network = "Lambda developer guide, giving functions access to a VPC: required IAM permissions"
    keys = "CloudFormation and key administrators; KMS developer guide, key policies"
    made = [
        call(who, action, queue, polls, "lambda") for who, of in queues.items() for queue in of for action in POLLED
    ]
    made += [call(who, action, f"{part}Logs", logs) for who, part in STAGES.items() for action in LOGGED]
    made += [call("signer", action, on, network, "lambda") for action, on in NETWORK.items()]
    for key in ("Key", "SignDirectKey"):
        made += [call("administrator", f"kms:{action}", key, keys) for action in ADMINISTERED]
    trail = "CloudWatch Logs user guide, subscriptions with Firehose; Firehose developer guide, access to S3"
    made += [call("trail", f"firehose:{action}", "TrailStream", trail) for action in ("PutRecord", "PutRecordBatch")]
    made += [
        call("trail", f"s3:{action}", "TrailBucket", trail)
        for action in ("GetBucketLocation", "ListBucket", "ListBucketMultipartUploads")
    ]
    made += [
        call("trail", f"s3:{action}", "TrailBucket/object", trail) for action in ("AbortMultipartUpload", "PutObject")
    ]
    made += [
        call(who, "sts:AssumeRole", "TrailRole", trail, aws__SourceAccount=ACCOUNT) for who in ("logs", "firehose")
    ]
    made.append(
        call(
            "cloudwatch",
            "sns:Publish",
            "AlarmTopic",
            "CloudWatch user guide, alarms and SNS",
            aws__SourceAccount=ACCOUNT,
        )
    )
    made.append(call("events", "sns:Publish", "AlarmTopic", "EventBridge user guide, permissions for SNS topics"))
    made.append(
        call("direct-caller", "lambda:InvokeFunction", "SignDirectFunction", "the purpose of the direct signer")
    )
    made += [
        call("lambda", "sts:AssumeRole", f"{part}Role", "for the function of this account", aws__SourceAccount=ACCOUNT)
        for part in STAGES.values()
    ]
    return made


def allowed_by_parameter() -> list[Call]:
    """The calls that a deployment allows only with a parameter."""
    return [
        call(
            "backend",
            "sns:Subscribe",
            "OutcomeTopic",
            "Subscribers",
            "by parameter",
            sns__Protocol="sqs",
            sns__Endpoint=SUBSCRIBER,
        )
    ]


# The policy of each component, and how policies write resources.
POLICY_OF = (
    {who: f"{part}Rights" for who, part in STAGES.items()}
    | {who: attached[-1] for who, attached in MANAGED.items()}
    | {who: policy for who, (_, policy) in SERVICES.items()}
)
WRITTEN_AS = {
    "Key": ("Key", "KmsKeyArns"),
    "SignDirectKey": ("SignDirectKey", "SignDirectKeyArn"),
    "Interface": ("*",),
    "TrailBucket/object": ("TrailBucket/*",),
    "WatchQueue": (str({"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:signpost-watch-*"}),),
    "RequestsTable/index/byAccount": (str({"Fn::Sub": "${RequestsTable.Arn}/index/byAccount"}),),
}


def needed() -> dict[str, dict[str, set[str]]]:
    """The actions that each policy must allow by resource: exactly those that the calls need."""
    grants: dict[str, dict[str, set[str]]] = {}
    viewers = {(row.action, row.on) for row in observed() if row.who == "viewer"}
    for row in [*observed(), *made_by_aws()]:
        # An operator has the viewer's policy too.
        if row.who in POLICY_OF and not (row.who == "operator" and (row.action, row.on) in viewers):
            for resource in WRITTEN_AS.get(row.on, (row.on,)):
                grants.setdefault(POLICY_OF[row.who], {}).setdefault(resource, set()).add(row.action)
    return grants


class Place:
    """A deployment with the policies that apply to a call."""

    def __init__(self, template: Json, parameters: dict[str, str]) -> None:
        self.deployed = deployed = Deployed(template, parameters)
        self.identities = deployed.policies("AWS::IAM::Policy") | deployed.policies("AWS::IAM::ManagedPolicy")
        self.keys = deployed.policies("AWS::KMS::Key")
        self.trust = deployed.policies("AWS::IAM::Role")
        self.endpoints = {
            deployed.value(template["Resources"][name]["Properties"]["ServiceName"]).rpartition(".")[2]: policy
            for name, policy in deployed.policies("AWS::EC2::VPCEndpoint").items()
        }
        self.has_network = deployed.exists("Vpc")

    def has(self, asked: Call) -> bool:
        """Whether this deployment has the caller and the resource of a call."""
        if asked.on.startswith("Trail") and not self.deployed.exists("TrailBucket"):
            return False
        if asked.who in SERVICES:
            return self.deployed.exists(SERVICES[asked.who][0])
        if asked.where == "by parameter":
            return bool(self.deployed.given.get("Subscribers"))
        if asked.where == "network" or asked.action.startswith("ec2:"):
            return self.has_network
        if asked.who == "administrator" and asked.on in ("Key", "SignDirectKey"):
            return self.deployed.exists(asked.on)
        return True

    def thing(self, name: str) -> tuple[str, str]:
        """The ARN and the account of a resource."""
        name, _, below = name.partition("/")
        own = {"Key": ("KmsKeyArns", OWN_KEY), "SignDirectKey": ("SignDirectKeyArn", OWN_DIRECT_KEY)}
        elsewhere = {
            "*": "*",
            "RpcSecretArn": RPC_SECRET,
            "TrailBucket": "arn:aws:s3:::trail",
            "TrailRole": f"arn:aws:iam::{ACCOUNT}:role/trail",
            "SealSecret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:signpost-seal-AbCdEf",
            "OtherSecret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:other-AbCdEf",
            "WatchQueue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:signpost-watch-1-2",
            "BackendQueue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:outcomes",
            "ForeignQueue": f"arn:aws:sqs:{REGION}:{FOREIGN_ACCOUNT}:outcomes",
            "ForeignTable": f"arn:aws:dynamodb:{REGION}:{FOREIGN_ACCOUNT}:table/loot",
            "OtherTable": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/other",
            "OtherKey": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/33333333-0000-0000-0000-000000000000",
            "Interface": f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/eni-1",
            "Instance": f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-1",
        }
        if name in own and not self.deployed.exists(name):
            return own[name][1], KEYS_ACCOUNT
        if name in self.deployed.template["Resources"] and self.deployed.exists(name):
            arn = self.deployed.arn(name)
        else:
            arn = elsewhere[name]
        if name.endswith("Logs"):
            arn = arn.removesuffix("*") + "log-stream:2026/11/27/1"
        return (f"{arn}/{below}" if below else arn), FOREIGN_ACCOUNT if name.startswith("Foreign") else ACCOUNT

    def question(self, asked: Call) -> Json:
        """The question to the evaluator for a call, with all policies that apply."""
        action, who = asked.action, asked.who
        resource, account = self.thing(asked.on)
        context: Json = {"aws:SecureTransport": "true"}
        if who in OF_AWS:
            principal, identity = f"{who}.amazonaws.com", []
        else:
            role, identity = self.identity(who)
            principal = re.sub(r":iam:(.*):role/(.*)", r":sts:\1:assumed-role/\2/session", role)
            context["aws:PrincipalArn"] = role
        if who in STAGES and asked.where in ("function", "other function"):
            part = STAGES[who] if asked.where == "function" else next(p for w, p in STAGES.items() if w != who)
            context["lambda:SourceFunctionArn"] = self.deployed.arn(f"{part}Function")
        for name, value in asked.conditions:
            value = self.thing(value)[0] if name == "sns:Endpoint" and value.endswith("Queue") else value
            context[name] = list(value) if isinstance(value, tuple) else value
        context = {name: value for name, value in context.items() if value != ""}
        service = action.partition(":")[0]
        is_signers = who == "signer" and asked.where == "function" and service not in ("logs", "ec2", "sts")
        inside = self.has_network and (is_signers or asked.where == "network")
        if inside:
            context["aws:SourceVpc"] = self.deployed.named("Vpc")
            # A service without an endpoint cannot be reached. For the evaluator, that is a policy that denies
            # everything.
            endpoint = self.endpoints.get(
                service,
                {**EVERYTHING, "Statement": [{**EVERYTHING["Statement"][0], "Effect": "Deny", "Principal": "*"}]},
            )
        return {
            "principal": principal,
            "action": action,
            "resource": resource,
            "account": account,
            "context": context,
            "identity": identity,
            "of_resource": self.of_resource(asked.on.partition("/")[0]),
            "endpoint": endpoint if inside else None,
        }

    def identity(self, who: str) -> tuple[str, list[Json]]:
        """A role and its attached policies."""
        if who in STAGES or who in SERVICES:
            role = f"{STAGES[who]}Role" if who in STAGES else SERVICES[who][0]
            of_role = [
                policy
                for name, policy in self.identities.items()
                if {"Ref": role} in self.deployed.template["Resources"][name]["Properties"].get("Roles", [])
            ]
            return self.deployed.arn(role), of_role
        if who in ADMINISTRATORS:
            return f"arn:aws:iam::{ADMINISTRATORS[who]}:role/{who}", [EVERYTHING]
        role = OPERATOR if who == "operator" else f"arn:aws:iam::{ACCOUNT}:role/{who}"
        return role, [self.identities[name] for name in MANAGED.get(who, [])]

    def of_resource(self, on: str) -> Json | None:
        """The resource's own policy, if it has one."""
        if on in ("Key", "SignDirectKey"):
            part = "Signer" if on == "Key" else "SignDirect"
            return self.keys[on] if self.deployed.exists(on) else own_key_policy(self.deployed.arn(f"{part}Role"))
        if on.endswith("Role"):
            return self.trust.get(on)
        kinds = {
            "AWS::SQS::QueuePolicy": "Queues",
            "AWS::SNS::TopicPolicy": "Topics",
            "AWS::S3::BucketPolicy": "Bucket",
            "AWS::SecretsManager::ResourcePolicy": "SecretId",
            "AWS::Lambda::ResourcePolicy": "ResourceArn",
        }
        for kind, members in kinds.items():
            for name, policy in self.deployed.policies(kind).items():
                about = self.deployed.template["Resources"][name]["Properties"][members]
                listed = about if isinstance(about, list) else [about]
                if {"Ref": on} in listed or {"Fn::GetAtt": [on, "Arn"]} in listed:
                    return policy
        return None


@cache
def readme_key_policy() -> str:
    """The key policy in infra/README.md for keys that the stack does not create."""
    page = (ROOT / "infra/README.md").read_text()
    [found] = re.findall(r"## Keys of your own.*?```json\n(.*?)```", page, re.S)
    return str(found)


def own_key_policy(role: str) -> Json:
    written = readme_key_policy().replace('"ROLE"', f'"{role}"').replace('"OPERATOR"', f'"{OPERATOR}"')
    return {"Version": "2012-10-17", "Statement": json.loads(written)}


def node_tools() -> Path:
    """The directory where `cargo verify` installed the evaluator."""
    named = os.environ.get("SIGNPOST_NODE_TOOLS")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = Path(named) if named else target / "local-stack/node-tests"
    assert (
        found / "node_modules/@cloud-copilot/iam-simulate"
    ).is_dir(), f"no evaluator in {found}; run `cargo verify --e2e-only`"
    return found


def evaluate(asked: list[tuple[Place, Call]]) -> list[str]:
    """The evaluator's verdict for each call."""
    policies: dict[str, int] = {}

    def place(policy: Json | None) -> int | None:
        return None if policy is None else policies.setdefault(json.dumps(policy, sort_keys=True), len(policies))

    questions = []
    for where, one in asked:
        question = where.question(one)
        identity = [place(policy) for policy in question["identity"]]
        questions.append(
            {
                **question,
                "identity": identity,
                "of_resource": place(question["of_resource"]),
                "endpoint": place(question["endpoint"]),
            }
        )
    sent = json.dumps({"policies": [json.loads(policy) for policy in policies], "questions": questions})
    program = ["node", str(Path(__file__).with_name("evaluate.mjs")), str(node_tools())]
    ran = subprocess.run(program, input=sent, capture_output=True, text=True, timeout=570, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    verdicts: list[str] = json.loads(ran.stdout)
    assert len(verdicts) == len(asked)
    return verdicts
