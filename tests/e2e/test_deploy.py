"""The shipped template, deployed to a local AWS: it creates its resources as declared, retains keys and tables when the
stack is deleted, and with the real functions every message ends in one correct outcome.

Limits of the emulator: from a template it applies neither TTL nor point-in-time recovery nor a topic's encryption. It
has no policies of secrets and functions, no DNS names of VPC endpoints, no DNS firewall, no flow logs and no alarms on
metric math. These are left out here; tests/infra checks them in the template.
"""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit import ON_CHAIN, Audit, Subscriber, deploy, settle
from conftest import FAILED, show_logs_if_failed
from scenario import DENIED, Backend, mixed, send
from stack import READY_WITHIN_S, ROOT, Program, Stack, environment, free_port, external_anvil, run, wait_for

TEMPLATE = ROOT / "infra/template.yaml"
BUCKET = "releases"
ZIPS = ("signer", "broadcaster", "sign-direct")
REGION = "us-east-1"
AWS_ACCOUNT = "000000000000"
CREATED_WITHIN_S = 60.0
# The emulator's functions process one batch of a queue at a time, even for different groups.
SETTLED_WITHIN_S = 300.0
MESSAGES = 200
PURSE_WEI = hex(10**21)

# ministack's entry point, with a KMS log line for each signature.
MINISTACK = "import logging; logging.getLogger('kms').setLevel(logging.DEBUG); from ministack.app import main; main()"
POLICY = "".join(
    f'[account.{name}]\nmax_gas_price_wei = "3000000000"\ngas_price_wei = "100000000"\nallow_creation = true\n'
    f'deny_to = ["{DENIED}"]\n'
    for name in ("hot", "cold")
)


class Aws(Program):
    """A separate ministack for this test. Its functions get its endpoint, so that they call it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.name = "ministack"
        self.out = self.err = directory / "ministack.log"
        self.endpoint = f"http://127.0.0.1:{port}"
        settings = {"BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "GATEWAY_PORT": str(port)}
        # Functions are unpacked into this directory, not into the machine's temporary directory.
        settings |= {"AWS_ENDPOINT_URL": self.endpoint, "TMPDIR": str(directory)}
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MINISTACK],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(**settings),
                cwd=directory,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        assert self.ended is None, f"ministack ended with {self.ended}"
        if f"Running on {self.endpoint}" not in self.log():
            return False
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def separate_aws(directory: Path) -> Iterator[Aws]:
    aws = Aws(directory, free_port())
    try:
        wait_for("the separate ministack answers", aws.is_ready, READY_WITHIN_S)
        yield aws
    finally:
        aws.stop()


def stack_of(aws: Aws, rpc_url: str = "http://127.0.0.1:1") -> Stack:
    """Clients for a local AWS. `ready` gets the names of the template's resources later."""
    ready = {"awsEndpoint": aws.endpoint, "region": REGION, "rpcUrl": rpc_url, "signingQueueUrl": "", "accounts": []}
    return Stack(aws, {**ready, "configFile": str(aws.out.with_name("signpost.toml"))})


def upload(stack: Stack, zips: dict[str, bytes]) -> None:
    s3 = stack.aws("s3")
    s3.create_bucket(Bucket=BUCKET)
    for name, content in zips.items():
        s3.put_object(Bucket=BUCKET, Key=f"one/{name}.zip", Body=content)


def parameters(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]


def without_unsupported(template: str) -> str:
    """The template without the resources that the emulator lacks (see the top of this file)."""
    parts = re.split(r"^(?=  \w+:$)", template, flags=re.M)
    unsupported = [
        part
        for part in parts
        if re.search(
            r"^    Type: AWS::(Route53Resolver::\w+|EC2::FlowLog|\w+::ResourcePolicy)$|^      Metrics: \[$", part, re.M
        )
    ]
    return "".join(part for part in parts if part not in unsupported)


