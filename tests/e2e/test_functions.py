"""The Lambda functions as processes, on a local Runtime API and the local stack: what Lambda hands them, what
they answer, what they refuse to start with."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from audit import get, published
from functions import Place, arn
from runtime_api import Failed, batch, failures, record
from stack import wait_for

SECRET = "topsecret"
# A function has a quarter of its time, at most 3 s, to come to its end and answer. So much of it a busy machine may
# take away before an answer in time looks late.
LONG_S = 12
# Lambda's patience with a function that has an extension, and how often a busy machine may be slower than it.
PATIENCE_S, TRIES = 0.5, 5
# SQS makes no such id: a rejected body cannot be recorded under it, and an assertion says so.
IMPOSSIBLE_ID = "no id of SQS"


def test_in_one_batch_a_bad_body_is_an_outcome_and_a_record_that_panics_fails_alone(place: Place) -> None:
    place.pokes()
    with place.signer() as signer:
        bad = record("not JSON", arn(place.signing), f"{place.name}-bad", "bad")
        broken = record("not JSON", arn(place.signing), IMPOSSIBLE_ID, "broken")
        answer = signer.invoke(batch(place.ask("a"), bad, broken, place.ask("b", "cold"), place.ask("c")))
        assert answer == failures(IMPOSSIBLE_ID)
        assert "panicked on one of these" in signer.log()
    assert [place.item(id)["status"] for id in ("a", "b", "c")] == ["signed"] * 3
    assert place.item("a")["nonce"] + 1 == place.item("c")["nonce"], "the retry took no nonce of its own"
    rejected = get(place.stack, f"sqs:{place.name}-bad")
    assert rejected is not None and rejected["status"] == "rejected" and "publishedAt" in rejected
    assert {poke["account"].split(":")[1] for poke in place.pokes()} == {
        address.lower() for address in place.stack.addresses.values()
    }


def test_after_a_failure_the_rest_of_its_group_is_returned_and_other_groups_go_on(place: Place) -> None:
    kms = place.stack.aws("kms")
    with place.signer() as signer:
        kms.disable_key(KeyId=place.key_ids["cold"])
        try:
            event = batch(place.ask("c1", "cold"), place.ask("h1"), place.ask("c2", "cold"), place.ask("h2"))
            assert signer.invoke(event) == failures("c1", "c2")
        finally:
            kms.enable_key(KeyId=place.key_ids["cold"])
        assert [place.item(id)["status"] for id in ("c1", "h1", "h2")] == ["reserved", "signed", "signed"]
    # The account is marked for a minute, in this execution. What has a slot is signed when the broadcaster asks, and
    # that clears the mark.
    with place.signer() as signer:
        item = place.item("c1")
        ask = {"requestId": item["requestId"], "account": item["account"], "attempt": 0, "kind": "execute", "cause": "e2e"}
        assert signer.invoke(batch(record(ask, arn(place.resign), "resign", item["account"]))) == failures()
        # Lambda delivers them again, in their order.
        assert signer.invoke(batch(place.ask("c1", "cold"), place.ask("c2", "cold"))) == failures()
    assert [place.item(id)["status"] for id in ("c1", "c2")] == ["signed", "signed"]
    assert place.item("c1")["nonce"] + 1 == place.item("c2")["nonce"]


def test_one_function_serves_both_queues_of_the_signer_and_returns_what_is_of_neither(place: Place) -> None:
    with place.signer() as signer:
        assert signer.invoke(batch(place.ask("a"))) == failures()
        item = place.item("a")
        price = str(int(item["gasPrice"]) * 2)
        ask = {"requestId": item["requestId"], "account": item["account"], "attempt": 1, "kind": "execute", "cause": "e2e"}
        ask["fee"] = {"gasPrice": price}
        assert signer.invoke(batch(record(ask, arn(place.resign), "resign", item["account"]))) == failures()
        assert [attempt["fee"]["gasPrice"] for attempt in place.item("a")["attempts"]] == [item["gasPrice"], price]

        stranger = "arn:aws:sqs:us-east-1:000000000000:somebody-elses.fifo"
        foreign = [record(place.ask(id)["body"], stranger, id) for id in ("x", "y")]
        assert signer.invoke(batch(*foreign)) == failures("x", "y")
        assert "somebody-elses.fifo" in signer.log() and "SIGNPOST_RESIGN_QUEUE_URL" in signer.log()
        assert get(place.stack, f"{place.name}-x") is None
        with pytest.raises(Failed, match="neither a batch of SQS records"):
            signer.invoke({"detail-type": "Scheduled Event"})
        with pytest.raises(Failed, match="no task \"sweep\""):
            signer.invoke({"signpost": "sweep"})


@contextmanager
def kms_that_never_signs(real: str) -> Iterator[str]:
    """A KMS that gives public keys, and answers no request for a signature while this lasts; its URL."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Quiet."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["X-Amz-Target"].endswith(".Sign"):
                over.wait()
                self.close_connection = True
                return
            request = urllib.request.Request(real, body, dict(self.headers.items()))
            with urllib.request.urlopen(request, timeout=30) as response:
                content = response.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def test_what_is_not_signed_in_time_is_returned_before_the_time_is_over(place: Place) -> None:
    with kms_that_never_signs(place.stack.ready["awsEndpoint"]) as kms, place.signer(AWS_ENDPOINT_URL_KMS=kms) as signer:
        begun = time.monotonic()
        assert signer.invoke(batch(place.ask("a"), place.ask("b")), timeout_s=LONG_S) == failures("a", "b")
        assert time.monotonic() - begun < LONG_S
        assert place.item("a")["status"] == "reserved"
    with place.signer() as signer:
        assert signer.invoke(batch(place.ask("a"), place.ask("b"))) == failures()


