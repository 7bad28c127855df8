"""A whole worker on a real node: geth, as `signpost dev --node geth` starts it. Run by `cargo verify --real`, which
builds geth; without it nothing here is collected."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from audit import SETTLED, Audit, Subscriber, deploy, get, published, settle
from conftest import StartStack
from gates import behind
from scenario import Ask, Backend, Sent, mixed, send
from stack import Rpc, Stack, family, free_port, run, wait_for

MESSAGES = 60
COINS = hex(10**20)
# Above what is taken back, with the blocks that come while we look.
CONFIRMATIONS = 8
TAKEN_BACK = 4


def with_finality(stack: Stack, confirmations: int) -> Path:
    """The stack's configuration with another finality."""
    text, changed = re.subn(r"(?m)^finality = .*$", f"finality = {confirmations}", stack.config_file.read_text())
    assert changed == 1
    path = stack.config_file.with_name("finality.toml")
    path.write_text(text)
    return path


def node_of(stack: Stack) -> Stack:
    """The stack, asked past the gate if there is one."""
    return behind(stack) if "gate" in stack.ready else stack


def height(stack: Stack) -> int:
    return int(stack.rpc.call("eth_blockNumber"), 16)


def judge(
    truth: Stack,
    sent: list[Sent],
    subscribers: list[Subscriber],
    cancel_requested: tuple[str, ...] = (),
    crashed: bool = False,
) -> Audit:
    settle(truth, sent, subscribers, within_s=120)
    audit = Audit(truth, sent, subscribers, in_order=True, cancel_requested=cancel_requested, crashed=crashed)
    audit.run()
    return audit


def subscribed(truth: Stack) -> list[Subscriber]:
    return [Subscriber(truth, "everything", [*SETTLED, "rejected"])]


def test_every_kind_of_request_ends_in_its_expected_status(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--node", "geth", "--gate", "--account", "hot", "--account", "cold")
    truth = behind(stack)
    assert truth.rpc.call("web3_clientVersion").startswith("Geth/v1.17"), "it is a real one"
    assert [rpc.call("eth_chainId") for rpc in (stack.rpc, truth.rpc)] == ["0x61", "0x61"]
    assert "\nfinality = 2\n" in stack.config_file.read_text()
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "real")
    sent, contract = deploy(truth, backend)
    started = time.monotonic()
    sent += send(truth.aws("sqs"), truth.signing_queue, mixed(backend, MESSAGES, contract))
    audit = judge(truth, sent, subscribers)
    ended = Counter(item["status"] for item in audit.items.values())
    print(f"{MESSAGES} messages in {time.monotonic() - started:.1f} s: {dict(ended)}")
    assert ended["confirmed"] > MESSAGES // 4 and ended["reverted"] and ended["rejected"]


@pytest.mark.parametrize("gate", [True, False], ids=["put back by the gate", "put back by nobody"])
def test_removed_blocks_make_no_outcome_false(dev: StartStack, rng: random.Random, gate: bool) -> None:
    """geth does not put back what `debug_setHead` takes, so the worker must; as BSC's nodes do, the gate does."""
    stack = dev("--node", "geth", "--no-worker", *(["--gate"] if gate else []))
    truth = node_of(stack)
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "back")
    # The account has got its coins by then.
    funded = height(truth)
    stack.start_worker(config=with_finality(stack, CONFIRMATIONS))
    sent: list[Sent] = []
    taken_back = 0
    for _ in range(3):
        wave = [backend.request(backend.new_id(), backend.transfer()) for _ in range(5)]
        sent += send(truth.aws("sqs"), truth.signing_queue, wave)
        last = wave[-1].id
        assert last
        item = wait_for("the wave is mined", lambda: (it := get(truth, last)) and it["status"] == "mined" and it, 60)
        truth.rpc.call("debug_setHead", hex(max(funded, height(truth) - TAKEN_BACK)))
        taken_back += truth.rpc.call("eth_getTransactionReceipt", item["txHash"]) is None
    assert taken_back == 3, "each wave lost its block"
    audit = judge(truth, sent, subscribers)
    assert {item["status"] for item in audit.items.values()} == {"confirmed"}


def test_either_a_request_or_its_cancel_is_mined_and_reported(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--node", "geth", "--gate")
    truth = behind(stack)
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "race")
    sent: list[Sent] = []
    for _ in range(12):
        message = backend.request(backend.new_id(), backend.transfer())
        assert message.id
        sent += send(truth.aws("sqs"), truth.signing_queue, [message])
        wait_for("it is recorded", lambda id=message.id: get(truth, id), 30, every_s=0.02)  # type: ignore[misc]
        # Any moment of a block's second, before or after it is sent, before or after it is mined.
        time.sleep(rng.random())
        asked = run("cancel", message.id, "--yes", "--config", str(stack.config_file))
        # 1: it is mined already, and says so.
        assert asked.code in (0, 1), asked.err
    audit = judge(truth, sent, subscribers, cancel_requested=tuple(one.id for one in sent))
    ended = Counter(item["status"] for item in audit.items.values())
    print(f"races: {dict(ended)}")
    assert set(ended) <= {"confirmed", "cancelled"} and ended["cancelled"], ended


