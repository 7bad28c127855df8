"""The Lambda functions as processes, on a local Runtime API and the local stack: their events, their answers and
their startup checks."""

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
from functions import Deployment, arn
from runtime_api import Failed, batch, failures, record
from stack import wait_for

SECRET = "topsecret"
# A function stops a quarter of its timeout, at most 3 s, before the end. With this timeout its answer is in time even
# on a busy machine.
TIMEOUT_S = 12
# Lambda's shutdown limit for a function with an extension, and how many tries a busy machine gets.
SHUTDOWN_LIMIT_S, TRIES = 0.5, 5
# Not a valid SQS message id: recording a rejection under it fails an assertion.
INVALID_MESSAGE_ID = "no id of SQS"


def test_bad_body_is_rejected_and_panicking_record_fails_alone(deployment: Deployment) -> None:
    deployment.pokes()
    with deployment.signer() as signer:
        bad = record("not JSON", arn(deployment.signing), f"{deployment.name}-bad", "bad")
        broken = record("not JSON", arn(deployment.signing), INVALID_MESSAGE_ID, "broken")
        answer = signer.invoke(
            batch(deployment.ask("a"), bad, broken, deployment.ask("b", "cold"), deployment.ask("c"))
        )
        assert answer == failures(INVALID_MESSAGE_ID)
        assert "panicked on one of these" in signer.log()
    assert [deployment.item(id)["status"] for id in ("a", "b", "c")] == ["signed"] * 3
    assert deployment.item("a")["nonce"] + 1 == deployment.item("c")["nonce"], "the retry reserved no second nonce"
    rejected = get(deployment.stack, f"sqs:{deployment.name}-bad")
    assert rejected is not None and rejected["status"] == "rejected" and "publishedAt" in rejected
    assert {poke["account"].split(":")[1] for poke in deployment.pokes()} == {
        address.lower() for address in deployment.stack.addresses.values()
    }


def test_failure_returns_the_rest_of_its_message_group_only(deployment: Deployment) -> None:
    kms = deployment.stack.aws("kms")
    with deployment.signer() as signer:
        kms.disable_key(KeyId=deployment.key_ids["cold"])
        try:
            event = batch(
                deployment.ask("c1", "cold"), deployment.ask("h1"), deployment.ask("c2", "cold"), deployment.ask("h2")
            )
            assert signer.invoke(event) == failures("c1", "c2")
        finally:
            kms.enable_key(KeyId=deployment.key_ids["cold"])
        assert [deployment.item(id)["status"] for id in ("c1", "h1", "h2")] == ["reserved", "signed", "signed"]
    # The account stays marked as unusable for a minute, in this execution. A request with a slot is signed when the
    # broadcaster asks for it, and that clears the mark.
    with deployment.signer() as signer:
        item = deployment.item("c1")
        ask = {
            "requestId": item["requestId"],
            "account": item["account"],
            "attempt": 0,
            "kind": "execute",
            "cause": "e2e",
        }
        assert signer.invoke(batch(record(ask, arn(deployment.resign), "resign", item["account"]))) == failures()
        # Lambda redelivers them in order.
        assert signer.invoke(batch(deployment.ask("c1", "cold"), deployment.ask("c2", "cold"))) == failures()
    assert [deployment.item(id)["status"] for id in ("c1", "c2")] == ["signed", "signed"]
    assert deployment.item("c1")["nonce"] + 1 == deployment.item("c2")["nonce"]


def test_signer_serves_both_queues_and_returns_foreign_records(deployment: Deployment) -> None:
    with deployment.signer() as signer:
        assert signer.invoke(batch(deployment.ask("a"))) == failures()
        item = deployment.item("a")
        price = str(int(item["gasPrice"]) * 2)
        ask = {
            "requestId": item["requestId"],
            "account": item["account"],
            "attempt": 1,
            "kind": "execute",
            "cause": "e2e",
        }
        ask["fee"] = {"gasPrice": price}
        assert signer.invoke(batch(record(ask, arn(deployment.resign), "resign", item["account"]))) == failures()
        assert [attempt["fee"]["gasPrice"] for attempt in deployment.item("a")["attempts"]] == [item["gasPrice"], price]

        foreign_queue = "arn:aws:sqs:us-east-1:000000000000:somebody-elses.fifo"
        foreign = [record(deployment.ask(id)["body"], foreign_queue, id) for id in ("x", "y")]
        assert signer.invoke(batch(*foreign)) == failures("x", "y")
        assert "somebody-elses.fifo" in signer.log() and "SIGNPOST_RESIGN_QUEUE_URL" in signer.log()
        assert get(deployment.stack, f"{deployment.name}-x") is None
        with pytest.raises(Failed, match="neither a batch of SQS records"):
            signer.invoke({"detail-type": "Scheduled Event"})
        with pytest.raises(Failed, match='no task "sweep"'):
            signer.invoke({"signpost": "sweep"})


@contextmanager
def kms_that_never_signs(real: str) -> Iterator[str]:
    """A KMS that returns public keys and never answers a request for a signature. Yields its URL."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Logs nothing."""

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


