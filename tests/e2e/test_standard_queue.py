"""The same messages through a standard queue: unordered, each sent twice, with two signers at once."""

from __future__ import annotations

import random

from audit import ON_CHAIN, Audit, Subscriber, deploy, settle
from conftest import StartStack
from scenario import Backend, mixed, send

MESSAGES = 200


def test_duplicates_and_races_on_a_standard_queue_change_nothing(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--no-worker", "--standard-queue", "--account", "hot", "--account", "cold")
    assert not stack.signing_queue.endswith(".fifo")
    for stage in ("signer", "signer", "broadcaster"):
        stack.start_worker("--stage", stage)
    subscribers = [Subscriber(stack, "executed", ON_CHAIN), Subscriber(stack, "refused", ["rejected"])]
    backend = Backend(rng, stack.addresses, "std")
    sent, contract = deploy(stack, backend)
    sent += send(stack.aws("sqs"), stack.signing_queue, mixed(backend, MESSAGES - len(sent), contract), times=2)
    settle(stack, sent, subscribers, within_s=120)
    audit = Audit(stack, sent, subscribers, in_order=False)
    audit.run()
    # The signer that loses a race for an attempt makes an unused signature; no other unused signature is allowed.
    assert stack.kms_signatures() >= len(audit.transactions)
    for worker in stack.workers:
        assert worker.ended is None, f"{worker.name} ended with {worker.ended}"
        assert worker.stop() == 0, f"{worker.name} did not exit with 0"
