"""Checks the result of messages: the table, the chain, the queues and the topic must agree with each other and with
the requests.

Counts stored and mined data, never sent messages. Collects every problem before it fails.
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
# Statuses that need a finalized block with the slot's nonce.
SETTLED = (*ON_CHAIN, "cancelled", "displaced")
REUSED = "requestIdReused"
# Retention of a closed request and its slot, as configured in the local stack and in the template.
RETENTION_MS = 90 * 24 * 3_600 * 1_000
# Half of the curve's order. Nodes refuse a signature with a higher s (EIP-2).
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def schema(name: str) -> Draft202012Validator:
    contents = json.loads((ROOT / "schemas" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(contents)
    return Draft202012Validator(contents)


STATUS, OUTCOME = schema("request-status.v1"), schema("outcome.v1")


def plain(value: Any) -> Any:
    """Converts a DynamoDB value to JSON as in request-status.v1: whole numbers, bytes as hex."""
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
    """Converts a DynamoDB item to the JSON of the schema. Metadata is stored as text, so its numbers stay as
    written."""
    read_value = TypeDeserializer().deserialize
    fields = {name: plain(read_value(value)) for name, value in item.items()}
    if "metadata" in fields:
        fields["metadata"] = json.loads(fields["metadata"])
    return fields


def get(stack: Stack, id: str) -> Json | None:
    """The item that a backend reads for the status of a request."""
    table = stack.ready["requestsTable"]
    key = {"requestId": {"S": id}}
    found = stack.aws("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    return read(found) if found else None


def published(stack: Stack, id: str, status: str | None = None, within_s: float = 60) -> Json:
    """The item of a request, once its outcome is published; with `status`, once an outcome of this status is."""

    def look() -> Json | None:
        item = get(stack, id)
        return item if item and "publishedAt" in item and status in (None, item["status"]) else None

    return wait_for(f"{id} is published", look, within_s)


def deploy(stack: Stack, backend: Backend) -> tuple[list[Sent], str]:
    """Creates a contract. Returns the sent messages and the contract's address in lower case."""
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
    """An outcome as received from a queue."""

    attributes: dict[str, str]
    body: str

    @property
    def json(self) -> Json:
        parsed: Json = json.loads(self.body)
        return parsed


