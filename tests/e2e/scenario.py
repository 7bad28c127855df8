"""The messages of a backend: requests in every spelling, copies, conflicts, invalid bodies, requests against policy.

All of it is derived from one seed. Each message carries its contents and its expected result; audit.py checks the
actual result.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

from stack import CHAIN_ID

GWEI = 10**9
# The policy of `signpost dev`'s accounts.
CAP_WEI = 3 * GWEI
CONFIGURED_WEI = GWEI // 10
DENIED = "0x000000000000000000000000000000000000dead"

BATCH = 10


@dataclass(frozen=True)
class Ask:
    """The contents of a request, independent of its spelling. Equal contents under one id are copies."""

    account: str
    to: str | None
    gas: int
    value: int = 0
    data: str = "0x"
    # Empty: the account's configured price.
    fee: tuple[tuple[str, int], ...] = ()
    # JSON with sorted names, or empty.
    metadata: str = ""
    # Unix seconds. Past it, an unmined request is cancelled. None: no deadline.
    deadline: int | None = None
    # Cap of every attempt's price, wei. None: the account's cap.
    max_price: int | None = None
    # Its final status, unless it is cancelled.
    ends: str = "confirmed"

    def fields(self) -> dict[str, Any]:
        """The fields of a request, with numbers as numbers."""
        fields: dict[str, Any] = {"account": self.account, "to": self.to, "gas": self.gas, **dict(self.fee)}
        if self.value:
            fields["value"] = self.value
        if self.data != "0x":
            fields["data"] = self.data
        if self.metadata:
            fields["metadata"] = json.loads(self.metadata)
        if self.deadline is not None:
            fields["deadline"] = self.deadline
        if self.max_price is not None:
            fields["maxGasPrice"] = self.max_price
        return fields


@dataclass(frozen=True)
class Message:
    """A message to send."""

    body: str
    # The FIFO group. Messages with the same id share a group, so that they are received in order.
    group: str
    # The request id. None: the record uses the id that SQS gives the message.
    id: str | None
    # Its contents, if it is a valid request...
    ask: Ask | None = None
    # ...else its rejection code.
    code: str = ""


@dataclass(frozen=True)
class Sent:
    """A message accepted by SQS."""

    message: Message
    message_id: str

    @property
    def id(self) -> str:
        """The request id of its record."""
        return self.message.id or f"sqs:{self.message_id}"


@dataclass
class Backend:
    """Makes messages. `addresses` are the registered accounts by name."""

    rng: random.Random
    addresses: Mapping[str, str]
    prefix: str
    # The highest price that it offers, wei per gas.
    max_price_wei: int = CAP_WEI
    made: int = field(default=0)

    def new_id(self) -> str:
        self.made += 1
        return f"{self.prefix}-{self.made:04}"

    def account(self) -> str:
        return self.rng.choice(sorted(self.addresses))

    def fee(self) -> tuple[tuple[str, int], ...]:
        """A random price of one of the kinds, or none."""
        price = self.rng.randrange(CONFIGURED_WEI, self.max_price_wei + 1)
        tip = self.rng.randrange(CONFIGURED_WEI, price + 1)
        kinds: list[tuple[tuple[str, int], ...]] = [
            (),
            (("gasPrice", price),),
            (("maxFeePerGas", price), ("maxPriorityFeePerGas", tip)),
        ]
        return self.rng.choice(kinds)

    def metadata(self) -> str:
        """Metadata for some of the requests."""
        if self.rng.random() < 0.7:
            return ""
        return json.dumps({"batch": self.rng.randrange(100), "customer": {"id": "ü-7", "tags": [1, "a", None]}})

    def transfer(self) -> Ask:
        to = "0x" + self.rng.randbytes(20).hex()
        value = self.rng.randrange(10**15)
        return Ask(self.account(), to, 21_000, value, fee=self.fee(), metadata=self.metadata())

    def call(self, contract: str) -> Ask:
        data = "0x" + self.rng.randbytes(32).hex()
        return Ask(self.account(), contract, 100_000, data=data, fee=self.fee(), metadata=self.metadata())

    def reverting_call(self, contract: str) -> Ask:
        return Ask(self.account(), contract, 60_000, fee=self.fee(), ends="reverted")

    def changed(self, ask: Ask) -> Ask:
        """The same contents with one small difference."""
        accounts = [name for name in self.addresses if name != ask.account]
        changes = [
            replace(ask, value=ask.value + 1),
            replace(ask, gas=ask.gas + 1),
            replace(ask, metadata='{"other": true}'),
            *(replace(ask, account=name) for name in accounts),
        ]
        # Only a plain transfer accepts a value.
        return self.rng.choice(changes if ask.data == "0x" and ask.ends == "confirmed" else changes[1:])

    def request(self, id: str, ask: Ask, group: str | None = None) -> Message:
        body = self.spelled({"requestId": id, **ask.fields()})
        return Message(body, group or ask.account, id, ask=ask)

    def spelled(self, fields: dict[str, Any]) -> str:
        """A random spelling of a request with the same contents."""
        written: dict[str, Any] = {}
        for name, value in fields.items():
            if isinstance(value, int):
                value = self.rng.choice([value, str(value), hex(value), f"0x00{value:X}"])
            elif name == "account":
                address = self.addresses[value]
                value = self.rng.choice([value, address, address.lower(), f"{CHAIN_ID}:{address.lower()}"])
            elif name in ("to", "data") and value is not None:
                value = self.rng.choice([value, "0x" + value[2:].upper()])
            elif name == "metadata":
                value = shuffled(self.rng, value)
            written[name] = value
        if "value" not in written and self.rng.random() < 0.5:
            written["value"] = self.rng.choice([0, "0", "0x0"])
        if "data" not in written and self.rng.random() < 0.5:
            written["data"] = "0x"
        if self.rng.random() < 0.5:
            written["chainId"] = self.rng.choice([CHAIN_ID, str(CHAIN_ID), hex(CHAIN_ID)])
        plain = self.rng.random() < 0.5
        return json.dumps(shuffled(self.rng, written), ensure_ascii=plain, indent=self.rng.choice([None, 1]))

    def invalid(self) -> Iterator[Message]:
        """An endless sequence of invalid bodies, one of each kind in turn."""
        good = "0x" + self.rng.randbytes(20).hex()
        while True:
            yield self.refused("notJson", "{ this is not JSON", named=False)
            yield self.refused("notAnObject", '["a", "list"]', named=False)
            yield self.refused("unknownField", {"to": good, "gas": 21_000, "gasLimit": 21_000})
            yield self.refused("nonceNotAllowed", {"to": good, "gas": 21_000, "nonce": 7})
            yield self.refused("secretField", {"to": good, "gas": 21_000, "metadata": {"deep": {"privateKey": "x"}}})
            yield self.refused("badNumber", {"to": good, "gas": 21_000, "value": 1.5})
            yield self.refused("missingField", {"to": good})
            yield self.refused("badAddress", {"to": "0xaa", "gas": 21_000})
            yield self.refused("gasTooLow", {"to": good, "gas": 20_999})
            yield self.refused("gasTooHigh", {"to": good, "gas": 16_777_217})
            yield self.refused("wrongChain", {"to": good, "gas": 21_000, "chainId": 56})
            yield self.refused("unknownAccount", {"to": good, "gas": 21_000, "account": "nobody"})
            yield self.refused("feeTooLow", {"to": good, "gas": 21_000, "gasPrice": CONFIGURED_WEI - 1})

    def against_policy(self) -> Iterator[Message]:
        """An endless sequence of valid requests that the account's policy refuses."""
        good = "0x" + self.rng.randbytes(20).hex()
        while True:
            yield self.refused("toNotAllowed", {"to": DENIED, "gas": 21_000})
            yield self.refused("feeTooHigh", {"to": good, "gas": 21_000, "gasPrice": str(CAP_WEI + 1)})

    def refused(self, code: str, body: str | dict[str, Any], named: bool = True) -> Message:
        account = self.account()
        if isinstance(body, str):
            return Message(body, account, None, code=code)
        id = self.new_id() if named else None
        fields = {"account": account, **({"requestId": id} if id else {}), **body}
        return Message(json.dumps(fields), account, id, code=code)