def deploy_template(
    stack: Stack, name: str, update: bool = False, template: str | None = None, **values: str
) -> dict[str, str]:
    """Deploys the shipped or the given template as a stack of this name. Returns its outputs."""
    cloudformation = stack.aws("cloudformation")
    given = {
        "NamePrefix": name,
        "Network": "bsc-testnet",
        "CodeBucket": BUCKET,
        "CodePrefix": "one",
        "AlarmEmail": "a@example.com",
    }
    values = {**given, **values}
    ask = cloudformation.update_stack if update else cloudformation.create_stack
    # As `aws cloudformation deploy --s3-bucket` does: the template is too large for a request.
    key = f"{name}.yaml"
    s3 = stack.aws("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=key, Body=without_unsupported(template or TEMPLATE.read_text()).encode())
    ask(
        StackName=name,
        TemplateURL=f"https://s3.amazonaws.com/{BUCKET}/{key}",
        Parameters=parameters(values),
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )

    def done() -> Any:
        [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return None if found["StackStatus"].endswith("IN_PROGRESS") else found

    found = wait_for(f"the stack {name} is deployed", done, CREATED_WITHIN_S)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"].endswith("FAILED")]
    wanted = "UPDATE_COMPLETE" if update else "CREATE_COMPLETE"
    assert found["StackStatus"] == wanted, [found.get("StackStatusReason"), *failed]
    return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def alarms_of(stack: Stack, name: str) -> list[Any]:
    pages = stack.aws("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{name}-")
    return [alarm for page in pages for alarm in page["MetricAlarms"]]


def resources_of(stack: Stack, name: str) -> Any:
    """The resources of a stack."""
    return stack.aws("cloudformation").describe_stack_resources(StackName=name)["StackResources"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A local AWS with zips without a working function."""
    nothing = io.BytesIO()
    with zipfile.ZipFile(nothing, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\nexit 1\n")
    with separate_aws(tmp_path_factory.mktemp("aws")) as aws:
        stack = stack_of(aws)
        upload(stack, dict.fromkeys(ZIPS, nothing.getvalue()))
        yield stack


def test_template_creates_its_resources_as_declared(empty: Stack) -> None:
    outputs = deploy_template(empty, "made", RpcUrls="http://127.0.0.1:1")
    sqs, dynamodb = empty.aws("sqs"), empty.aws("dynamodb")
    held = {"signing": ("180", "10", "1209600"), "resign": ("30", "40", "900"), "broadcast": ("60", "20", "900")}
    for queue, (visibility, deliveries, kept) in held.items():
        url = sqs.get_queue_url(QueueName=f"made-{queue}.fifo")["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        redrive = json.loads(found["RedrivePolicy"])
        assert (found["VisibilityTimeout"], str(redrive["maxReceiveCount"]), found["MessageRetentionPeriod"]) == (
            visibility,
            deliveries,
            kept,
        )
        assert redrive["deadLetterTargetArn"].endswith(f":made-{queue}-dlq.fifo")
        names = ("FifoQueue", "ContentBasedDeduplication", "SqsManagedSseEnabled")
        assert [found[name] for name in names] == ["true"] * 3
        assert (found["DeduplicationScope"], found["FifoThroughputLimit"]) == ("messageGroup", "perMessageGroupId")
        assert json.loads(found["Policy"])["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert outputs["SigningQueueUrl"].endswith("/made-signing.fifo")

    requests = dynamodb.describe_table(TableName="made-requests")["Table"]
    assert [part["AttributeName"] for part in requests["KeySchema"]] == ["requestId"]
    [index] = requests["GlobalSecondaryIndexes"]
    assert (index["IndexName"], index["Projection"]) == ("byAccount", {"ProjectionType": "KEYS_ONLY"})
    accounts = dynamodb.describe_table(TableName="made-accounts")["Table"]
    assert [part["AttributeName"] for part in accounts["KeySchema"]] == ["account", "item"]
    for table in (requests, accounts):
        assert table["DeletionProtectionEnabled"]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"

    assert outputs["OutcomeTopicArn"] == f"arn:aws:sns:{REGION}:{AWS_ACCOUNT}:made-outcomes"
    assert len(alarms_of(empty, "made")) == 32
    [rule] = empty.aws("events").list_rules(NamePrefix="made-sweep")["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")


def test_only_the_signer_may_use_the_key(empty: Stack) -> None:
    deploy_template(empty, "keyed", RpcUrls="http://127.0.0.1:1")
    kms = empty.aws("kms")
    key = kms.describe_key(KeyId="alias/keyed")["KeyMetadata"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_SECG_P256K1", "SIGN_VERIFY")
    policy = json.loads(kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"])
    signer = f"arn:aws:iam::{AWS_ACCOUNT}:role/keyed-signer-{REGION}"
    signing = [statement for statement in policy["Statement"] if "kms:Sign" in statement["Action"]]
    assert [(statement["Effect"], statement["Principal"]["AWS"]) for statement in signing] == [
        ("Allow", signer),
        ("Deny", "*"),
    ]
    assert empty.aws("iam").get_role(RoleName=f"keyed-signer-{REGION}")["Role"]["Arn"] == signer
    functions = empty.aws("lambda")
    assert functions.get_function_configuration(FunctionName="keyed-signer")["Role"] == signer
    sources = functions.list_event_source_mappings(FunctionName="keyed-signer")["EventSourceMappings"]
    sources += functions.list_event_source_mappings(FunctionName="keyed-broadcaster")["EventSourceMappings"]
    assert len(sources) == 3
    for source in sources:
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        size = 1 if "-broadcast" in source["EventSourceArn"] else 10
        assert (source["BatchSize"], source.get("MaximumBatchingWindowInSeconds", 0)) == (size, 0)


# Two deployments that together use every option, with every allowed value of a parameter.
FULL = {
    "Accounts": "",
    "CreateKey": "false",
    "KmsKeyArns": "",
    "RpcSecretArn": "",
    "OperatorArn": f"arn:aws:iam::{AWS_ACCOUNT}:role/Operator",
    "FifoTopic": "true",
    "SignDirect": "true",
    "AlarmEmail": "somebody@example.com",
    "AlarmTopicArn": f"arn:aws:sns:{REGION}:{AWS_ACCOUNT}:on-call",
    "TrailRetentionDays": "400",
    "UnstoredSignaturesMax": "5",
    "FipsEndpoints": "true",
    "Subscribers": f"arn:aws:sqs:{REGION}:444455556666:elsewhere",
    "SignDirectCallerArns": f"arn:aws:iam::{AWS_ACCOUNT}:role/Caller",
    "TableKmsKeyArn": f"arn:aws:kms:{REGION}:{AWS_ACCOUNT}:key/00000000-0000-0000-0000-000000000001",
    "LogKmsKeyArn": f"arn:aws:kms:{REGION}:{AWS_ACCOUNT}:key/00000000-0000-0000-0000-000000000002",
    "CodeSigningConfigArn": f"arn:aws:lambda:{REGION}:{AWS_ACCOUNT}:code-signing-config:csc-0123456789abcdef0",
    "SignerObjectVersion": "",
    "BroadcasterObjectVersion": "",
    "SignDirectObjectVersion": "",
    "Policy": POLICY,
    "Finality": "15",
    "Verdicts": "two",
    "FeeFloorWei": "1",
    "FeeCeilingWei": "5",
    "SignerConcurrency": "2",
    "BroadcasterConcurrency": "3",
    "LogLevel": "debug",
    "LogRetentionDays": "30",
}
IN_VPC = {
    "Network": "bsc",
    "KmsKeyArns": "",
    "RpcUrls": "http://127.0.0.1:1,http://127.0.0.1:2",
    "SendTo": "first",
    "SignerInVpc": "true",
    "FlowLogsBucketArn": "arn:aws:s3:::flows",
    "SignDirect": "true",
    "SignDirectKeyArn": "",
    "Architecture": "arm64",
}
# `deploy_template` sets these for every stack.
COMMON = {"NamePrefix": "full", "CodeBucket": BUCKET, "CodePrefix": "one", "Network": "bsc-testnet"}


class PlainLoader(yaml.SafeLoader):
    """Reads a template and ignores CloudFormation's functions."""


PlainLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


def unused_options(template: str) -> list[str]:
    """Options that no deployment uses, and allowed values that no deployment uses."""
    found = []
    for name, parameter in yaml.load(template, PlainLoader)["Parameters"].items():
        given = [values[name] for values in (FULL, IN_VPC, COMMON) if name in values]
        if not given:
            found.append(name)
        if parameter["Type"] == "String":
            used = {*given, parameter.get("Default", "")}
            found += [f"{name}={value}" for value in parameter.get("AllowedValues", []) if value not in used]
    return found


def test_every_template_option_is_deployed_by_a_test() -> None:
    shipped = TEMPLATE.read_text()
    assert unused_options(shipped) == []
    more = shipped.replace(
        "Parameters:\n", "Parameters:\n  Newer: {Type: String, Default: a, AllowedValues: [a, b]}\n", 1
    )
    assert unused_options(more) == ["Newer", "Newer=b"]


def test_every_template_option_can_be_deployed(empty: Stack) -> None:
    own = empty.aws("kms").create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    secret = empty.aws("secretsmanager").create_secret(Name="nodes", SecretString='{"rpc_urls":["http://127.0.0.1:1"]}')
    accounts = f"hot=0x{'11' * 20}={own}"
    here = {"Accounts": accounts, "KmsKeyArns": f"{own},{own}", "RpcSecretArn": secret["ARN"]}
    outputs = deploy_template(empty, "full", **{**FULL, **here})
    assert outputs["OutcomeTopicArn"].endswith(":full-outcomes.fifo")
    assert "KeyArn" not in outputs
    config = empty.aws("lambda").get_function_configuration
    broadcaster = config(FunctionName="full-broadcaster")["Environment"]["Variables"]
    assert broadcaster["SIGNPOST_RPC_SECRET_ARN"] == secret["ARN"]
    assert "SIGNPOST_RPC_URLS" not in broadcaster
    assert (broadcaster["SIGNPOST_VERDICTS"], broadcaster["RUST_LOG"]) == ("two", "debug")
    groups = empty.aws("logs").describe_log_groups()["logGroups"]
    kept = [group["retentionInDays"] for group in groups if "full-" in group["logGroupName"]]
    assert kept and set(kept) == {30}
    assert config(FunctionName="full-signer")["Environment"]["Variables"]["SIGNPOST_POLICY"] == POLICY
    direct = config(FunctionName=outputs["SignDirectFunctionName"])["Environment"]["Variables"]
    assert direct["KMS_KEY_ID"] != own
    topics = [f"arn:aws:sns:{REGION}:{AWS_ACCOUNT}:full-alarms"]
    subscriptions = [empty.aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] for topic in topics]
    assert [sub["Endpoint"] for sub in subscriptions[0]] == ["somebody@example.com"]
    alarm_actions = {alarm["AlarmName"]: alarm["AlarmActions"] for alarm in alarms_of(empty, "full")}
    assert alarm_actions["full-broadcaster-silent"] == [*topics, f"arn:aws:sns:{REGION}:{AWS_ACCOUNT}:on-call"]
    assert len(alarm_actions) == 34, sorted(alarm_actions)


def test_arm64_signer_deploys_into_its_own_vpc(empty: Stack) -> None:
    # The emulator has no DNS names of endpoints.
    shipped, named = TEMPLATE.read_text(), "!Select [1, !Split [':', !Select [0, !GetAtt DynamoDbEndpoint.DnsEntries]]]"
    assert shipped.count(named) == 1
    new_key = empty.aws("kms").create_key
    own, direct = (new_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"] for _ in range(2))
    outputs = deploy_template(
        empty,
        "inside",
        template=shipped.replace(named, "vpce-1.example"),
        **{**IN_VPC, "KmsKeyArns": own, "SignDirectKeyArn": direct},
    )
    config = empty.aws("lambda").get_function_configuration
    signer, broadcaster = (config(FunctionName=f"inside-{name}") for name in ("signer", "broadcaster"))
    signs_direct = config(FunctionName=outputs["SignDirectFunctionName"])
    assert [one["Architectures"] for one in (signer, broadcaster, signs_direct)] == [["arm64"]] * 3
    assert signs_direct["Environment"]["Variables"]["KMS_KEY_ID"] == direct
    assert broadcaster["Environment"]["Variables"]["SIGNPOST_SEND_TO"] == "first"
    assert 'send_to = "first"' in outputs["SignpostToml"]

    assert signer["Environment"]["Variables"]["AWS_ENDPOINT_URL_DYNAMODB"] == "https://vpce-1.example"
    # tests/infra checks which function is in the VPC: the emulator's functions have no network.
    made = {found["LogicalResourceId"]: found["PhysicalResourceId"] for found in resources_of(empty, "inside")}
    ec2, vpc = empty.aws("ec2"), made["Vpc"]
    here = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = ec2.describe_subnets(Filters=here)["Subnets"]
    assert {subnet["SubnetId"] for subnet in subnets} == {made["SubnetA"], made["SubnetB"]}
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2, "the subnets must be in two zones"
    endpoints = ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
    assert {endpoint["ServiceName"].rsplit(".", 1)[-1] for endpoint in endpoints} == {
        "dynamodb",
        "kms",
        "secretsmanager",
        "sns",
        "sqs",
    }
    gateways = ec2.describe_internet_gateways()["InternetGateways"]
    assert not [gateway for gateway in gateways for at in gateway["Attachments"] if at["VpcId"] == vpc]


CALLER, USER = f"arn:aws:iam::{AWS_ACCOUNT}:role/app/Payer", f"arn:aws:iam::{AWS_ACCOUNT}:user/treasury"


def without_resources(template: str, *names: str) -> str:
    """The template without these resources, which the emulator lacks."""
    for name in names:
        template, removed = re.subn(rf"^  {name}:\n(?:    .*\n|\n)*", "", template, flags=re.M)
        assert removed == 1, name
    return template


def test_direct_signer_call_by_an_unlisted_caller_is_reported(empty: Stack) -> None:
    outputs = deploy_template(
        empty,
        "callers",
        template=without_resources(TEMPLATE.read_text(), "SignDirectAccess"),
        RpcUrls="http://127.0.0.1:1",
        Policy=POLICY,
        SignDirect="true",
        SignDirectCallerArns=f"{CALLER},{USER}",
    )
    assert outputs["SignDirectCallerPolicyArn"].endswith(f":policy/callers-SignDirectCaller-{REGION}")
    alarms = empty.aws("cloudwatch").describe_alarms(AlarmNamePrefix="callers-sign-direct")["MetricAlarms"]
    assert [alarm["AlarmName"] for alarm in alarms] == ["callers-sign-direct-errors"]
    events = empty.aws("events")
    pattern = events.describe_rule(Name="callers-sign-direct-stranger")["EventPattern"]
    [target] = events.list_targets_by_rule(Rule="callers-sign-direct-stranger")["Targets"]
    assert target["Arn"].endswith(":callers-alarms")

    def is_reported(identity: dict[str, Any], function: str = "callers-sign-direct", name: str = "Invoke") -> bool:
        arn = f"arn:aws:lambda:{REGION}:{AWS_ACCOUNT}:function:{function}"
        detail = {
            "eventSource": "lambda.amazonaws.com",
            "eventName": name,
            "userIdentity": identity,
            "requestParameters": {"functionName": arn},
            "resources": [{"accountId": AWS_ACCOUNT, "type": "AWS::Lambda::Function", "ARN": arn}],
        }
        event = {
            "id": "1",
            "source": "aws.lambda",
            "detail-type": "AWS API Call via CloudTrail",
            "account": AWS_ACCOUNT,
            "time": "2026-01-01T00:00:00Z",
            "region": REGION,
            "resources": [],
            "detail": detail,
        }
        matched: bool = events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]
        return matched

    def session(role: str) -> dict[str, Any]:
        session_arn = role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/job"
        return {
            "type": "AssumedRole",
            "arn": session_arn,
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": role}},
        }

    admin = f"arn:aws:iam::{AWS_ACCOUNT}:role/Admin"
    assert not is_reported(session(CALLER))
    assert not is_reported({"type": "IAMUser", "arn": USER})
    assert not is_reported(
        {"type": "IAMUser", "arn": USER, "sessionContext": {"attributes": {"mfaAuthenticated": "true"}}}
    )
    assert is_reported(session(admin))
    assert is_reported(session(admin), "callers-sign-direct:$LATEST")
    assert is_reported({"type": "IAMUser", "arn": f"arn:aws:iam::{AWS_ACCOUNT}:user/intern"})
    assert is_reported({"type": "Root", "arn": f"arn:aws:iam::{AWS_ACCOUNT}:root"})
    assert is_reported({"type": "AWSService", "invokedBy": "events.amazonaws.com"})
    assert is_reported({"type": "AWSAccount", "accountId": "999999999999", "principalId": "AROAX:job"})
    assert not is_reported(session(admin), "callers-signer"), "calls of other functions are not reported"
    assert not is_reported(session(admin), name="GetFunction20150331v2")


def test_direct_signer_without_named_callers_alarms_on_every_use(empty: Stack) -> None:
    deploy_template(empty, "anybody", RpcUrls="http://127.0.0.1:1", Policy=POLICY, SignDirect="true")
    found = empty.aws("cloudwatch").describe_alarms(AlarmNames=["anybody-sign-direct-used"])["MetricAlarms"]
    [alarm] = found
    assert (alarm["MetricName"], alarm["Dimensions"]) == (
        "Invocations",
        [{"Name": "FunctionName", "Value": "anybody-sign-direct"}],
    )
    variables = empty.aws("lambda").get_function_configuration(FunctionName="anybody-sign-direct")["Environment"][
        "Variables"
    ]
    assert (variables["LOG_LEVEL"], variables["SIGNPOST_POLICY"]) == ("INFO", POLICY)
    assert empty.aws("events").list_rules(NamePrefix="anybody-sign-direct")["Rules"] == []


def test_keys_and_tables_outlive_the_stack(empty: Stack) -> None:
    outputs = deploy_template(empty, "gone", RpcUrls="http://127.0.0.1:1")
    cloudformation = empty.aws("cloudformation")
    cloudformation.delete_stack(StackName="gone")

    def is_gone() -> bool:
        summaries = cloudformation.list_stacks()["StackSummaries"]
        return any(s["StackName"] == "gone" and s["StackStatus"] == "DELETE_COMPLETE" for s in summaries)

    wait_for("the stack is gone", is_gone, CREATED_WITHIN_S)
    assert not empty.aws("sqs").list_queues(QueueNamePrefix="gone-").get("QueueUrls")
    assert empty.aws("kms").describe_key(KeyId=outputs["KeyArn"])["KeyMetadata"]["KeyState"] == "Enabled"
    tables = empty.aws("dynamodb").list_tables()["TableNames"]
    assert {"gone-requests", "gone-accounts"} <= set(tables)


def register(stack: Stack, name: str, key: str) -> str:
    """Registers an account as an operator does and funds it. Returns its address."""
    options = ("--kms-key", key, "--config", str(stack.config_file), "--json")
    registered = run("account", "register", name, *options)
    assert registered.code == 0, registered.err
    address: str = registered.line()["address"]
    stack.rpc.call("anvil_setBalance", address, PURSE_WEI)
    return address


def test_functions_end_every_message_in_one_correct_outcome(
    packages: Path, rng: random.Random, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    zips = {path.stem: path.read_bytes() for path in packages.glob("*.zip")}
    with external_anvil(tmp_path, free_port()) as rpc_url, separate_aws(tmp_path) as aws:
        stack = stack_of(aws, rpc_url)
        try:
            run_through_the_functions(stack, zips, rng)
        except BaseException:
            request.node.stash[FAILED] = True
            raise
        finally:
            show_logs_if_failed(stack, request.node)


def run_through_the_functions(stack: Stack, zips: dict[str, bytes], rng: random.Random) -> None:
    upload(stack, zips)
    own = stack.aws("kms").create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    nodes = json.dumps({"rpc_urls": [stack.rpc.url]})
    secret = stack.aws("secretsmanager").create_secret(Name="nodes", SecretString=nodes)["ARN"]
    # The zips have no policy: it is a parameter of the stack.
    values = {"RpcSecretArn": secret, "KmsKeyArns": own, "Policy": POLICY}
    outputs = deploy_template(stack, "real", **values)

    toml = outputs["SignpostToml"]
    public = next(line for line in toml.splitlines() if line.startswith("rpc_urls"))
    toml = f'endpoint = "{stack.ready["awsEndpoint"]}"\n' + toml.replace(public, f'rpc_urls = ["{stack.rpc.url}"]')
    stack.config_file.write_text(toml)
    keys = {"hot": outputs["KeyArn"], "cold": own}
    stack.addresses = {name: register(stack, name, key) for name, key in keys.items()}
    accounts = ",".join(f"{name}={stack.addresses[name]}={key}" for name, key in keys.items())
    again = deploy_template(stack, "real", update=True, Accounts=accounts, **values)
    assert again == outputs, "an update replaces nothing"

    stack.signing_queue = outputs["SigningQueueUrl"]
    stack.ready |= {
        "requestsTable": outputs["RequestsTable"],
        "accountsTable": outputs["RequestsTable"].replace("requests", "accounts"),
        "outcomeTopicArn": outputs["OutcomeTopicArn"],
    }
    subscribers = [Subscriber(stack, "executed", ON_CHAIN), Subscriber(stack, "refused", ["rejected"])]
    backend = Backend(rng, stack.addresses, "pay")
    sent, contract = deploy(stack, backend)
    sent += send(stack.aws("sqs"), stack.signing_queue, mixed(backend, MESSAGES - len(sent), contract))
    took = settle(stack, sent, subscribers, within_s=SETTLED_WITHIN_S)
    print(f"{len(sent)} messages settled through the functions in {took:.1f} s")
    audit = Audit(stack, sent, subscribers, in_order=True)
    audit.run()
    assert stack.kms_signatures() == len(audit.transactions), "KMS signed more often than there are transactions"
