"""A lane that is busy for an hour is one chain of passes, each queued by the one before. By default Lambda would stop
it as a recursive loop."""

from __future__ import annotations

import json

import pytest

from functions import Deployment, arn
from lineage import ROUNDS_MAX, SqsProxy, LoopStopped, sent_through, shipped, template
from runtime_api import Function, batch, failures, record

HOUR_S = 3_600
# The timeout of a pass here, instead of the template's minute: the passes of an hour then take two minutes.
PASS_S = 1.5
# On a busy machine a pass may time out. Then the message is redelivered, as in Lambda.
TRIES = 10


def passes_of_an_hour() -> int:
    """The number of passes in an hour with the template's timeout, plus a tenth: a pass ends a little before its
    timeout."""
    timeout_s: int = template.properties(template.load(), "BroadcasterFunction")["Timeout"]
    return HOUR_S // timeout_s * 11 // 10


def next_pass(deployment: Deployment) -> str:
    """The body of the poke with which a pass queued the next one. A redelivered pass has sent more than one."""
    sqs, found = deployment.stack.aws("sqs"), []
    # No long poll: the pass has answered, so its messages are already in the queue.
    while messages := sqs.receive_message(QueueUrl=deployment.broadcast, MaxNumberOfMessages=10, WaitTimeSeconds=0).get(
        "Messages"
    ):
        for message in messages:
            found.append(message["Body"])
            sqs.delete_message(QueueUrl=deployment.broadcast, ReceiptHandle=message["ReceiptHandle"])
    assert found, "a pass at its time limit queues the next one"
    assert all(json.loads(poke)["cause"].startswith("next pass") for poke in found), found
    return found[-1]


def chain(deployment: Deployment, sent: SqsProxy, broadcaster: Function, configured: str, rounds: int) -> list[int]:
    """Runs passes over a lane with an unmined transaction. Returns the invocation count in the poke of each pass."""
    behind, event, counted = 0, deployment.poke(), []
    for _ in range(rounds):
        for _ in range(TRIES):
            if sent.invoke(broadcaster, configured, batch(event), behind, PASS_S) == failures():
                break
        else:
            raise AssertionError(f"no pass ends within {PASS_S} s")
        poke = next_pass(deployment)
        event = record(poke, arn(deployment.broadcast), "next", json.loads(poke)["account"])
        behind = sent.rounds(poke)
        counted.append(behind)
    return counted


def test_lane_busy_for_an_hour_is_one_unbroken_chain_of_passes(deployment: Deployment) -> None:
    rounds = passes_of_an_hour()
    assert rounds > 3 * ROUNDS_MAX
    with deployment.signer() as signer, sent_through(
        deployment.stack.ready["awsEndpoint"]
    ) as sent, deployment.no_blocks():
        assert signer.invoke(batch(deployment.ask("a"))) == failures()
        deployment.pokes()
        with deployment.broadcaster(AWS_ENDPOINT_URL=sent.url) as broadcaster:
            # The SDK forwards the chain's count to SQS, and no pass is refused because of it.
            counted = chain(deployment, sent, broadcaster, shipped("BroadcasterFunction"), rounds)
            assert counted == list(range(1, rounds + 1))
            assert deployment.item("a")["status"] == "sent"


def test_lambda_stops_the_chain_after_sixteen_passes_by_default(deployment: Deployment) -> None:
    with deployment.signer() as signer, sent_through(
        deployment.stack.ready["awsEndpoint"]
    ) as sent, deployment.no_blocks():
        assert signer.invoke(batch(deployment.ask("a"))) == failures()
        deployment.pokes()
        with deployment.broadcaster(AWS_ENDPOINT_URL=sent.url) as broadcaster:
            assert chain(deployment, sent, broadcaster, "Terminate", ROUNDS_MAX) == list(range(1, ROUNDS_MAX + 1))
            with pytest.raises(LoopStopped, match="after 16 invocations"):
                sent.invoke(broadcaster, "Terminate", batch(deployment.poke()), ROUNDS_MAX, PASS_S)
    assert shipped("SignDirectFunction") == "Terminate"
