"""The client's examples, run as their first lines say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from audit import get, published
from runtime_api import Failed, Function
from stack import CHAIN_ID, ROOT, Stack, binary, start_stack, wait_for
from stack import run as signpost
from test_readme import variables

EXAMPLES = ROOT / "crates/client/examples"
ACCOUNTS = ("hot", "hot-2", "hot-3")
TO = "0x55d398326f99059fF775485246999027B3197955"
RECIPIENTS = [f"0x{number:040x}" for number in range(0xFACE_0001, 0xFACE_0004)]
HASH = "0x[0-9a-f]{64}"
FUNCTION = "signpost-sign-direct"
DIRECT_POLICY = '[account.sign-direct]\nmax_gas_price_wei = "10000000000"\nmax_value_wei = "1000"'
ENDED_WITHIN_S = 180


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all examples, with accounts enough for a pool."""
    options = [option for name in ACCOUNTS for option in ("--account", name)]
    stack = start_stack(tmp_path_factory.mktemp("shared"), *options)
    yield stack
    stack.stop()


def example(stack: Stack, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts an example of this build."""
    command = [str(binary().parent / "examples" / name), *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=variables(stack), cwd=ROOT, text=True, **pipes)


def printed(started: subprocess.Popen[str], code: int = 0) -> list[str]:
    """What an example printed until its end."""
    try:
        out, err = started.communicate(timeout=ENDED_WITHIN_S)
    except subprocess.TimeoutExpired:
        started.kill()
        raise
    assert started.returncode == code, (out, err)
    return out.splitlines()


def test_every_example_says_first_what_it_shows_and_how_to_run_it() -> None:
    for path in EXAMPLES.glob("*.rs"):
        if path.stem == "three_steps":
            continue  # The README shows it, and says how.
        text = path.read_text()
        head = "\n".join(line for line in text.splitlines() if line.startswith("//!"))
        assert text.startswith("//! ") and f"--example {path.stem}" in head and "signpost dev" in head, path
    assert (EXAMPLES / "sign_direct.py").read_text().startswith('"""')


def test_example_cancel_says_which_transaction_took_the_nonce(stack: Stack) -> None:
    lines = printed(example(stack, "cancel", "example-cancel"))
    item = published(stack, "example-cancel")
    said = {"cancelled": "the account paid itself at this nonce", "confirmed": "the cancel came too late"}
    status = item["status"]
    assert lines == [f"example-cancel {status}: {said[status]}, {item['txHash']}"]
    transaction = stack.rpc.call("eth_getTransactionByHash", item["txHash"])
    to_itself = transaction["to"].lower() == transaction["from"].lower()
    assert to_itself == (status == "cancelled"), transaction


def test_example_cancel_of_a_finished_request_is_too_late(stack: Stack) -> None:
    send(stack, {"requestId": "example-done", "account": "hot", "to": TO, "value": "7", "gas": 21_000})
    done = published(stack, "example-done", "confirmed")
    lines = printed(example(stack, "cancel", "example-done"))
    assert lines == [f"example-done confirmed: the cancel came too late, {done['txHash']}"]


def test_example_pool_shares_its_requests_among_accounts(stack: Stack) -> None:
    rows = [line.split() for line in printed(example(stack, "pool", "example-pool"))]
    assert {status for _, status, _ in rows} == {"confirmed"}
    assert sum(int(count) for *_, count in rows) == 12
    assert len(rows) > 1 and {account for account, *_ in rows} <= set(stack.addresses.values())
    # A second run asks for the same requests: they are found, at the accounts they were given to.
    again = [line.split() for line in printed(example(stack, "pool", "example-pool"))]
    assert again == rows


@pytest.mark.parametrize("guide", sorted((ROOT / "infra/guides").glob("*.md")), ids=lambda path: path.stem)
def test_examples_of_guides_keep_to_their_policy(guide: Path, tmp_path: Path) -> None:
    text = guide.read_text()
    (rules,) = re.findall(r"^<!-- policy -->\n```toml\n(.*?)^```$", text, re.S | re.M)
    policy = tmp_path / "policy.toml"
    policy.write_text(rules)
    options = ["--policy", str(policy), "--sender", "AROAEXAMPLEROLEID:backend", "--network-price", "100000000"]
    requests = re.findall(r"^<!-- signing-request.v1 -->\n```json\n(.*?)^```$", text, re.S | re.M)
    assert requests
    for request in requests:
        account = json.loads(request)["account"]
        pool = tomllib.loads(rules).get("pool", {}).get(account.removeprefix("pool:"), {})
        for name in pool.get("accounts", [account]):
            checked = signpost("policy", "check", *options, "--request", "-", "--account", name, stdin=request)
            assert checked.code == 0, (name, request, checked.out, checked.err)


def payouts(directory: Path, *rows: str) -> str:
    file = directory / "payouts.csv"
    file.write_text("\n".join(["id,to,bnb", *rows]) + "\n")
    return str(file)


def balances(stack: Stack) -> list[int]:
    return [int(balance, 16) for balance in stack.rpc.calls([("eth_getBalance", [to, "latest"]) for to in RECIPIENTS])]


def test_example_bulk_payout_pays_once_however_often_it_runs(stack: Stack, tmp_path: Path) -> None:
    amounts = ("0.001", "0.000000000000000007", "1")
    rows = enumerate(zip(RECIPIENTS, amounts, strict=True))
    file = payouts(tmp_path, *(f"invoice-{at},{to},{bnb}" for at, (to, bnb) in rows))
    # Two at once, as a scheduler does that starts a job again too early.
    both = [example(stack, "bulk_payout", file) for _ in range(2)]
    ended = [printed(started) for started in both]
    for lines in ended:
        for at, amount in enumerate(amounts):
            assert re.fullmatch(f"payout-invoice-{at} confirmed {amount} BNB {HASH}", lines[1 + at]), lines
        assert lines[-1] == "confirmed: 3, 1.001000000000000007 BNB"
    assert ended[0][1:] == ended[1][1:], "both report the same transactions"
    paid = [10**15, 7, 10**18]
    assert balances(stack) == paid
    again = printed(example(stack, "bulk_payout", file))
    assert again[0] == "3 payouts, 0 sent by this run"
    assert again[1:] == ended[0][1:]
    assert balances(stack) == paid


def test_example_bulk_payout_sends_nothing_of_a_file_with_a_bad_row(stack: Stack, tmp_path: Path) -> None:
    good = f"bad-file-1,{TO},0.1"
    file = payouts(tmp_path, good, good, f"bad-file-2,{TO},0.1e3", f"bad-file-3,{TO[:-1]},1", f"bad file,{TO},1")
    lines = printed(example(stack, "bulk_payout", file), code=1)
    assert lines[0] == "nothing is sent:"
    assert [line.split(":")[0] for line in lines[1:]] == ["line 3", "line 4", "line 5", "line 6"]
    assert get(stack, "payout-bad-file-1") is None


def test_example_bulk_payout_refuses_an_id_of_another_payout(stack: Stack, tmp_path: Path) -> None:
    assert printed(example(stack, "bulk_payout", payouts(tmp_path, f"reused,{TO},0.1")))[-1] == "confirmed: 1, 0.1 BNB"
    changed = example(stack, "bulk_payout", payouts(tmp_path, f"new,{TO},0.1", f"reused,{TO},0.2"))
    out, err = changed.communicate(timeout=ENDED_WITHIN_S)
    assert changed.returncode != 0 and "payout-reused was used for another payout" in err, (out, err)
    assert get(stack, "payout-new") is None


def test_example_outcome_consumer_catches_up_and_books_once(stack: Stack, tmp_path: Path) -> None:
    def ask(id: str) -> None:
        send(stack, {"requestId": id, "account": "hot", "to": TO, "value": "1", "gas": 21_000})

    ledger = tmp_path / "ledger"
    # Before there was a queue: only the table has it.
    ask("example-missed")
    published(stack, "example-missed", "confirmed")
    consumer = example(stack, "outcome_consumer", str(ledger), "example-missed", "example-heard")
    wait_for("it has caught up", lambda: ledger.exists() and "example-missed confirmed" in ledger.read_text(), 60)
    ask("example-heard")
    lines = printed(consumer)
    assert lines[0] == "example-missed confirmed found in the table"
    assert "example-heard confirmed received" in lines

    # The operator's replay: every copy is dropped, and the ledger is what it was.
    booked = ledger.read_text()
    again = signpost("republish", "example-missed", "example-heard", "--config", str(stack.config_file))
    assert again.code == 0, again.err
    consumer = example(stack, "outcome_consumer", str(ledger), "example-missed", "example-heard", "example-last")
    ask("example-last")
    lines = printed(consumer)
    for id in ("example-missed", "example-heard"):
        assert [line for line in lines if line.startswith(id)] == [f"{id} confirmed received again, dropped"], lines
    ours = [line for line in ledger.read_text().splitlines() if " example-" in line]
    assert len(ours) == len({line.split()[1] for line in ours}) and ledger.read_text().startswith(booked)


def send(stack: Stack, body: dict[str, Any]) -> None:
    group = {"MessageGroupId": body["account"], "MessageDeduplicationId": body["requestId"]}
    stack.aws("sqs").send_message(QueueUrl=stack.signing_queue, MessageBody=json.dumps(body), **group)


@contextmanager
def lambda_with(function: Function) -> Iterator[str]:
    """Lambda's Invoke API with one function behind it; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Quiet."""

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert unquote(self.path) == f"/2015-03-31/functions/{FUNCTION}/invocations", self.path
            headers = {}
            try:
                answer = function.invoke(event)
            except Failed as failed:
                answer, headers = {"errorMessage": str(failed)}, {"X-Amz-Function-Error": "Unhandled"}
            content = json.dumps(answer).encode()
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_example_sign_direct_signs_sends_and_says_why_not(stack: Stack, tmp_path: Path) -> None:
    # A key that no account of the queue has.
    key = stack.aws("kms").create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    ours = variables(stack)
    own = {"KMS_KEY_ID": key, "CHAIN_ID": str(CHAIN_ID), "SIGNPOST_POLICY": DIRECT_POLICY}
    aws = {name: value for name, value in ours.items() if name.startswith("AWS_")}
    program = binary().with_name("sign-direct")
    with Function(program, {**aws, **own}, tmp_path / "sign-direct.log") as function, lambda_with(function) as url:
        signer = function.invoke({"operation": "status"})["address"]
        stack.rpc.call("anvil_setBalance", signer, hex(10**18))
        own = {"AWS_ENDPOINT_URL_LAMBDA": url, "SIGN_DIRECT_FUNCTION": FUNCTION, "RPC_URL": stack.ready["rpcUrl"]}

        def run(value_wei: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(EXAMPLES / "sign_direct.py"), TO, value_wei]
            place = {"env": {**ours, **own}, "cwd": tmp_path, "timeout": ENDED_WITHIN_S}
            return subprocess.run(command, capture_output=True, text=True, **place)

        for nonce in range(2):
            done = run("1000")
            assert done.returncode == 0, done.stderr
            first, signed, mined = done.stdout.splitlines()
            assert first == f"signs as {signer} on chain {CHAIN_ID}"
            assert re.fullmatch(f"signed {HASH} with nonce {nonce}", signed)
            assert re.fullmatch(rf"mined {HASH} in block \d+ status 1", mined)
        refused = run("1001")
        assert refused.returncode == 1 and "not signed: valueTooHigh" in refused.stderr, refused
        assert int(stack.rpc.call("eth_getTransactionCount", signer, "latest"), 16) == 2
