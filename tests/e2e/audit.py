"""Judges what came of messages: the table, the chain, the queues and the topic must tell one story, and
it must be the one that was asked for.

Counts from what is there, never from what was sent. Collects every problem before it fails.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from jsonschema import Draft202012Validator

from scenario import CONFIGURED_WEI, REASON, Ask, Backend, Sent, creation, send
from stack import CHAIN_ID, ROOT, Stack, wait_for

Json = dict[str, Any]

ON_CHAIN = ("confirmed", "reverted")
# What can only be said once a finalized block has the slot.
SETTLED = (*ON_CHAIN, "cancelled", "displaced")
REUSED = "requestIdReused"
# How long a closed request and its slot are kept: the configuration of the local stack and of the template.
RETENTION_MS = 90 * 24 * 3_600 * 1_000
# Half of the curve's order: a signature whose s is above it is refused by nodes (EIP-2).
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def schema(name: str) -> Draft202012Validator:
    contents = json.loads((ROOT / "schemas" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(contents)
    return Draft202012Validator(contents)


STATUS, OUTCOME = schema("request-status.v1"), schema("outcome.v1")


def plain(value: Any) -> Any:
    """A value of DynamoDB as the JSON that request-status.v1 describes: whole numbers, bytes as hex."""
    if isinstance(value, Decimal):
        assert value == int(value), f"{value} is not a whole number"
        return int(value)
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    return "0x" + bytes(value).hex()


def read(item: Json) -> Json:
    """An item as DynamoDB gives it, as the JSON of the schema. Metadata is kept as text: numbers as written."""
    read_value = TypeDeserializer().deserialize
    fields = {name: plain(read_value(value)) for name, value in item.items()}
    if "metadata" in fields:
        fields["metadata"] = json.loads(fields["metadata"])
    return fields


def get(stack: Stack, id: str) -> Json | None:
    """What a backend reads to see how a request stands: one item."""
    table = stack.ready["requestsTable"]
    key = {"requestId": {"S": id}}
    found = stack.aws("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    return read(found) if found else None


def published(stack: Stack, id: str, status: str | None = None, within_s: float = 60) -> Json:
    """The item of a request once its outcome is published, or once an outcome of this status is."""

    def look() -> Json | None:
        item = get(stack, id)
        return item if item and "publishedAt" in item and status in (None, item["status"]) else None

    return wait_for(f"{id} is published", look, within_s)


def deploy(stack: Stack, backend: Backend) -> tuple[list[Sent], str]:
    """Creates a contract; what was sent for it, and its address, lower case."""
    message = backend.request(backend.new_id(), creation(backend.account()))
    sent = send(stack.aws("sqs"), stack.signing_queue, [message])
    item = published(stack, sent[0].id)
    assert item["status"] == "confirmed", item
    return sent, item["contractAddress"].lower()


def scan(stack: Stack, table: str) -> list[Json]:
    """Every item of a table."""
    pages = stack.aws("dynamodb").get_paginator("scan").paginate(TableName=stack.ready[table], ConsistentRead=True)
    return [read(item) for page in pages for item in page["Items"]]


@dataclass(frozen=True)
class Copy:
    """An outcome as it came out of a queue."""

    attributes: dict[str, str]
    body: str

    @property
    def json(self) -> Json:
        parsed: Json = json.loads(self.body)
        return parsed


class Subscriber:
    """An SQS queue subscribed to the outcome topic, for some statuses only, as a backend would have it."""

    def __init__(self, stack: Stack, name: str, statuses: Iterable[str]) -> None:
        self.statuses = list(statuses)
        self.sqs = stack.aws("sqs")
        self.copies: list[Copy] = []
        self.url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        asked = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        stack.aws("sns").subscribe(
            TopicArn=stack.ready["outcomeTopicArn"],
            Protocol="sqs",
            Endpoint=asked["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"status": self.statuses})},
        )

    def receive(self, wait_s: int = 0) -> int:
        """Takes what is there; how many copies."""
        taken = 0
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s, MessageAttributeNames=["All"]
            )
            messages = answer.get("Messages", [])
            if not messages:
                return taken
            taken += len(messages)
            for message in messages:
                attributes = {
                    name: attribute["StringValue"] for name, attribute in message.get("MessageAttributes", {}).items()
                }
                self.copies.append(Copy(attributes, message["Body"]))
            entries = [{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)]
            self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def receive_until(self, count: int, within_s: float = 60) -> list[Json]:
        """The outcomes, once there are so many copies."""

        def enough() -> bool:
            self.receive()
            return len(self.copies) >= count

        wait_for(f"{count} copies of outcomes", enough, within_s)
        return [copy.json for copy in self.copies]


WAITING, IN_HAND = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"


def queue_depth(sqs: Any, url: str, *states: str) -> int:
    """Messages in a queue: those that wait, those that somebody holds, by default both."""
    names = list(states or (WAITING, IN_HAND))
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def settle(stack: Stack, sent: list[Sent], subscribers: list[Subscriber], within_s: float) -> float:
    """Waits until every message is taken, every request is closed and no outcome is missing; how long."""
    sqs = stack.aws("sqs")
    started = time.monotonic()
    wanted = {s.id for s in sent}

    def settled() -> bool:
        for subscriber in subscribers:
            subscriber.receive()
        if queue_depth(sqs, stack.signing_queue):
            return False
        items = scan(stack, "requestsTable")
        if not wanted <= {item["requestId"] for item in items} or not all("expiresAt" in item for item in items):
            return False
        if any(head["nextNonce"] != head["lowestOpenNonce"] for head in heads(stack)):
            return False
        told = {copy.json["requestId"] for subscriber in subscribers for copy in subscriber.copies}
        return wanted <= told

    wait_for("every message ends in an outcome", settled, within_s, every_s=0.5)
    took = time.monotonic() - started
    for subscriber in subscribers:
        subscriber.receive(wait_s=1)
    return took


def heads(stack: Stack) -> list[Json]:
    return [item for item in scan(stack, "accountsTable") if item["item"] == "head"]


class Audit:
    """What is there, held against what was sent."""

    def __init__(
        self,
        stack: Stack,
        sent: list[Sent],
        subscribers: list[Subscriber],
        in_order: bool,
        crashed: bool = False,
        unwanted: Iterable[str] = (),
    ) -> None:
        self.stack, self.subscribers, self.in_order, self.crashed = stack, subscribers, in_order, crashed
        # Somebody asked for these to be cancelled: they are, or it came too late.
        self.unwanted = set(unwanted)
        self.problems: list[str] = []
        self.by_id: dict[str, list[Sent]] = defaultdict(list)
        for message in sent:
            self.by_id[message.id].append(message)
        found = scan(stack, "requestsTable")
        # Refusals by the message they answer: the copy under the message's own id, or what stands under the id it
        # names, which has no copy where a worker died between the two writes.
        refused = [item for item in found if item["status"] == "rejected" and "messageId" in item]
        refused.sort(key=lambda item: item["requestId"].startswith("sqs:"))
        self.refusals = {item["messageId"]: item for item in refused}
        kept = {item["requestId"] for item in self.refusals.values()} - set(self.by_id)
        self.items = {item["requestId"]: item for item in found if item["requestId"] not in kept}
        self.expect(len(found) == len(self.items) + len(kept), "an id has two items")
        self.transactions = self.read_chain()
        # What each request that was signed asks for.
        self.signed: dict[str, Ask] = {}

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def read_chain(self) -> list[Json]:
        """Every transaction of our accounts in any block, with its receipt."""
        ours = {address.lower() for address in self.stack.addresses.values()}
        found = [tx for block in self.stack.rpc.blocks() for tx in block["transactions"] if tx["from"].lower() in ours]
        receipts = self.stack.rpc.calls([("eth_getTransactionReceipt", [tx["hash"]]) for tx in found])
        for tx, receipt in zip(found, receipts, strict=True):
            tx["receipt"] = receipt
        return found

    def run(self) -> None:
        """All of it. Fails with every problem at once."""
        for id in self.by_id:
            self.judge_item(id)
        self.expect(
            set(self.items) == set(self.by_id), f"other ids are stored than sent: {set(self.items) ^ set(self.by_id)}"
        )
        self.judge_chain()
        self.judge_slots()
        self.judge_outcomes()
        self.judge_queues()
        assert not self.problems, "\n".join([f"{len(self.problems)} problem(s)", *self.problems[:50]])

    def judge_item(self, id: str) -> None:
        """The one item of an id: of the right status, of the first contents, closed, in its published shape."""
        item = self.items.get(id)
        if item is None:
            self.problems.append(f"{id}: has no item")
            return
        for error in STATUS.iter_errors(item):
            self.problems.append(f"{id}: the item is not request-status.v1: {error.json_path} {error.message}")
        for name in ("publishedAt", "settledAt", "expiresAt"):
            self.expect(name in item, f"{id}: {item['status']} without {name}")
        self.judge_expiry(id, item)
        message = self.by_id[id][0].message
        if message.ask is None:
            self.expect(item["status"] == "rejected", f"{id}: is {item['status']}, not rejected")
            code = item.get("reason", {}).get("code")
            self.expect(code == message.code, f"{id}: is rejected as {code}, not {message.code}")
            self.expect("nonce" not in item, f"{id}: is rejected and has a nonce")
            return
        if item["status"] == "rejected" and message.ask.deadline is not None:
            # It waited in the queue for too long: nothing was reserved.
            code = item.get("reason", {}).get("code")
            self.expect(code == "deadlinePassed" and "nonce" not in item, f"{id}: is rejected as {code}")
            return
        asked = list(dict.fromkeys(sent.message.ask for sent in self.by_id[id] if sent.message.ask))
        won = [ask for ask in (asked[:1] if self.in_order else asked) if self.is_of(item, ask)]
        self.expect(len(won) == 1, f"{id}: {item} is not what was asked: {asked}")
        for ask in won:
            self.signed[id] = ask
            reason = item.get("reason", {})
            if item["status"] == "cancelled":
                causes = self.causes(id, ask)
                self.expect(reason.get("code") in causes, f"{id}: is cancelled, not {ask.ends}: {reason}, not {causes}")
                continue
            self.expect(item["status"] == ask.ends, f"{id}: is {item['status']}, not {ask.ends}: {reason}")
            if ask.ends == "reverted":
                text = reason.get("revert", {}).get("text", "")
                self.expect(REASON in text, f"{id}: the revert is told as {reason}, not as {REASON}")

    def judge_expiry(self, id: str, item: Json) -> None:
        """It is kept for the whole retention after its outcome was published, a rejection at least from when it
        was made; in whole seconds, which are what DynamoDB's TTL takes."""
        if not {"publishedAt", "expiresAt"} <= item.keys():
            return
        latest = (item["publishedAt"] + RETENTION_MS) // 1000
        earliest = (item["createdAt"] + RETENTION_MS) // 1000 if item["status"] == "rejected" else latest
        self.expect(
            earliest <= item["expiresAt"] <= latest,
            f"{id}: is kept until {item['expiresAt']}, not from {earliest} to {latest}",
        )

    def causes(self, id: str, ask: Ask) -> list[str]:
        """The reasons for which a request may be cancelled."""
        asked = ["cancelled"] if id in self.unwanted else []
        return asked + (["deadlinePassed"] if ask.deadline is not None else [])

    def is_of(self, item: Json, ask: Ask) -> bool:
        """Whether an item is of these contents."""
        fee = dict(ask.fee) or {"gasPrice": CONFIGURED_WEI}
        stored = {name: item.get(name) for name in ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")}
        return (
            item.get("account") == f"{CHAIN_ID}:{self.stack.addresses[ask.account].lower()}"
            and (item.get("to") or "").lower() == (ask.to or "")
            and item.get("value") == str(ask.value)
            and item.get("data") == ask.data
            and item.get("gas") == ask.gas
            and item.get("deadline") == ask.deadline
            and stored == {name: str(fee[name]) if name in fee else None for name in stored}
            and item.get("metadata") == (json.loads(ask.metadata) if ask.metadata else None)
        )

    def judge_chain(self) -> None:
        """One transaction per signed request and none else, as asked, its nonces without a gap."""
        by_hash = {tx["hash"]: tx for tx in self.transactions}
        self.expect(len(by_hash) == len(self.transactions), "a transaction is in two blocks")
        claimed = Counter(item["txHash"] for item in self.items.values() if "txHash" in item)
        self.expect(
            set(claimed) == set(by_hash), f"other transactions are mined than told of: {set(claimed) ^ set(by_hash)}"
        )
        self.expect(all(count == 1 for count in claimed.values()), "two requests claim one transaction")
        self.expect(len(by_hash) == len(self.signed), f"{len(by_hash)} transactions for {len(self.signed)} requests")
        for name, address in self.stack.addresses.items():
            nonces = sorted(int(tx["nonce"], 16) for tx in self.transactions if tx["from"].lower() == address.lower())
            self.expect(nonces == list(range(len(nonces))), f"the nonces of {name} are not contiguous: {nonces}")
        for id, ask in self.signed.items():
            tx = by_hash.get(self.items[id]["txHash"])
            if tx is not None:
                self.judge_transaction(id, ask, tx)

    def judge_transaction(self, id: str, ask: Ask, tx: Json) -> None:
        item, receipt = self.items[id], tx["receipt"]
        if item["status"] == "cancelled":
            # Nothing of what was asked for: a transfer of 1 wei, or of nothing, to itself, in the same slot.
            wei = min(int(tx["value"], 16), 1)
            ask = replace(ask, to=item["from"].lower(), value=wei, data="0x", gas=21_000, ends="confirmed")
        fee = dict(ask.fee) or {"gasPrice": CONFIGURED_WEI}
        bumped = len(item["attempts"]) > 1
        facts = [
            ("from", tx["from"].lower(), self.stack.addresses[ask.account].lower()),
            ("nonce", int(tx["nonce"], 16), item["nonce"]),
            ("to", tx["to"], ask.to),
            ("value", int(tx["value"], 16), ask.value),
            ("input", tx["input"], ask.data),
            ("gas", int(tx["gas"], 16), ask.gas),
            ("chain", int(tx["chainId"], 16), CHAIN_ID),
            ("type", int(tx["type"], 16), 0 if "gasPrice" in fee else 2),
            ("block", int(tx["blockNumber"], 16), item["blockNumber"]),
            ("block hash", tx["blockHash"], item["blockHash"]),
            ("status", int(receipt["status"], 16), int(ask.ends == "confirmed")),
            ("gas used", int(receipt["gasUsed"], 16), item["gasUsed"]),
            ("price", str(int(receipt["effectiveGasPrice"], 16)), item["effectiveGasPrice"]),
        ]
        facts += [(name, int(tx[name], 16), wei) for name, wei in fee.items() if not bumped]
        for name, found, wanted in facts:
            self.expect(found == wanted, f"{id}: {name} is {found} on chain, not {wanted}")
        self.expect(int(tx["s"], 16) <= HALF_ORDER, f"{id}: s of the signature is high")
        self.expect(tx["hash"] in {attempt["txHash"] for attempt in item["attempts"]}, f"{id}: was not stored first")
        if ask.to is None:
            created = (receipt["contractAddress"] or "").lower()
            self.expect(item.get("contractAddress", "").lower() == created, f"{id}: the contract is at {created}")

    def judge_slots(self) -> None:
        """The accounts table says the same: a slot per transaction, all left behind."""
        slots: dict[str, dict[int, str]] = defaultdict(dict)
        for entry in scan(self.stack, "accountsTable"):
            kind, _, nonce = entry["item"].partition("#")
            if kind == "nonce":
                slots[entry["account"]][int(nonce)] = entry["requestId"]
                self.judge_slot_expiry(entry)
        for head in heads(self.stack):
            account = head["account"]
            ids = {
                item["nonce"]: id
                for id, item in self.items.items()
                if item.get("account") == account and "nonce" in item
            }
            self.expect(slots[account] == ids, f"the slots of {account} are not those of its requests")
            for mark in ("nextNonce", "lowestOpenNonce"):
                self.expect(head[mark] == len(ids), f"{mark} of {account} is {head[mark]}, not {len(ids)}")

    def judge_slot_expiry(self, slot: Json) -> None:
        """A slot is kept as long as its request, and not for ever: only a crash between two writes may leave it."""
        id = slot["requestId"]
        if "expiresAt" not in slot:
            self.expect(self.crashed, f"the slot of {id} never expires")
            return
        kept_until = self.items.get(id, {}).get("expiresAt", 0)
        latest = (time.time_ns() // 1_000_000 + RETENTION_MS) // 1000
        self.expect(
            kept_until <= slot["expiresAt"] <= latest,
            f"the slot of {id} is kept until {slot['expiresAt']}, not from {kept_until} to {latest}",
        )

    def judge_outcomes(self) -> None:
        """One outcome per message, but for those that another message's record answers; all copies equal, each where
        it was asked for."""
        events: dict[str, set[str]] = defaultdict(set)
        for subscriber in self.subscribers:
            for copy in subscriber.copies:
                outcome = copy.json
                self.judge_copy(subscriber, copy, outcome)
                events[outcome["eventId"]].add(copy.body)
        told: dict[str, list[Json]] = defaultdict(list)
        for bodies in events.values():
            outcome = json.loads(next(iter(bodies)))
            self.expect(len(bodies) == 1, f"{outcome['requestId']}: copies of one outcome differ: {bodies}")
            told[outcome["messageId"]].append(outcome)
            self.judge_outcome(outcome)
        for id, messages in self.by_id.items():
            for sent in messages:
                self.judge_message(id, sent, told.pop(sent.message_id, []))
        self.expect(not told, f"outcomes of messages that nobody sent: {dict(told)}")

    def judge_message(self, id: str, sent: Sent, outcomes: list[Json]) -> None:
        """The outcome of one message: its record's, its refusal, or none where another's record is what it asks for."""
        item = self.items.get(id, {})
        found = [(outcome["status"], outcome["requestId"]) for outcome in outcomes]
        if item.get("status") != "rejected" and item.get("messageId") == sent.message_id:
            self.expect(found == [(item["status"], id)], f"{id}: {sent.message_id} is told as {found}")
        elif item.get("status") != "rejected" and not outcomes:
            same = sent.message.ask is not None and self.signed.get(id) == sent.message.ask
            self.expect(same, f"{id}: {sent.message_id} has no outcome, and is not what the record is of")
        else:
            own = f"sqs:{sent.message_id}"
            self.expect(found in ([("rejected", id)], [("rejected", own)]), f"{id}: {sent.message_id} is told as {found}")
        if [where for _, where in found if where != id]:
            reason = outcomes[0]["reason"]
            conflict = (reason["code"], reason.get("requestId"), item.get("status") != "rejected")
            self.expect(conflict == (REUSED, id, True), f"{id}: {sent.message_id} is told beside it: {reason}")

    def judge_copy(self, subscriber: Subscriber, copy: Copy, outcome: Json) -> None:
        id = outcome["requestId"]
        for error in OUTCOME.iter_errors(outcome):
            self.problems.append(f"{id}: the outcome is not outcome.v1: {error.json_path} {error.message}")
        self.expect(outcome["status"] in subscriber.statuses, f"{id}: {outcome['status']} passed the filter")
        about = {name: str(outcome[name]) for name in ("status", "account", "chainId") if name in outcome}
        self.expect(copy.attributes == about, f"{id}: the message attributes are {copy.attributes}, not {about}")
        if "txHash" in outcome:
            words = "\0".join([id, outcome["status"], outcome["txHash"]])
        else:
            words = f"outcome.v1\nrequestId={id}\nstatus=rejected\nmessage={outcome['messageId']}"
        event_id = hashlib.sha256(words.encode()).hexdigest()
        self.expect(outcome["eventId"] == event_id, f"{id}: the event id is not {event_id}")

    def judge_outcome(self, outcome: Json) -> None:
        """What is told is what is stored: of a refusal, by its message, whatever has its id by now."""
        id = outcome["requestId"]
        same = ["status", "digest", "chainId", "from", "nonce", "txHash", "blockNumber", "blockHash", "gasUsed"]
        same += ["effectiveGasPrice", "contractAddress", "reason", "metadata", "sender", "messageId"]
        if outcome["status"] == "rejected":
            item = self.refusals.get(outcome["messageId"])
            said_as = item and item.get("saidAs", item["requestId"])
            self.expect(said_as == id, f"{id}: is told as rejected, and kept as {said_as}")
        else:
            item = self.items.get(id)
            same += ["settledAt", "account"]
        if item is None:
            self.problems.append(f"{id}: an outcome is out of what is not stored: {outcome}")
            return
        for name in same:
            self.expect(
                outcome.get(name) == item.get(name),
                f"{id}: {name} is {outcome.get(name)} in the outcome, {item.get(name)} in the item",
            )

    def judge_queues(self) -> None:
        """Nothing is left in the signing queue, and nothing was set aside."""
        sqs = self.stack.aws("sqs")
        left = queue_depth(sqs, self.stack.signing_queue)
        self.expect(left == 0, f"{left} message(s) are left in the signing queue")
        dead = [url for url in sqs.list_queues()["QueueUrls"] if "-dlq" in url]
        self.expect(len(dead) == 3, f"there are dead-letter queues {dead}, not one per queue")
        # A poke that outlived many workers may be set aside: the sweep replaces it, and nothing is in it.
        for url in (url for url in dead if "signing" in url or not self.crashed):
            self.expect(queue_depth(sqs, url) == 0, f"{url} is not empty")
