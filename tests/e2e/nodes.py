"""Many nodes in front of the local stack's chain, each odd in a way of its own, and a whole Signpost for each of
them: accounts and queues of its own on the stack's servers, and a worker that is told which nodes to use.

What is odd is in oddities.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import get
from gates import ask
from stack import Program, Rpc, Stack, binary, run, wait_for

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
    took_s: float
    # What it was seen to wait for.
    waits: str | None
    log: str

    @property
    def attempts(self) -> int:
        return len(self.item["attempts"])


class Signpost:
    """One account, and workers for it, one after the other."""

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

    def worker(self, urls: list[str], kind: str) -> Program:
        arguments = ["worker", "--config", str(self.written(urls)), "--stage", "all"]
        return Program(self.directory, f"{self.name}-{kind}", arguments)

    def submit(self, id: str) -> float:
        body = json.dumps({"requestId": id, "account": self.name, "to": TO, "gas": 21_000, "value": 1})
        sent = self.stack.aws("sqs").send_message(
            QueueUrl=self.queue, MessageBody=body, MessageGroupId=self.name, MessageDeduplicationId=id
        )
        assert sent["MessageId"]
        return time.monotonic()

    def outcome(self, id: str, since: float, worker: Program, within_s: float, waits: str | None = None) -> Told:
        """Once it is published."""

        def look() -> Json | None:
            item = get(self.stack, id)
            assert worker.ended is None, f"the worker ended with {worker.ended}: {worker.log()[-2_000:]}"
            return item if item and "publishedAt" in item else None

        try:
            item = wait_for(f"{id} is published", look, within_s, every_s=0.25)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{get(self.stack, id)}\n{worker.log()[-3_000:]}") from None
        return Told(item, time.monotonic() - since, waits, worker.log())

    def waiting(self, id: str, worker: Program, within_s: float) -> str:
        """What it waits for, once its record says so."""

        def look() -> str | None:
            item = get(self.stack, id) or {}
            assert "publishedAt" not in item, f"{id} is {item['status']}: {item}"
            assert worker.ended is None, f"the worker ended with {worker.ended}: {worker.log()[-2_000:]}"
            code: str | None = item.get("waitingFor", {}).get("code")
            return code

        try:
            return wait_for(f"{id} says what it waits for", look, within_s, every_s=0.5)
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