class Subscriber:
    """A backend's SQS queue, subscribed to the outcome topic with a filter on statuses."""

    def __init__(self, stack: Stack, name: str, statuses: Iterable[str]) -> None:
        self.statuses = list(statuses)
        self.sqs = stack.aws("sqs")
        self.copies: list[Copy] = []
        self.url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        stack.aws("sns").subscribe(
            TopicArn=stack.ready["outcomeTopicArn"],
            Protocol="sqs",
            Endpoint=found["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"status": self.statuses})},
        )

    def receive(self, wait_s: int = 0) -> int:
        """Receives all available messages. Returns their number."""
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
        """All received outcomes, once there are at least `count` copies."""

        def enough() -> bool:
            self.receive()
            return len(self.copies) >= count

        wait_for(f"{count} copies of outcomes", enough, within_s)
        return [copy.json for copy in self.copies]


VISIBLE, IN_FLIGHT = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"


def queue_depth(sqs: Any, url: str, *states: str) -> int:
    """Number of messages in a queue: visible, in flight, or (by default) both."""
    names = list(states or (VISIBLE, IN_FLIGHT))
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def settle(stack: Stack, sent: list[Sent], subscribers: list[Subscriber], within_s: float) -> float:
    """Waits until every message is consumed, every request is closed and no outcome is missing. Returns the seconds."""
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
        published_ids = {copy.json["requestId"] for subscriber in subscribers for copy in subscriber.copies}
        return wanted <= published_ids

    wait_for("every message ends in an outcome", settled, within_s, every_s=0.5)
    took = time.monotonic() - started
    for subscriber in subscribers:
        subscriber.receive(wait_s=1)
    return took


def heads(stack: Stack) -> list[Json]:
    return [item for item in scan(stack, "accountsTable") if item["item"] == "head"]


class Audit:
    """Stored, mined and published data, checked against the sent messages."""

    def __init__(
        self,
        stack: Stack,
        sent: list[Sent],
        subscribers: list[Subscriber],
        in_order: bool,
        crashed: bool = False,
        cancel_requested: Iterable[str] = (),
    ) -> None:
        self.stack, self.subscribers, self.in_order, self.crashed = stack, subscribers, in_order, crashed
        # A cancel was requested for these ids. It succeeded, or it came too late.
        self.cancel_requested = set(cancel_requested)
        self.problems: list[str] = []
        self.by_id: dict[str, list[Sent]] = defaultdict(list)
        for message in sent:
            self.by_id[message.id].append(message)
        found = scan(stack, "requestsTable")
        # Refusals by message id. A refusal is stored under the message's own id and under the request id. The first one
        # is missing if a worker died between the two writes; then the second one is used.
        refused = [item for item in found if item["status"] == "rejected" and "messageId" in item]
        refused.sort(key=lambda item: item["requestId"].startswith("sqs:"))
        self.refusals = {item["messageId"]: item for item in refused}
        kept = {item["requestId"] for item in self.refusals.values()} - set(self.by_id)
        self.items = {item["requestId"]: item for item in found if item["requestId"] not in kept}
        self.expect(len(found) == len(self.items) + len(kept), "an id has two items")
        self.transactions = self.read_chain()
        # The contents of each signed request.
        self.signed: dict[str, Ask] = {}

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def read_chain(self) -> list[Json]:
        """Every mined transaction of our accounts, with its receipt."""
        ours = {address.lower() for address in self.stack.addresses.values()}
        found = [tx for block in self.stack.rpc.blocks() for tx in block["transactions"] if tx["from"].lower() in ours]
        receipts = self.stack.rpc.calls([("eth_getTransactionReceipt", [tx["hash"]]) for tx in found])
        for tx, receipt in zip(found, receipts, strict=True):
            tx["receipt"] = receipt
        return found

    def run(self) -> None:
        """Runs all checks. Fails with every problem at once."""
        for id in self.by_id:
            self.check_item(id)
        self.expect(
            set(self.items) == set(self.by_id), f"stored and sent ids differ: {set(self.items) ^ set(self.by_id)}"
        )
        self.check_chain()
        self.check_slots()
        self.check_outcomes()
        self.check_queues()
        assert not self.problems, "\n".join([f"{len(self.problems)} problem(s)", *self.problems[:50]])

    def check_item(self, id: str) -> None:
        """Checks the one item of an id: its status, its contents, that it is closed, and its schema."""
        item = self.items.get(id)
        if item is None:
            self.problems.append(f"{id}: has no item")
            return
        for error in STATUS.iter_errors(item):
            self.problems.append(f"{id}: the item is not request-status.v1: {error.json_path} {error.message}")
        for name in ("publishedAt", "settledAt", "expiresAt"):
            self.expect(name in item, f"{id}: {item['status']} without {name}")
        self.check_expiry(id, item)
        message = self.by_id[id][0].message
        if message.ask is None:
            self.expect(item["status"] == "rejected", f"{id}: is {item['status']}, not rejected")
            code = item.get("reason", {}).get("code")
            self.expect(code == message.code, f"{id}: is rejected as {code}, not {message.code}")
            self.expect("nonce" not in item, f"{id}: is rejected and has a nonce")
            return
        if item["status"] == "rejected" and message.ask.deadline is not None:
            # The deadline passed in the queue: no nonce was reserved.
            code = item.get("reason", {}).get("code")
            self.expect(code == "deadlinePassed" and "nonce" not in item, f"{id}: is rejected as {code}")
            return
        asked = list(dict.fromkeys(sent.message.ask for sent in self.by_id[id] if sent.message.ask))
        matching = [ask for ask in (asked[:1] if self.in_order else asked) if self.is_of(item, ask)]
        self.expect(len(matching) == 1, f"{id}: {item} does not match the request: {asked}")
        for ask in matching:
            self.signed[id] = ask
            reason = item.get("reason", {})
            if item["status"] == "cancelled":
                causes = self.causes(id, ask)
                self.expect(
                    reason.get("code") in causes,
                    f"{id}: is cancelled, not {ask.ends}: {reason}, expected one of {causes}",
                )
                continue
            self.expect(item["status"] == ask.ends, f"{id}: is {item['status']}, not {ask.ends}: {reason}")
            if ask.ends == "reverted":
                text = reason.get("revert", {}).get("text", "")
                self.expect(REASON in text, f"{id}: the revert is reported as {reason}, not as {REASON}")

    def check_expiry(self, id: str, item: Json) -> None:
        """Checks expiresAt: the full retention after the outcome was published; for a rejection, at least the full
        retention after it was created. In whole seconds, the unit of DynamoDB's TTL."""
        if not {"publishedAt", "expiresAt"} <= item.keys():
            return
        latest = (item["publishedAt"] + RETENTION_MS) // 1000
        earliest = (item["createdAt"] + RETENTION_MS) // 1000 if item["status"] == "rejected" else latest
        self.expect(
            earliest <= item["expiresAt"] <= latest,
            f"{id}: expires at {item['expiresAt']}, not between {earliest} and {latest}",
        )

    def causes(self, id: str, ask: Ask) -> list[str]:
        """The reason codes with which a request may be cancelled."""
        asked = ["cancelled"] if id in self.cancel_requested else []
        return asked + (["deadlinePassed"] if ask.deadline is not None else [])

    def is_of(self, item: Json, ask: Ask) -> bool:
        """Whether an item has these contents."""
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

    def check_chain(self) -> None:
        """Checks for exactly one transaction per signed request, with the requested contents and contiguous nonces."""
        by_hash = {tx["hash"]: tx for tx in self.transactions}
        self.expect(len(by_hash) == len(self.transactions), "a transaction is in two blocks")
        claimed = Counter(item["txHash"] for item in self.items.values() if "txHash" in item)
        self.expect(
            set(claimed) == set(by_hash), f"mined and reported transactions differ: {set(claimed) ^ set(by_hash)}"
        )
        self.expect(all(count == 1 for count in claimed.values()), "two requests claim one transaction")
        self.expect(len(by_hash) == len(self.signed), f"{len(by_hash)} transactions for {len(self.signed)} requests")
        for name, address in self.stack.addresses.items():
            nonces = sorted(int(tx["nonce"], 16) for tx in self.transactions if tx["from"].lower() == address.lower())
            self.expect(nonces == list(range(len(nonces))), f"the nonces of {name} are not contiguous: {nonces}")
        for id, ask in self.signed.items():
            tx = by_hash.get(self.items[id]["txHash"])
            if tx is not None:
                self.check_transaction(id, ask, tx)

    def check_transaction(self, id: str, ask: Ask, tx: Json) -> None:
        item, receipt = self.items[id], tx["receipt"]
        if item["status"] == "cancelled":
            # The request was not executed: the slot has a transfer of 1 wei or 0 wei to the sender itself.
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
        self.expect(
            tx["hash"] in {attempt["txHash"] for attempt in item["attempts"]}, f"{id}: was not stored before the send"
        )
        if ask.to is None:
            created = (receipt["contractAddress"] or "").lower()
            self.expect(item.get("contractAddress", "").lower() == created, f"{id}: the contract is at {created}")

    def check_slots(self) -> None:
        """Checks that the accounts table agrees: one slot per transaction, and none of them is open."""
        slots: dict[str, dict[int, str]] = defaultdict(dict)
        for entry in scan(self.stack, "accountsTable"):
            kind, _, nonce = entry["item"].partition("#")
            if kind == "nonce":
                slots[entry["account"]][int(nonce)] = entry["requestId"]
                self.check_slot_expiry(entry)
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

    def check_slot_expiry(self, slot: Json) -> None:
        """Checks that a slot expires, and not before its request. Only a crash between two writes may skip its
        expiry."""
        id = slot["requestId"]
        if "expiresAt" not in slot:
            self.expect(self.crashed, f"the slot of {id} never expires")
            return
        kept_until = self.items.get(id, {}).get("expiresAt", 0)
        latest = (time.time_ns() // 1_000_000 + RETENTION_MS) // 1000
        self.expect(
            kept_until <= slot["expiresAt"] <= latest,
            f"the slot of {id} expires at {slot['expiresAt']}, not between {kept_until} and {latest}",
        )

    def check_outcomes(self) -> None:
        """Checks for one outcome per message, except messages that repeat another message's request. All copies of an
        outcome are equal, and each reached a subscriber of its status."""
        events: dict[str, set[str]] = defaultdict(set)
        for subscriber in self.subscribers:
            for copy in subscriber.copies:
                outcome = copy.json
                self.check_copy(subscriber, copy, outcome)
                events[outcome["eventId"]].add(copy.body)
        by_message: dict[str, list[Json]] = defaultdict(list)
        for bodies in events.values():
            outcome = json.loads(next(iter(bodies)))
            self.expect(len(bodies) == 1, f"{outcome['requestId']}: copies of one outcome differ: {bodies}")
            by_message[outcome["messageId"]].append(outcome)
            self.check_outcome(outcome)
        for id, messages in self.by_id.items():
            for sent in messages:
                self.check_message(id, sent, by_message.pop(sent.message_id, []))
        self.expect(not by_message, f"outcomes of messages that were never sent: {dict(by_message)}")

    def check_message(self, id: str, sent: Sent, outcomes: list[Json]) -> None:
        """Checks the outcome of one message: the outcome of its record, its own refusal, or none if it repeats the
        request of another message."""
        item = self.items.get(id, {})
        found = [(outcome["status"], outcome["requestId"]) for outcome in outcomes]
        if item.get("status") != "rejected" and item.get("messageId") == sent.message_id:
            self.expect(found == [(item["status"], id)], f"{id}: {sent.message_id} has the outcomes {found}")
        elif item.get("status") != "rejected" and not outcomes:
            same = sent.message.ask is not None and self.signed.get(id) == sent.message.ask
            self.expect(same, f"{id}: {sent.message_id} has no outcome, and its contents are not those of the record")
        else:
            own = f"sqs:{sent.message_id}"
            allowed = ([("rejected", id)], [("rejected", own)])
            self.expect(found in allowed, f"{id}: {sent.message_id} has the outcomes {found}")
        if [where for _, where in found if where != id]:
            reason = outcomes[0]["reason"]
            conflict = (reason["code"], reason.get("requestId"), item.get("status") != "rejected")
            self.expect(
                conflict == (REUSED, id, True), f"{id}: {sent.message_id} is refused under its own id: {reason}"
            )

    def check_copy(self, subscriber: Subscriber, copy: Copy, outcome: Json) -> None:
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

    def check_outcome(self, outcome: Json) -> None:
        """Checks that the outcome equals the stored item. A refusal is found by its message, since another request may
        have the id by now."""
        id = outcome["requestId"]
        same = ["status", "digest", "chainId", "from", "nonce", "txHash", "blockNumber", "blockHash", "gasUsed"]
        same += ["effectiveGasPrice", "contractAddress", "reason", "metadata", "sender", "messageId"]
        if outcome["status"] == "rejected":
            item = self.refusals.get(outcome["messageId"])
            stored_as = item and item.get("saidAs", item["requestId"])
            self.expect(stored_as == id, f"{id}: is published as rejected, and stored as {stored_as}")
        else:
            item = self.items.get(id)
            same += ["settledAt", "account"]
        if item is None:
            self.problems.append(f"{id}: an outcome has no stored item: {outcome}")
            return
        for name in same:
            self.expect(
                outcome.get(name) == item.get(name),
                f"{id}: {name} is {outcome.get(name)} in the outcome, {item.get(name)} in the item",
            )

    def check_queues(self) -> None:
        """Checks that the signing queue and the dead-letter queues are empty."""
        sqs = self.stack.aws("sqs")
        left = queue_depth(sqs, self.stack.signing_queue)
        self.expect(left == 0, f"{left} message(s) are left in the signing queue")
        dead = [url for url in sqs.list_queues()["QueueUrls"] if "-dlq" in url]
        self.expect(len(dead) == 3, f"there are dead-letter queues {dead}, not one per queue")
        # After crashes a poke may be in a dead-letter queue. It holds no data, and the sweep replaces it.
        for url in (url for url in dead if "signing" in url or not self.crashed):
            self.expect(queue_depth(sqs, url) == 0, f"{url} is not empty")
