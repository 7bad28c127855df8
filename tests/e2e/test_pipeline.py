"""A plain AWS client against `signpost dev`: each message ends in one correct outcome."""

from __future__ import annotations

import json
import random

from audit import ON_CHAIN, Audit, Subscriber, deploy, get, published, settle
from conftest import StartStack
from scenario import CAP_WEI, Backend, Message, mixed, send

MESSAGES = 200


def test_every_message_ends_in_one_correct_outcome(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--account", "hot", "--account", "cold")
    subscribers = [Subscriber(stack, "executed", ON_CHAIN), Subscriber(stack, "refused", ["rejected"])]
    backend = Backend(rng, stack.addresses, "pay")
    sent, contract = deploy(stack, backend)
    sent += send(stack.aws("sqs"), stack.signing_queue, mixed(backend, MESSAGES - len(sent), contract))
    took = settle(stack, sent, subscribers, within_s=120)
    print(f"{len(sent)} messages settled in {took:.1f} s")
    audit = Audit(stack, sent, subscribers, in_order=True)
    audit.run()
    assert stack.kms_signatures() == len(audit.transactions), "KMS signed more often than there are transactions"


def test_rejected_id_may_be_sent_again_once_corrected(dev: StartStack) -> None:
    stack = dev()
    everything = Subscriber(stack, "everything", [*ON_CHAIN, "rejected"])
    sqs = stack.aws("sqs")
    # With a single account a request needs no account name.
    fields = {"requestId": "invoice-1", "to": "0x" + "aa" * 20, "gas": 21_000, "value": 1}
    overpriced, valid = (
        Message(json.dumps({**fields, "gasPrice": price}), "hot", "invoice-1") for price in (CAP_WEI + 1, CAP_WEI)
    )

    send(sqs, stack.signing_queue, [overpriced])
    refused = published(stack, "invoice-1")
    assert (refused["status"], refused["reason"]["code"]) == ("rejected", "feeTooHigh")
    send(sqs, stack.signing_queue, [valid])
    confirmed = published(stack, "invoice-1", "confirmed")
    assert confirmed["nonce"] == 0

    # Now the id is in use: the same contents are a copy, other contents are a conflict.
    send(sqs, stack.signing_queue, [valid, overpriced])
    outcomes = everything.receive_until(3)
    results = [(outcome["status"], outcome.get("reason", {}).get("code")) for outcome in outcomes]
    assert results == [("rejected", "feeTooHigh"), ("confirmed", None), ("rejected", "requestIdReused")]
    assert get(stack, "invoice-1") == confirmed, "the conflict changed the request"
