"""Many nodes in front of the local stack's chain, each odd in a way of its own, and a whole Signpost for each of
them: accounts and queues of its own on the stack's servers, and a worker that is configured with the nodes to use.

What is odd is in oddities.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import get
from gates import ask
from stack import Program, Rpc, Stack, T, binary, run, wait_for

Json = dict[str, Any]

TO = "0x" + "aa" * 20
COINS = hex(10**20)
QUEUES = ("signing", "resign", "broadcast")
# A lane that moves is looked at so often. The default is a block's time; many workers share two cores here.
TIMING = "poll_ms = 400"


class Nodes:
    """A gate with many nodes, which ends with its standard input."""

    def __init__(self, stack: Stack, count: int) -> None:
        arguments = ["bsc", "--upstream", stack.ready["rpcUrl"], "--leash"]
        program = binary().with_name("gate")
        assert program.is_file(), f"{program} is missing; run `cargo verify --e2e-only`"
        arguments += ["--listen", "127.0.0.1:0"] * count
        self.process = subprocess.Popen([str(program), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.urls: list[str] = json.loads(self.process.stdout.readline())["urls"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def queues_of(stack: Stack, config: str, name: str) -> str:
    """The configuration with queues and a topic of its own, like the stack's."""
    sqs, sns = stack.aws("sqs"), stack.aws("sns")
    for part in QUEUES:
        [url] = re.findall(rf'{part}_url = "([^"]+)"', config)
        likeness = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        kept = ("FifoQueue", "ContentBasedDeduplication", "VisibilityTimeout", "DeduplicationScope", "RedrivePolicy",
                "FifoThroughputLimit", "MessageRetentionPeriod")  # fmt: skip
        attributes = {name: likeness[name] for name in kept if name in likeness}
        made = sqs.create_queue(QueueName=f"{name}-{part}.fifo", Attributes=attributes)["QueueUrl"]
        config = config.replace(url, made)
    [topic] = re.findall(r'outcomes_arn = "([^"]+)"', config)
    return config.replace(topic, sns.create_topic(Name=f"{name}-outcomes")["TopicArn"])


def accounts_of(stack: Stack, config: str, name: str) -> str:
    """The configuration with a table of accounts of its own, like the stack's."""
    [table] = re.findall(r'accounts = "([^"]+)"', config)
    dynamodb = stack.aws("dynamodb")
    likeness = dynamodb.describe_table(TableName=table)["Table"]
    dynamodb.create_table(
        TableName=f"{name}-accounts",
        BillingMode="PAY_PER_REQUEST",
        **{part: likeness[part] for part in ("KeySchema", "AttributeDefinitions")},
    )
    return config.replace(f'accounts = "{table}"', f'accounts = "{name}-accounts"')


@dataclass
class Told:
    """How one request went."""

    item: Json
    # What it was seen to wait for.
    waits: str | None
    log: str
    # Transactions of the account that were mined, by the node behind.
    uses: int

    def __str__(self) -> str:
        return f"{json.dumps(self.item, indent=1)}\nwaited for {self.waits}, {self.uses} mined\n{self.log[-3_000:]}"

    @property
    def attempts(self) -> int:
        return len(self.item["attempts"])

    @property
    def took_s(self) -> float:
        """From when its nonce was reserved."""
        took_ms: int = self.item["publishedAt"] - self.item["createdAt"]
        return took_ms / 1_000


class Signpost:
    """One account, and a worker for it."""

    def __init__(self, stack: Stack, directory: Path, name: str, sound: str) -> None:
        self.stack, self.directory, self.name = stack, directory, name
        text = re.sub(r"poll_ms = \d+", TIMING, stack.config_file.read_text())
        self.config = accounts_of(stack, queues_of(stack, text, name), name)
        [self.queue] = re.findall(r'signing_url = "([^"]+)"', self.config)
        kms = stack.aws("kms")
        made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY", Description=name)
        registered = run("account", "register", name, "--kms-key", made["KeyMetadata"]["KeyId"], "--json",
                         "--config", str(self.written([sound])))  # fmt: skip
        assert registered.code == 0, registered.err
        self.address: str = registered.line()["address"]
        stack.rpc.call("anvil_setBalance", self.address, COINS)

    def written(self, urls: list[str]) -> Path:
        """The configuration with these nodes, in a file."""
        path = self.directory / f"{self.name}.toml"
        path.write_text(re.sub(r"rpc_urls = \[[^\]]*\]", f"rpc_urls = {json.dumps(urls)}", self.config))
        return path

    def worker(self, urls: list[str]) -> Program:
        return Program(self.directory, self.name, ["worker", "--config", str(self.written(urls)), "--stage", "all"])

    def submit(self) -> str:
        body = json.dumps({"requestId": self.name, "account": self.name, "to": TO, "gas": 21_000, "value": 1})
        self.stack.aws("sqs").send_message(
            QueueUrl=self.queue, MessageBody=body, MessageGroupId=self.name, MessageDeduplicationId=self.name
        )
        return self.name

    def look(self, id: str, worker: Program) -> Json:
        """The record as it is, if there is one yet."""
        assert worker.ended is None, f"the worker ended with {worker.ended}: {worker.log()[-2_000:]}"
        return get(self.stack, id) or {}

    def outcome(self, id: str, worker: Program, within_s: float) -> Json:
        """The record once it is published."""

        def look() -> Json | None:
            item = self.look(id, worker)
            return item if "publishedAt" in item else None

        return self.wait(f"{id} is published", look, id, worker, within_s)

    def waiting(self, id: str, worker: Program, within_s: float) -> str:
        """What it waits for, once its record says so, in time."""

        def look() -> str | None:
            item = self.look(id, worker)
            assert "publishedAt" not in item, f"{id} is {item['status']}: {item}"
            late_s = time.time() - item["createdAt"] / 1_000 if item else 0
            assert late_s < within_s, f"after {late_s:.0f} s it says nothing"
            code: str | None = item.get("waitingFor", {}).get("code")
            return code

        return self.wait(f"{id} says what it waits for", look, id, worker, 2 * within_s)

    def wait(self, what: str, look: Callable[[], T | None], id: str, worker: Program, within_s: float) -> T:
        try:
            return wait_for(what, look, within_s, every_s=0.3)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{get(self.stack, id)}\n{worker.log()[-3_000:]}") from None

    def uses(self) -> int:
        """Transactions of the account that were mined, by the node behind."""
        return int(self.stack.rpc.call("eth_getTransactionCount", self.address, "latest"), 16)


def play(url: str, rules: list[Json]) -> None:
    """From now on the node is like this."""
    ask(url, "script", rules)


def head(rpc: Rpc) -> int:
    return int(rpc.call("eth_blockNumber"), 16)