def test_node_with_a_raised_minimum_price_gets_a_bumped_attempt(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--node", "geth")
    subscribers, backend = subscribed(stack), Backend(rng, stack.addresses, "dear")
    # The pool refuses below it, too, and drops what it has.
    dear = 3 * 10**8
    stack.rpc.call("miner_setGasPrice", hex(dear))
    ask = Ask(backend.account(), "0x" + "aa" * 20, 21_000, value=1)
    sent = send(stack.aws("sqs"), stack.signing_queue, [backend.request(backend.new_id(), ask)])
    item = published(stack, sent[0].id, within_s=90)
    words = [answer for attempt in item["attempts"] for answer in str(attempt).split("'") if "below minimum" in answer]
    assert words and f"minimum needed {dear}" in words[0], item
    mined = stack.rpc.call("eth_getTransactionReceipt", item["txHash"])
    assert item["status"] == "confirmed" and int(mined["effectiveGasPrice"], 16) >= dear, item
    judge(stack, sent, subscribers)


class OwnGeth:
    """A geth that is ended and started again on one chain: one that a stack has made, and left."""

    def __init__(self, of: Stack, directory: Path, journal: bool) -> None:
        [command] = [line for line in family(of.program.process.pid).values() if re.match(r"\S+/geth --dev ", line)]
        of.stop()
        arguments = [part for part in command.split() if not (journal and part == "--txpool.nolocals")]
        # Away from where the next stack clears up.
        data = arguments.index("--datadir") + 1
        shutil.copytree(arguments[data], directory / "geth")
        arguments[data] = str(directory / "geth")
        self.arguments, self.url, self.log = arguments, of.ready["rpcUrl"], directory / "geth.log"
        self.rpc = Rpc(self.url)
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text(errors="replace")[-2_000:]
            try:
                # It makes a block by itself when it starts, and finds transactions by hash a moment later.
                [made, found] = self.rpc.answers([("eth_blockNumber", []), ("eth_getTransactionByHash", ["0x" + "00" * 32])])
            except OSError:
                return False
            return int(made["result"], 16) > 0 and "result" in found

        wait_for("geth answers", answers, 60)
        return process

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def restart(self) -> set[str]:
        """What it had pooled, and has no more when it is back."""
        pooled = self.pooled()
        self.stop()
        self.process = self.start()
        return {hash for hash in pooled if self.rpc.call("eth_getTransactionByHash", hash) is None}

    def give(self, address: str) -> None:
        [funder] = self.rpc.call("eth_accounts")
        transfer = {"from": funder, "to": address, "value": COINS, "gas": hex(21_000)}
        sent = self.rpc.call("eth_sendTransaction", transfer)
        wait_for("the account has coins", lambda: self.rpc.call("eth_getTransactionReceipt", sent), 30)

    def pooled(self) -> set[str]:
        """Hashes of what could be mined."""
        accounts = self.rpc.call("txpool_content")["pending"].values()
        return {transaction["hash"] for account in accounts for transaction in account.values()}


@pytest.mark.parametrize("journal", [False, True], ids=["without its journal", "with its journal"])
def test_node_restart_loses_no_request(
    dev: StartStack, rng: random.Random, tmp_path: Path, journal: bool
) -> None:
    """What was pooled is gone: for good, and the worker sends the same bytes again; or for ten seconds, and the node
    has it mined while the worker is away."""
    first = dev("--node", "geth", "--no-worker", "--rpc-port", str(free_port()))
    node = OwnGeth(first, tmp_path, journal)
    try:
        stack = dev("--rpc-url", node.url, "--no-worker")
        for address in stack.addresses.values():
            node.give(address)
        subscribers, backend = subscribed(stack), Backend(rng, stack.addresses, "again")
        config = with_finality(stack, 2)
        worker = stack.start_worker(config=config)
        sent: list[Sent] = []
        lost: set[str] = set()
        for _ in range(2):
            wave = [backend.request(backend.new_id(), backend.transfer()) for _ in range(8)]
            sent += send(stack.aws("sqs"), stack.signing_queue, wave)
            wait_for("some are pooled", node.pooled, 30, every_s=0.01)
            if journal:
                worker.kill()
            gone = node.restart()
            lost |= gone
            if journal:
                receipt = partial(node.rpc.call, "eth_getTransactionReceipt")
                wait_for("the journal is mined", lambda gone=gone: all(map(receipt, gone)), 60)  # type: ignore[misc]
                worker = stack.start_worker(config=config)
        assert lost, "what was pooled was lost"
        audit = judge(stack, sent, subscribers, crashed=journal)
        assert {item["status"] for item in audit.items.values()} == {"confirmed"}
    finally:
        node.stop()