def test_a_pass_follows_a_lane_until_its_outcomes_are_published(place: Place) -> None:
    with place.signer() as signer, place.broadcaster() as broadcaster:
        assert signer.invoke(batch(place.ask("a"), place.ask("b"))) == failures()
        not_a_poke = record("not JSON", arn(place.broadcast), "bad", "bad")
        assert broadcaster.invoke(batch(place.poke(), not_a_poke), timeout_s=60) == failures()
        assert [place.item(id)["status"] for id in ("a", "b")] == ["confirmed"] * 2
        assert all("publishedAt" in place.item(id) for id in ("a", "b"))


def test_a_pass_whose_time_is_over_asks_for_the_next_one(place: Place) -> None:
    with place.signer() as signer, place.broadcaster() as broadcaster:
        with place.no_blocks():
            assert signer.invoke(batch(place.ask("a"))) == failures()
            place.pokes()
            begun = time.monotonic()
            assert broadcaster.invoke(batch(place.poke()), timeout_s=LONG_S) == failures()
            assert time.monotonic() - begun < LONG_S
            assert place.item("a")["status"] == "sent"
        (poke,) = place.pokes()
        assert poke["cause"].startswith("next pass"), poke
        again = record(poke, arn(place.broadcast), "again", poke["account"])
        assert broadcaster.invoke(batch(again), timeout_s=60) == failures()
        assert published(place.stack, f"{place.name}-a")["status"] == "confirmed"


def test_the_schedule_pokes_every_lane_with_open_slots(place: Place) -> None:
    with place.signer() as signer, place.broadcaster() as broadcaster:
        assert signer.invoke(batch(place.ask("a"), place.ask("b", "cold"))) == failures()
        place.pokes()
        assert broadcaster.invoke({"signpost": "sweep"}) == {"poked": 2}
        assert all(poke["cause"].startswith("sweep") for poke in place.pokes())
        # As records the pokes do what a lost one would have done; then nothing is open any more.
        assert broadcaster.invoke(batch(place.poke(), place.poke("cold", "other")), timeout_s=60) == failures()
        assert broadcaster.invoke({"signpost": "sweep"}) == {"poked": 0}
        with pytest.raises(Failed, match="no task \"sweeep\""):
            broadcaster.invoke({"signpost": "sweeep"})


def test_nodes_come_from_a_secret_that_no_log_shows(place: Place) -> None:
    secrets = place.stack.aws("secretsmanager")
    url = f"{place.stack.ready['rpcUrl']}/?key={SECRET}"
    arn_of_secret = secrets.create_secret(Name=place.name, SecretString=json.dumps({"rpc_urls": [url]}))["ARN"]
    with place.signer() as signer, place.broadcaster(SIGNPOST_RPC_SECRET_ARN=arn_of_secret, RUST_LOG="debug") as function:
        assert signer.invoke(batch(place.ask("a"))) == failures()
        assert function.invoke(batch(place.poke()), timeout_s=60) == failures()
        assert place.item("a")["status"] == "confirmed"
        assert "the broadcaster is ready" in function.log()
        assert SECRET not in function.log()


def test_an_idle_function_ends_within_lambdas_patience(place: Place) -> None:
    took = []
    for _ in range(TRIES):
        with place.signer() as signer:
            assert signer.invoke(batch()) == failures()
            assert signer.api.extension is not None and signer.api.extension[1] == {"events": []}
            assert signer.api.extension_listens.wait(60)
            took.append(signer.terminate())
        if took[-1] < PATIENCE_S:
            return
    pytest.fail(f"SIGTERM was obeyed after {took} s")


def test_at_the_end_what_is_in_hand_is_given_back_within_lambdas_patience(place: Place) -> None:
    with place.signer() as signer:
        assert signer.invoke(batch(place.ask("a"))) == failures()
    took = []
    for _ in range(TRIES):
        with place.broadcaster() as broadcaster, place.no_blocks():
            in_hand = broadcaster.send(batch(place.poke()), timeout_s=60)
            wait_for("the transaction is sent", lambda: place.item("a")["status"] == "sent", 60)
            wait_for("the lane is in hand", lambda: broadcaster.api.current is in_hand, 60)
            took.append(broadcaster.terminate())
            good, answer = in_hand.answer.get(timeout=5)
            assert good and answer == failures("poke")
        if took[-1] < PATIENCE_S:
            break
    else:
        pytest.fail(f"SIGTERM was obeyed after {took} s")
    with place.broadcaster() as broadcaster:
        assert broadcaster.invoke(batch(place.poke()), timeout_s=60) == failures()
    assert place.item("a")["status"] == "confirmed"