def test_unsigned_records_are_returned_before_the_timeout(deployment: Deployment) -> None:
    with kms_that_never_signs(deployment.stack.ready["awsEndpoint"]) as kms, deployment.signer(
        AWS_ENDPOINT_URL_KMS=kms
    ) as signer:
        begun = time.monotonic()
        assert signer.invoke(batch(deployment.ask("a"), deployment.ask("b")), timeout_s=TIMEOUT_S) == failures("a", "b")
        assert time.monotonic() - begun < TIMEOUT_S
        assert deployment.item("a")["status"] == "reserved"
    with deployment.signer() as signer:
        assert signer.invoke(batch(deployment.ask("a"), deployment.ask("b"))) == failures()


def test_pass_follows_a_lane_until_its_outcomes_are_published(deployment: Deployment) -> None:
    with deployment.signer() as signer, deployment.broadcaster() as broadcaster:
        assert signer.invoke(batch(deployment.ask("a"), deployment.ask("b"))) == failures()
        not_a_poke = record("not JSON", arn(deployment.broadcast), "bad", "bad")
        assert broadcaster.invoke(batch(deployment.poke(), not_a_poke), timeout_s=60) == failures()
        assert [deployment.item(id)["status"] for id in ("a", "b")] == ["confirmed"] * 2
        assert all("publishedAt" in deployment.item(id) for id in ("a", "b"))


def test_pass_at_its_time_limit_queues_the_next_pass(deployment: Deployment) -> None:
    with deployment.signer() as signer, deployment.broadcaster() as broadcaster:
        with deployment.no_blocks():
            assert signer.invoke(batch(deployment.ask("a"))) == failures()
            deployment.pokes()
            begun = time.monotonic()
            assert broadcaster.invoke(batch(deployment.poke()), timeout_s=TIMEOUT_S) == failures()
            assert time.monotonic() - begun < TIMEOUT_S
            assert deployment.item("a")["status"] == "sent"
        (poke,) = deployment.pokes()
        assert poke["cause"].startswith("next pass"), poke
        again = record(poke, arn(deployment.broadcast), "again", poke["account"])
        assert broadcaster.invoke(batch(again), timeout_s=60) == failures()
        assert published(deployment.stack, f"{deployment.name}-a")["status"] == "confirmed"


def test_scheduled_sweep_pokes_every_lane_with_open_slots(deployment: Deployment) -> None:
    with deployment.signer() as signer, deployment.broadcaster() as broadcaster:
        assert signer.invoke(batch(deployment.ask("a"), deployment.ask("b", "cold"))) == failures()
        deployment.pokes()
        assert broadcaster.invoke({"signpost": "sweep"}) == {"poked": 2}
        assert all(poke["cause"].startswith("sweep") for poke in deployment.pokes())
        # Processing the pokes closes the slots.
        assert (
            broadcaster.invoke(batch(deployment.poke(), deployment.poke("cold", "other")), timeout_s=60) == failures()
        )
        assert broadcaster.invoke({"signpost": "sweep"}) == {"poked": 0}
        with pytest.raises(Failed, match='no task "sweeep"'):
            broadcaster.invoke({"signpost": "sweeep"})


def test_node_urls_come_from_a_secret_and_are_never_logged(deployment: Deployment) -> None:
    secrets = deployment.stack.aws("secretsmanager")
    url = f"{deployment.stack.ready['rpcUrl']}/?key={SECRET}"
    arn_of_secret = secrets.create_secret(Name=deployment.name, SecretString=json.dumps({"rpc_urls": [url]}))["ARN"]
    with deployment.signer() as signer, deployment.broadcaster(
        SIGNPOST_RPC_SECRET_ARN=arn_of_secret, RUST_LOG="debug"
    ) as function:
        assert signer.invoke(batch(deployment.ask("a"))) == failures()
        assert function.invoke(batch(deployment.poke()), timeout_s=60) == failures()
        assert deployment.item("a")["status"] == "confirmed"
        assert "the broadcaster is ready" in function.log()
        assert SECRET not in function.log()


def test_idle_function_exits_within_lambdas_shutdown_limit(deployment: Deployment) -> None:
    took = []
    for _ in range(TRIES):
        with deployment.signer() as signer:
            assert signer.invoke(batch()) == failures()
            assert signer.api.extension is not None and signer.api.extension[1] == {"events": []}
            assert signer.api.extension_listens.wait(60)
            took.append(signer.terminate())
        if took[-1] < SHUTDOWN_LIMIT_S:
            return
    pytest.fail(f"SIGTERM was obeyed after {took} s")


def test_shutdown_returns_records_in_progress_within_lambda_limit(deployment: Deployment) -> None:
    with deployment.signer() as signer:
        assert signer.invoke(batch(deployment.ask("a"))) == failures()
    took = []
    for _ in range(TRIES):
        with deployment.broadcaster() as broadcaster, deployment.no_blocks():
            pass_ = broadcaster.send(batch(deployment.poke()), timeout_s=60)
            wait_for("the transaction is sent", lambda: deployment.item("a")["status"] == "sent", 60)
            wait_for("the broadcaster works on the lane", lambda: broadcaster.api.current is pass_, 60)
            took.append(broadcaster.terminate())
            good, answer = pass_.answer.get(timeout=5)
            assert good and answer == failures("poke")
        if took[-1] < SHUTDOWN_LIMIT_S:
            break
    else:
        pytest.fail(f"SIGTERM was obeyed after {took} s")
    with deployment.broadcaster() as broadcaster:
        assert broadcaster.invoke(batch(deployment.poke()), timeout_s=60) == failures()
    assert deployment.item("a")["status"] == "confirmed"


