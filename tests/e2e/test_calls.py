"""The AWS calls of each component, as the gate sees them. They must equal tests/infra/calls.json, against which
tests/infra checks the template's permissions.

Every component has its own access key here, and the key id names the component. SIGNPOST_NEW_CALLS=1 rewrites the file.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from audit import get
from conftest import StartStack
from functions import Deployment, arn
from gates import Gates, ask, without_gates
from runtime_api import batch, failures, record
from stack import READY_WITHIN_S, ROOT, Program, CommandResult, Stack, run, wait_for
from test_accounts import TRANSFER_GAS, set_retired_days_ago

sys.path.append(str(ROOT / "tests/infra"))
from rights import CALLS_FILE  # noqa: E402
from rules_access import written  # noqa: E402

COMPONENTS = ("signer", "broadcaster", "sign-direct", "backend", "viewer", "operator")
POLICY_OF = {"signer": "SignerRights", "broadcaster": "BroadcasterRights", "operator": "SignpostOperator"}
WRITTEN_ATTRIBUTES = "dynamodb:Attributes"
# A validators' minimum price that keeps a request at the floor pending.
HIGH_WEI = 10**12
DIRECT_POLICY = '[account.sign-direct]\nmax_gas_price_wei = "10000000000"'


def test_observed_aws_calls_match_the_recorded_calls(dev: StartStack, tmp_path: Path) -> None:
    stack = dev("--gate", "--no-worker", "--account", "hot", "--account", "cold")
    deployment, gates = Deployment(stack, tmp_path), Gates(stack)
    nodes = json.dumps({"rpc_urls": [stack.ready["rpcUrl"]]})
    secret = stack.aws("secretsmanager").create_secret(Name="nodes", SecretString=nodes)["ARN"]
    with (
        deployment.signer(**access_key("signer")) as signer,
        deployment.broadcaster(SIGNPOST_RPC_SECRET_ARN=secret, **access_key("broadcaster")) as broadcaster,
    ):

        def look(account: str = "hot", timeout_s: float = 60.0) -> None:
            broadcaster.invoke(batch(deployment.poke(account, f"look-{broadcaster.count}")), timeout_s=timeout_s)

        def resign() -> None:
            for body in receive_all(stack, deployment.resign):
                signer.invoke(batch(record(body, arn(deployment.resign), f"resign-{signer.count}", body["account"])))

        run_backend_calls(stack, deployment)
        refused = record("not JSON", arn(deployment.signing), f"{deployment.name}-bad", "bad")
        assert signer.invoke(batch(deployment.ask("paid"), deployment.ask("other", "cold"), refused)) == failures()
        look()
        look("cold")
        assert deployment.item("paid")["status"] == "confirmed" and "publishedAt" in deployment.item("paid")
        broadcaster.invoke({"signpost": "sweep"})
        sign_directly(deployment)

        # An underpriced request is bumped and then cancelled by the operator. Both attempts are signed.
        gates.set_minimum_price(HIGH_WEI)
        assert signer.invoke(batch(deployment.ask("cheap"))) == failures()
        look(timeout_s=6)
        cheap = f"{deployment.name}-cheap"
        price = str(int(deployment.item("cheap")["gasPrice"]) * 2)
        assert (
            signpost(stack, "operator", "bump", cheap, "--max-gas-price", price, "--wait", "1", "--yes").code != 0
        ), "the bump is not signed yet"
        resign()
        assert len(deployment.item("cheap")["attempts"]) == 2
        ok(signpost(stack, "operator", "cancel", cheap, "--yes"))
        look(timeout_s=6)
        resign()
        gates.clear_faults()
        look()
        # Either the cancel is mined, or the earlier attempt.
        assert deployment.item("cheap")["status"] in ("cancelled", "confirmed")

        # A disabled key is marked as unusable, and the mark is removed later.
        kms = stack.aws("kms")
        kms.disable_key(KeyId=deployment.key_ids["cold"])
        assert signer.invoke(batch(deployment.ask("late", "cold"))) == failures("late")
        kms.enable_key(KeyId=deployment.key_ids["cold"])
        run_operator_commands(stack, deployment)
        run_viewer_commands(stack, deployment, tmp_path)
    compare(with_template_names(stack, deployment, ask(stack.ready["awsEndpoint"], "calls")))


def access_key(who: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": who, "AWS_SECRET_ACCESS_KEY": "test"}


def signpost(stack: Stack, who: str, *arguments: str) -> CommandResult:
    """Runs a command with the access key of a component."""
    return run(*arguments, "--config", str(stack.config_file), **access_key(who))


def ok(result: CommandResult) -> CommandResult:
    assert result.code == 0, (result.out, result.err)
    return result


def client(stack: Stack, who: str, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=stack.ready["awsEndpoint"], region_name=stack.ready["region"],
        aws_access_key_id=who, aws_secret_access_key="test",
    )  # fmt: skip


def receive_all(stack: Stack, queue: str) -> list[Any]:
    """Receives a queue's messages as Lambda does, without a component's access key."""
    sqs, bodies = without_gates(stack).aws("sqs"), []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return bodies


def run_backend_calls(stack: Stack, deployment: Deployment) -> None:
    sqs = stack.aws("sqs")
    url = sqs.create_queue(QueueName="outcomes")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client(stack, "backend", "sns").subscribe(TopicArn=stack.ready["outcomeTopicArn"], Protocol="sqs", Endpoint=queue)
    body = json.dumps({"requestId": f"{deployment.name}-asked", "account": "hot"})
    client(stack, "backend", "sqs").send_message(
        QueueUrl=deployment.signing, MessageGroupId="hot", MessageDeduplicationId="asked", MessageBody=body
    )
    client(stack, "backend", "dynamodb").get_item(
        TableName=stack.ready["requestsTable"],
        Key={"requestId": {"S": f"{deployment.name}-asked"}},
        ConsistentRead=True,
    )
    ok(
        signpost(
            stack,
            "backend",
            "submit",
            "--id",
            f"{deployment.name}-submitted",
            "--account",
            "hot",
            "--to",
            stack.addresses["cold"],
            "--gas",
            str(TRANSFER_GAS),
        )
    )


def sign_directly(deployment: Deployment) -> None:
    own = {"KMS_KEY_ID": deployment.key_ids["cold"], "ETH_NETWORK": "bsc-testnet", "SIGNPOST_POLICY": DIRECT_POLICY}
    asked = {
        "to": deployment.stack.addresses["hot"],
        "nonce": 0,
        "gas": TRANSFER_GAS,
        "gasPrice": 10**9,
        "value": 0,
        "data": "0x",
    }
    environment = {name: value for name, value in deployment.shared_environment().items() if name.startswith("AWS_")}
    with deployment.function("sign-direct", {**environment, **own, **access_key("sign-direct")}) as function:
        function.invoke(asked)


def run_operator_commands(stack: Stack, deployment: Deployment) -> None:
    kms = stack.aws("kms")
    key = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    spare = ok(signpost(stack, "operator", "account", "register", "spare", "--kms-key", key, "--json")).line()
    for command in ("pause", "resume"):
        ok(signpost(stack, "operator", "account", command, "spare"))
    ok(signpost(stack, "operator", "account", "pause", "--all", "--yes"))
    ok(signpost(stack, "operator", "account", "resume", "--all", "--yes"))
    without_gates(stack).rpc.call("anvil_setNonce", spare["address"], "0x2")
    ok(signpost(stack, "operator", "account", "set-nonce", "spare", "2", "--yes"))
    ok(signpost(stack, "operator", "account", "retire", "spare", "--yes"))
    set_retired_days_ago(stack, spare["account"], 31)
    ok(signpost(stack, "operator", "account", "unregister", "spare", "--yes"))
    for url in (deployment.signing, deployment.resign, deployment.broadcast):
        dead = url.replace(".fifo", "-dlq.fifo")
        stack.aws("sqs").send_message(QueueUrl=dead, MessageGroupId="x", MessageDeduplicationId="x", MessageBody="{}")
    ok(signpost(stack, "operator", "redrive", "--dry-run"))
    ok(signpost(stack, "operator", "redrive", "--yes"))
    ok(signpost(stack, "operator", "republish", f"{deployment.name}-paid"))
    assert signpost(stack, "operator", "doctor").out


def run_viewer_commands(stack: Stack, deployment: Deployment, directory: Path) -> None:
    paid = f"{deployment.name}-paid"
    for command in (
        ("status", paid),
        ("requests", "list"),
        ("requests", "list", "--scan"),
        ("account", "list"),
        ("account", "show", "hot"),
        ("export", "--since", "1h"),
        ("export", "--since", "1h", "--scan"),
        ("rescue", paid),
        ("evidence", paid, "--out", "-"),
    ):
        ok(signpost(stack, "viewer", *command))
    assert signpost(stack, "viewer", "audit").out is not None
    with (
        console(stack, directory) as url,
        urllib.request.urlopen(f"{url.rstrip('/')}/api/snapshot", timeout=30) as answer,
    ):
        assert json.load(answer)
    # `watch` receives a republished outcome.
    results: list[CommandResult] = []
    watching = threading.Thread(
        target=lambda: results.append(signpost(stack, "viewer", "watch", "--count", "1", "--json")), daemon=True
    )
    watching.start()
    sns = without_gates(stack).aws("sns")

    def subscribed() -> bool:
        found = sns.list_subscriptions_by_topic(TopicArn=stack.ready["outcomeTopicArn"])["Subscriptions"]
        return any("signpost-watch-" in each["Endpoint"] for each in found)

    wait_for("watch is subscribed", subscribed, 30)
    ok(signpost(stack, "operator", "republish", paid))
    watching.join(60)
    assert json.loads(ok(results[0]).out)["requestId"] == paid


@contextmanager
def console(stack: Stack, directory: Path) -> Iterator[str]:
    arguments = ["console", "--listen", "127.0.0.1:0", "--config", str(stack.config_file)]
    program = Program(directory, "console", arguments, **access_key("viewer"))
    try:
        yield wait_for("the console is ready", lambda: program.out.read_text().strip(), READY_WITHIN_S)
    finally:
        program.stop()


def with_template_names(stack: Stack, deployment: Deployment, calls: list[Any]) -> list[Any]:
    """The calls of the components, with the resource names of the template."""
    ready = stack.ready
    names = {
        ready["requestsTable"]: "RequestsTable",
        f"{ready['requestsTable']}/index/byAccount": "RequestsTable/index/byAccount",
        ready["accountsTable"]: "AccountsTable",
        ready["outcomeTopicArn"]: "OutcomeTopic",
    }
    for url, name in (
        (deployment.signing, "Signing"),
        (deployment.resign, "Resign"),
        (deployment.broadcast, "Broadcast"),
    ):
        queue = url.rsplit("/", 1)[1]
        names |= {queue: f"{name}Queue", queue.replace(".fifo", "-dlq.fifo"): f"{name}DeadLetters"}
    lists, rows = written(), {}
    for call in calls:
        who, action, on, conditions = call["who"], call["action"], call["on"], dict(call["conditions"])
        if who not in COMPONENTS:
            continue
        service = action.partition(":")[0]
        if service == "kms":
            thing = "SignDirectKey" if who == "sign-direct" else "Key"
        elif service == "secretsmanager":
            thing = "SealSecret" if who == "signer" else "RpcSecretArn"
        else:
            thing = names.get(on) or ("WatchQueue" if on.startswith("signpost-watch-") else f"unknown: {on}")
        if (endpoint := conditions.get("sns:Endpoint")) is not None:
            conditions["sns:Endpoint"] = "WatchQueue" if ":signpost-watch-" in endpoint else "BackendQueue"
        seen = set(conditions.pop(WRITTEN_ATTRIBUTES, ()))
        allowed = lists.get((POLICY_OF.get(who, ""), action, thing))
        if allowed is not None:
            # The attributes of a single call vary. The permission must allow all attributes that the code may write.
            assert (
                seen <= allowed
            ), f"{who}: {action} on {thing} writes {sorted(seen - allowed)}, which the code does not list"
            conditions[WRITTEN_ATTRIBUTES] = sorted(allowed)
        row = {"who": who, "action": action, "on": thing, **({"conditions": conditions} if conditions else {})}
        rows[json.dumps(row, sort_keys=True)] = row
    return sorted(
        rows.values(), key=lambda row: (COMPONENTS.index(row["who"]), row["on"], row["action"], json.dumps(row))
    )


def compare(seen: list[Any]) -> None:
    text = "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in seen) + "\n]\n"
    if os.environ.get("SIGNPOST_NEW_CALLS"):
        CALLS_FILE.write_text(text)
    kept = json.loads(CALLS_FILE.read_text())
    new = [row for row in seen if row not in kept]
    gone = [row for row in kept if row not in seen]
    assert (new, gone) == ([], []), "SIGNPOST_NEW_CALLS=1 rewrites tests/infra/calls.json; then adapt the permissions"
