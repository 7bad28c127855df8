"""Many faulty nodes in front of the local stack's chain, and a whole Signpost for each of them: its own accounts and
queues on the stack's servers, and a worker configured with the nodes to use.

The faults are in oddities.py.
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
# The poll interval of a moving lane. The default is the block time; many workers share two cores here.
TIMING = "poll_ms = 400"


class Nodes:
    """A gate with many nodes. It exits when its standard input is closed."""

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
    """The configuration with new queues and a new topic, set up like the stack's."""
    sqs, sns = stack.aws("sqs"), stack.aws("sns")
    for part in QUEUES:
        [url] = re.findall(rf'{part}_url = "([^"]+)"', config)
        original = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        kept = ("FifoQueue", "ContentBasedDeduplication", "VisibilityTimeout", "DeduplicationScope", "RedrivePolicy",
                "FifoThroughputLimit", "MessageRetentionPeriod")  # fmt: skip
        attributes = {name: original[name] for name in kept if name in original}
        made = sqs.create_queue(QueueName=f"{name}-{part}.fifo", Attributes=attributes)["QueueUrl"]
        config = config.replace(url, made)
    [topic] = re.findall(r'outcomes_arn = "([^"]+)"', config)
    return config.replace(topic, sns.create_topic(Name=f"{name}-outcomes")["TopicArn"])


def accounts_of(stack: Stack, config: str, name: str) -> str:
    """The configuration with a new accounts table, set up like the stack's."""
    [table] = re.findall(r'accounts = "([^"]+)"', config)
    dynamodb = stack.aws("dynamodb")
    original = dynamodb.describe_table(TableName=table)["Table"]
    dynamodb.create_table(
        TableName=f"{name}-accounts",
        BillingMode="PAY_PER_REQUEST",
        **{part: original[part] for part in ("KeySchema", "AttributeDefinitions")},
    )
    return config.replace(f'accounts = "{table}"', f'accounts = "{name}-accounts"')


@dataclass
class Result:
    """The result of one request."""

    item: Json
    # The code of `waitingFor` in its record.
    waits: str | None
    log: str
    # Mined transactions of the account, as the upstream node counts them.
    mined_count: int

    def __str__(self) -> str:
        return (
            f"{json.dumps(self.item, indent=1)}\nwaited for {self.waits}, {self.mined_count} mined\n{self.log[-3_000:]}"
        )

    @property
    def attempts(self) -> int:
        return len(self.item["attempts"])

    @property
    def took_s(self) -> float:
        """Seconds from the reservation to the publication."""
        took_ms: int = self.item["publishedAt"] - self.item["createdAt"]
        return took_ms / 1_000


class Instance:
    """One account, and a worker for it."""

    def __init__(self, stack: Stack, directory: Path, name: str, sound_url: str) -> None:
        self.stack, self.directory, self.name = stack, directory, name
        text = re.sub(r"poll_ms = \d+", TIMING, stack.config_file.read_text())
        self.config = accounts_of(stack, queues_of(stack, text, name), name)
        [self.queue] = re.findall(r'signing_url = "([^"]+)"', self.config)
        kms = stack.aws("kms")
        made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY", Description=name)
        registered = run("account", "register", name, "--kms-key", made["KeyMetadata"]["KeyId"], "--json",
                         "--config", str(self.written([sound_url])))  # fmt: skip
        assert registered.code == 0, registered.err
        self.address: str = registered.line()["address"]
        stack.rpc.call("anvil_setBalance", self.address, COINS)

    def written(self, urls: list[str]) -> Path:
        """Writes the configuration with these nodes to a file."""
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
        """The current record, or an empty one."""
        assert worker.ended is None, f"the worker ended with {worker.ended}: {worker.log()[-2_000:]}"
        return get(self.stack, id) or {}

    def outcome(self, id: str, worker: Program, within_s: float) -> Json:
        """The record, once its outcome is published."""

        def look() -> Json | None:
            item = self.look(id, worker)
            return item if "publishedAt" in item else None

        return self.wait(f"{id} is published", look, id, worker, within_s)

    def waiting(self, id: str, worker: Program, within_s: float) -> str:
        """The code of `waitingFor`, once the record has one. Fails if that takes longer than `within_s`."""

        def look() -> str | None:
            item = self.look(id, worker)
            assert "publishedAt" not in item, f"{id} is {item['status']}: {item}"
            late_s = time.time() - item["createdAt"] / 1_000 if item else 0
            assert late_s < within_s, f"after {late_s:.0f} s the record has no waitingFor"
            code: str | None = item.get("waitingFor", {}).get("code")
            return code

        return self.wait(f"the record of {id} has waitingFor", look, id, worker, 2 * within_s)

    def wait(self, what: str, look: Callable[[], T | None], id: str, worker: Program, within_s: float) -> T:
        try:
            return wait_for(what, look, within_s, every_s=0.3)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{get(self.stack, id)}\n{worker.log()[-3_000:]}") from None

    def mined_count(self) -> int:
        """Mined transactions of the account, as the upstream node counts them."""
        return int(self.stack.rpc.call("eth_getTransactionCount", self.address, "latest"), 16)


def set_faults(url: str, rules: list[Json]) -> None:
    """Sets the node's faults."""
    ask(url, "script", rules)


def head(rpc: Rpc) -> int:
    return int(rpc.call("eth_blockNumber"), 16)