def test_all_environment_problems_are_reported_at_once(deployment: Deployment) -> None:
    with deployment.function("signer", {"SIGNPOST_CHAIN_ID": "bsc"}) as signer:
        error = signer.init_error()
    for name in (
        "SIGNPOST_CHAIN_ID must be",
        "SIGNPOST_SIGNING_QUEUE_URL is missing",
        "SIGNPOST_REQUESTS_TABLE is missing",
    ):
        assert name in error, error
    assert "RPC" not in error, "the signer needs no nodes"
    with deployment.function("broadcaster", {}) as broadcaster:
        error = broadcaster.init_error()
    assert "SIGNPOST_RPC_SECRET_ARN is missing" in error and "SIGNPOST_FINALITY is missing" in error, error


def test_account_differing_from_its_pin_is_not_signed_for(deployment: Deployment) -> None:
    kms = deployment.stack.aws("kms")
    other = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    hot, pins = deployment.stack.addresses["hot"], deployment.pins()
    for accounts, expected in [
        (f"hot={hot}={other},{pins['cold']}", "listed with another key"),
        (f"warm={hot}={deployment.key_ids['hot']},{pins['cold']}", "listed as warm"),
        (pins["cold"], "not in the deployment's list"),
    ]:
        id = expected.split()[-1]
        with deployment.signer(SIGNPOST_ACCOUNTS=accounts) as signer:
            answer = signer.invoke(batch(deployment.ask(f"hot-{id}"), deployment.ask(f"cold-{id}", account="cold")))
            assert answer == failures(f"hot-{id}"), "only the account with a different pin is retried"
            log = signer.log()
            assert "notPinned" in log and "cannot be used" in log, log
    with deployment.signer() as signer:
        assert signer.invoke(batch()) == failures()
        assert "the signer is ready" in signer.log(), signer.log()
    for accounts, expected in [
        (f"hot=0x12={other}", "hot: the address"),
        ("hot", "hot: is not NAME=0xADDRESS=KMS_KEY"),
        (f"{pins['hot']},{pins['hot']}", "twice"),
    ]:
        with deployment.signer(SIGNPOST_ACCOUNTS=accounts) as signer:
            error = signer.init_error()
        assert "SIGNPOST_ACCOUNTS" in error and expected in error, error


def test_signer_does_not_start_without_a_usable_seal_key(deployment: Deployment) -> None:
    secrets = deployment.stack.aws("secretsmanager")
    short = secrets.create_secret(Name="too-short", SecretString="topsecret")["ARN"]
    for arn_of, expected in [
        ("", "SIGNPOST_SEAL_SECRET_ARN is missing"),
        (short, "has 9 characters"),
        ("no-such-secret", "cannot be read"),
    ]:
        with deployment.signer(SIGNPOST_SEAL_SECRET_ARN=arn_of) as signer:
            error = signer.init_error()
        assert expected in error and "topsecret" not in error, error


def test_neither_function_starts_on_another_chain(deployment: Deployment) -> None:
    with deployment.signer(SIGNPOST_CHAIN_ID="56") as signer:
        error = signer.init_error()
        assert "56, and the registered accounts are on chain 97" in error and "SIGNPOST_CHAIN_ID" in error, error
    with deployment.broadcaster(SIGNPOST_CHAIN_ID="56") as broadcaster:
        error = broadcaster.init_error()
        assert "56, and the node is on chain 97" in error and "SIGNPOST_CHAIN_ID" in error, error


def test_signer_does_not_start_without_a_valid_policy(deployment: Deployment) -> None:
    with deployment.signer(SIGNPOST_POLICY_FILE="") as signer:
        assert "policy.toml cannot be used" in signer.init_error()
    with deployment.signer(SIGNPOST_POLICY_FILE="", SIGNPOST_POLICY="[account.hot]") as signer:
        assert "max_gas_price_wei" in signer.init_error()


def test_broadcaster_does_not_start_without_a_valid_secret(deployment: Deployment) -> None:
    with deployment.broadcaster(SIGNPOST_RPC_SECRET_ARN="no-such-secret") as broadcaster:
        assert "SIGNPOST_RPC_SECRET_ARN: the secret cannot be read" in broadcaster.init_error()
    wrong = deployment.stack.aws("secretsmanager").create_secret(
        Name=f"{deployment.name}-wrong", SecretString=f'{{"urls": "{SECRET}"}}'
    )
    with deployment.broadcaster(SIGNPOST_RPC_SECRET_ARN=wrong["ARN"]) as broadcaster:
        error = broadcaster.init_error()
        assert "rpc_urls is missing" in error, error
        assert SECRET not in error + broadcaster.log()
