"""The functions on a local stack, as deployed: their environment, their programs and their queues.

Read next: test_functions.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit import get, scan
from runtime_api import Function, record
from stack import CHAIN_ID, ROOT, Stack, binary

TO = "0x55d398326f99059fF775485246999027B3197955"


class Deployment:
    """A deployment of the functions on a stack."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.stack, self.directory = stack, directory
        self.name = directory.name
        self.signing = stack.signing_queue
        self.resign, self.broadcast = (stack.signing_queue.replace("signing", name) for name in ("resign", "broadcast"))
        self.key_ids = {item["name"]: item["kmsKeyId"] for item in scan(stack, "accountsTable") if "kmsKeyId" in item}

    def shared_environment(self) -> dict[str, str]:
        ready = self.stack.ready
        return {
            "AWS_ENDPOINT_URL": ready["awsEndpoint"],
            "AWS_REGION": ready["region"],
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "SIGNPOST_CHAIN_ID": str(CHAIN_ID),
            "SIGNPOST_FEE_FLOOR_WEI": "100000000",
            "SIGNPOST_SIGNING_QUEUE_URL": self.signing,
            "SIGNPOST_RESIGN_QUEUE_URL": self.resign,
            "SIGNPOST_BROADCAST_QUEUE_URL": self.broadcast,
            "SIGNPOST_REQUESTS_TABLE": ready["requestsTable"],
            "SIGNPOST_ACCOUNTS_TABLE": ready["accountsTable"],
            "SIGNPOST_OUTCOME_TOPIC_ARN": ready["outcomeTopicArn"],
        }

    def function(self, program: str | Path, environment: dict[str, str]) -> Function:
        """A program of this build by name, or any program by path."""
        path = Path(program) if isinstance(program, Path) else binary().with_name(program)
        return Function(path, environment, self.directory / f"{path.name}.log")

    def signer(self, program: str | Path = "signer", **more: str) -> Function:
        own = {
            "SIGNPOST_POLICY_FILE": str(self.stack.config_file.with_name("policy.toml")),
            "SIGNPOST_SEAL_SECRET_ARN": self.seal_secret(),
            "SIGNPOST_ACCOUNTS": ",".join(self.pins().values()),
        }
        return self.function(program, {**self.shared_environment(), **own, **more})

    def pins(self) -> dict[str, str]:
        """The entry of each registered account in SIGNPOST_ACCOUNTS."""
        addresses = self.stack.addresses
        return {name: f"{name}={addresses[name]}={key}" for name, key in self.key_ids.items() if name in addresses}

    def seal_secret(self) -> str:
        """The ARN of the secret with the stack's seal key."""
        secrets, name = self.stack.aws("secretsmanager"), "signpost-seal"
        try:
            return secrets.describe_secret(SecretId=name)["ARN"]
        except secrets.exceptions.ResourceNotFoundException:
            key = self.stack.config_file.with_name("seal.key").read_text().strip()
            return secrets.create_secret(Name=name, SecretString=key)["ARN"]

    def broadcaster(self, program: str | Path = "broadcaster", **more: str) -> Function:
        nodes = {"SIGNPOST_SEND_TO": "all", "SIGNPOST_FINALITY": "finalized", "SIGNPOST_POLL_MS": "100"}
        if "SIGNPOST_RPC_SECRET_ARN" not in more:
            nodes["SIGNPOST_RPC_URLS"] = self.stack.ready["rpcUrl"]
        return self.function(program, {**self.shared_environment(), **nodes, **more})

    def ask(self, id: str, account: str = "hot", **fields: Any) -> dict[str, Any]:
        """A record of the signing queue. Its message id is the request id without the prefix."""
        body = {"requestId": f"{self.name}-{id}", "account": account, "to": TO, "value": "1", "gas": 21_000, **fields}
        return record(body, arn(self.signing), id, account)

    def item(self, id: str) -> dict[str, Any]:
        found = get(self.stack, f"{self.name}-{id}")
        assert found is not None, f"{id} is not in the table"
        return found

    def poke(self, account: str = "hot", message_id: str = "poke") -> dict[str, Any]:
        """A record of the broadcast queue."""
        key = f"{CHAIN_ID}:{self.stack.addresses[account].lower()}"
        return record({"account": key, "cause": message_id}, arn(self.broadcast), message_id, key)

    def pokes(self) -> list[dict[str, Any]]:
        """Receives and deletes all messages on the broadcast queue."""
        sqs = self.stack.aws("sqs")
        taken = []
        while messages := sqs.receive_message(QueueUrl=self.broadcast, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                taken.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.broadcast, ReceiptHandle=message["ReceiptHandle"])
        return taken

    @contextmanager
    def no_blocks(self) -> Iterator[None]:
        """Stops mining until the end of the block."""
        self.stack.rpc.call("evm_setIntervalMining", 0)
        try:
            yield
        finally:
            self.stack.rpc.call("evm_setIntervalMining", 1)


def arn(queue_url: str) -> str:
    return "arn:aws:sqs:us-east-1:" + ":".join(queue_url.split("/")[-2:])


def package(out: Path, *options: str) -> list[Path]:
    """Builds the functions' zips into a directory with infra/package.py."""
    command = [sys.executable, str(ROOT / "infra" / "package.py"), "--out", str(out), *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return sorted(out.glob("*.zip"))