def shuffled(rng: random.Random, fields: Mapping[str, Any]) -> dict[str, Any]:
    names = list(fields)
    rng.shuffle(names)
    return {name: fields[name] for name in names}


def interleaved(rng: random.Random, threads: list[list[Message]]) -> list[Message]:
    """Mixes threads at random, each in its own order."""
    turns = [at for at, thread in enumerate(threads) for _ in thread]
    rng.shuffle(turns)
    left = [iter(thread) for thread in threads]
    return [next(left[turn]) for turn in turns]


def mixed(backend: Backend, messages: int, contract: str) -> list[Message]:
    """A mix of messages: 55 % requests, 20 % copies, 10 % conflicts, 11 % invalid, 4 % against policy."""
    rng = backend.rng
    copies, conflicts, invalid, against = (messages * percent // 100 for percent in (20, 10, 11, 4))
    requests = messages - copies - conflicts - invalid - against
    # Numbers instead of a draw for each, so that no kind is ever missing.
    calls, reverts = -(-requests * 22 // 100), -(-requests * 8 // 100)
    asks = [backend.call(contract) for _ in range(calls)]
    asks += [backend.reverting_call(contract) for _ in range(reverts)]
    asks += [backend.transfer() for _ in range(requests - calls - reverts)]
    threads = [[backend.request(backend.new_id(), ask)] for ask in rng.sample(asks, len(asks))]
    refused = [*islice(backend.invalid(), invalid), *islice(backend.against_policy(), against)]
    # At most one conflict per id, so that an id has at most two different contents.
    for thread in rng.sample(threads, conflicts):
        first = thread[0]
        assert first.ask and first.id
        thread.append(backend.request(first.id, backend.changed(first.ask), first.group))
    for thread in rng.choices(threads, k=copies):
        copied = rng.choice(thread)
        assert copied.ask and copied.id
        thread.append(backend.request(copied.id, copied.ask, copied.group))
    return interleaved(rng, [*threads, *([message] for message in refused)])


def send(sqs: Any, queue: str, messages: Iterable[Message], times: int = 1) -> list[Sent]:
    """Sends each message `times` times. SQS deduplicates none of them."""
    repeated = [message for message in messages for _ in range(times)]
    sent = []
    for start in range(0, len(repeated), BATCH):
        part = repeated[start : start + BATCH]
        entries = [{"Id": str(at), "MessageBody": message.body} for at, message in enumerate(part)]
        if queue.endswith(".fifo"):
            for entry, message in zip(entries, part, strict=True):
                entry["MessageGroupId"] = message.group
                entry["MessageDeduplicationId"] = f"sending-{next(DEDUPLICATION)}"
        answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        assert not answer.get("Failed"), answer["Failed"]
        ids = {entry["Id"]: entry["MessageId"] for entry in answer["Successful"]}
        sent += [Sent(message, ids[str(at)]) for at, message in enumerate(part)]
    return sent


# Unique ids, so that a FIFO queue accepts every message.
DEDUPLICATION = count(1)


def push(*values: int | bytes) -> bytes:
    """EVM code that pushes constants onto the stack, in this order."""
    out = b""
    for value in values:
        constant = value if isinstance(value, bytes) else bytes([value])
        out += bytes([0x5F + len(constant)]) + constant
    return out


# A contract that stores the word in its calldata, and reverts with a reason if the calldata is empty.
REASON = "a word, please"
_STOP, _CALLDATALOAD, _CALLDATASIZE, _CODECOPY, _MSTORE = b"\x00", b"\x35", b"\x36", b"\x39", b"\x52"
_SSTORE, _JUMPI, _JUMPDEST, _DUP1, _RETURN, _REVERT = b"\x55", b"\x57", b"\x5b", b"\x80", b"\xf3", b"\xfd"
_ERROR = (
    push(bytes.fromhex("08c379a0").ljust(32, b"\0"), 0) + _MSTORE  # Error(string)
    + push(0x20, 4) + _MSTORE
    + push(len(REASON), 0x24) + _MSTORE
    + push(REASON.encode().ljust(32, b"\0"), 0x44) + _MSTORE
    + push(0x64, 0) + _REVERT
)  # fmt: skip
_BRANCH = _CALLDATASIZE + push(4 + len(_ERROR)) + _JUMPI
RUNTIME = _BRANCH + _ERROR + _JUMPDEST + push(0) + _CALLDATALOAD + push(0) + _SSTORE + _STOP
INIT_CODE = "0x" + (push(len(RUNTIME)) + _DUP1 + push(11, 0) + _CODECOPY + push(0) + _RETURN + RUNTIME).hex()


def creation(account: str) -> Ask:
    return Ask(account, None, 300_000, data=INIT_CODE)