def test_every_problem_of_the_environment_is_told_at_once_by_its_variable(place: Place) -> None:
    with place.function("signer", {"SIGNPOST_CHAIN_ID": "bsc"}) as signer:
        told = signer.init_error()
    for name in ("SIGNPOST_CHAIN_ID must be", "SIGNPOST_SIGNING_QUEUE_URL is missing", "SIGNPOST_REQUESTS_TABLE is missing"):
        assert name in told, told
    assert "RPC" not in told, "the signer is not asked for nodes"
    with place.function("broadcaster", {}) as broadcaster:
        told = broadcaster.init_error()
    assert "SIGNPOST_RPC_SECRET_ARN is missing" in told and "SIGNPOST_FINALITY is missing" in told, told


def test_an_account_that_differs_from_its_pin_is_not_signed_for(place: Place) -> None:
    kms = place.stack.aws("kms")
    other = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    hot, pins = place.stack.addresses["hot"], place.pins()
    for accounts, expected in [
        (f"hot={hot}={other},{pins['cold']}", "listed with another key"),
        (f"warm={hot}={place.key_ids['hot']},{pins['cold']}", "listed as warm"),
        (pins["cold"], "not in the deployment's list"),
    ]:
        id = expected.split()[-1]
        with place.signer(SIGNPOST_ACCOUNTS=accounts) as signer:
            answer = signer.invoke(batch(place.ask(f"hot-{id}"), place.ask(f"cold-{id}", account="cold")))
            assert answer == failures(f"hot-{id}"), "the one is retried, the other is signed"
            log = signer.log()
            assert "notPinned" in log and "cannot be used" in log, log
    with place.signer() as signer:
        assert signer.invoke(batch()) == failures()
        assert "the signer is ready" in signer.log(), signer.log()
    for accounts, expected in [
        (f"hot=0x12={other}", "hot: the address"),
        ("hot", "hot: is not NAME=0xADDRESS=KMS_KEY"),
        (f"{pins['hot']},{pins['hot']}", "twice"),
    ]:
        with place.signer(SIGNPOST_ACCOUNTS=accounts) as signer:
            told = signer.init_error()
        assert "SIGNPOST_ACCOUNTS" in told and expected in told, told


def test_without_a_usable_seal_key_the_signer_does_not_start(place: Place) -> None:
    secrets = place.stack.aws("secretsmanager")
    short = secrets.create_secret(Name="too-short", SecretString="topsecret")["ARN"]
    for arn_of, expected in [("", "SIGNPOST_SEAL_SECRET_ARN is missing"), (short, "has 9 characters"), ("no-such-secret", "cannot be read")]:
        with place.signer(SIGNPOST_SEAL_SECRET_ARN=arn_of) as signer:
            told = signer.init_error()
        assert expected in told and "topsecret" not in told, told


def test_on_another_chain_neither_function_starts(place: Place) -> None:
    with place.signer(SIGNPOST_CHAIN_ID="56") as signer:
        told = signer.init_error()
        assert "56, and the registered accounts are on chain 97" in told and "SIGNPOST_CHAIN_ID" in told, told
    with place.broadcaster(SIGNPOST_CHAIN_ID="56") as broadcaster:
        told = broadcaster.init_error()
        assert "56, and the node is on chain 97" in told and "SIGNPOST_CHAIN_ID" in told, told


def test_without_a_policy_or_with_a_wrong_one_the_signer_does_not_start(place: Place) -> None:
    with place.signer(SIGNPOST_POLICY_FILE="") as signer:
        assert "policy.toml cannot be used" in signer.init_error()
    with place.signer(SIGNPOST_POLICY_FILE="", SIGNPOST_POLICY="[account.hot]") as signer:
        assert "max_gas_price_wei" in signer.init_error()


def test_a_secret_that_is_not_there_or_wrong_stops_the_broadcaster(place: Place) -> None:
    with place.broadcaster(SIGNPOST_RPC_SECRET_ARN="no-such-secret") as broadcaster:
        assert "SIGNPOST_RPC_SECRET_ARN: the secret cannot be read" in broadcaster.init_error()
    wrong = place.stack.aws("secretsmanager").create_secret(Name=f"{place.name}-wrong", SecretString=f'{{"urls": "{SECRET}"}}')
    with place.broadcaster(SIGNPOST_RPC_SECRET_ARN=wrong["ARN"]) as broadcaster:
        told = broadcaster.init_error()
        assert "rpc_urls is missing" in told, told
        assert SECRET not in told + broadcaster.log()
