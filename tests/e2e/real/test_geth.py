"""A whole worker on a real node: geth, as `signpost dev --node geth` starts it. `cargo verify --real` builds geth and
runs these tests; without geth they are not collected."""

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
from gates import without_gates
from scenario import Ask, Backend, Sent, mixed, send
from stack import Rpc, Stack, family, free_port, run, wait_for

MESSAGES = 60
COINS = hex(10**20)
# More than the removed blocks plus the blocks mined in the meantime.
CONFIRMATIONS = 8
REMOVED = 4


def with_finality(stack: Stack, confirmations: int) -> Path:
    """The stack's configuration with this number of confirmations."""
    text, changed = re.subn(r"(?m)^finality = .*$", f"finality = {confirmations}", stack.config_file.read_text())
    assert changed == 1
    path = stack.config_file.with_name("finality.toml")
    path.write_text(text)
    return path


def node_of(stack: Stack) -> Stack:
    """The stack without its gate, if it has one."""
    return without_gates(stack) if "gate" in stack.ready else stack


def height(stack: Stack) -> int:
    return int(stack.rpc.call("eth_blockNumber"), 16)


def check(
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
    truth = without_gates(stack)
    assert truth.rpc.call("web3_clientVersion").startswith("Geth/v1.17"), "the node is a real geth"
    assert [rpc.call("eth_chainId") for rpc in (stack.rpc, truth.rpc)] == ["0x61", "0x61"]
    assert "\nfinality = 2\n" in stack.config_file.read_text()
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "real")
    sent, contract = deploy(truth, backend)
    started = time.monotonic()
    sent += send(truth.aws("sqs"), truth.signing_queue, mixed(backend, MESSAGES, contract))
    audit = check(truth, sent, subscribers)
    ended = Counter(item["status"] for item in audit.items.values())
    print(f"{MESSAGES} messages in {time.monotonic() - started:.1f} s: {dict(ended)}")
    assert ended["confirmed"] > MESSAGES // 4 and ended["reverted"] and ended["rejected"]


@pytest.mark.parametrize("gate", [True, False], ids=["resent by the gate", "not resent"])
def test_removed_blocks_make_no_outcome_false(dev: StartStack, rng: random.Random, gate: bool) -> None:
    """geth does not return the transactions of blocks removed by `debug_setHead` to its pool, so the worker must resend
    them. BSC's nodes do return them, and so does the gate."""
    stack = dev("--node", "geth", "--no-worker", *(["--gate"] if gate else []))
    truth = node_of(stack)
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "back")
    # The account is funded at this height.
    funded = height(truth)
    stack.start_worker(config=with_finality(stack, CONFIRMATIONS))
    sent: list[Sent] = []
    removed = 0
    for _ in range(3):
        wave = [backend.request(backend.new_id(), backend.transfer()) for _ in range(5)]
        sent += send(truth.aws("sqs"), truth.signing_queue, wave)
        last = wave[-1].id
        assert last
        item = wait_for("the wave is mined", lambda: (it := get(truth, last)) and it["status"] == "mined" and it, 60)
        truth.rpc.call("debug_setHead", hex(max(funded, height(truth) - REMOVED)))
        removed += truth.rpc.call("eth_getTransactionReceipt", item["txHash"]) is None
    assert removed == 3, "each wave lost its block"
    audit = check(truth, sent, subscribers)
    assert {item["status"] for item in audit.items.values()} == {"confirmed"}


def test_either_a_request_or_its_cancel_is_mined_and_reported(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--node", "geth", "--gate")
    truth = without_gates(stack)
    subscribers, backend = subscribed(truth), Backend(rng, stack.addresses, "race")
    sent: list[Sent] = []
    for moment in rng.sample(range(12), 12):
        message = backend.request(backend.new_id(), backend.transfer())
        assert message.id
        sent += send(truth.aws("sqs"), truth.signing_queue, [message])
        wait_for("it is recorded", lambda id=message.id: get(truth, id), 30, every_s=0.02)  # type: ignore[misc]
        # Each twelfth of a block time: before or after the send, before or after the block.
        time.sleep((moment + rng.random()) / 12)
        asked = run("cancel", message.id, "--yes", "--config", str(stack.config_file))
        # 1: the request is already mined.
        assert asked.code in (0, 1), asked.err
    audit = check(truth, sent, subscribers, cancel_requested=tuple(one.id for one in sent))
    ended = Counter(item["status"] for item in audit.items.values())
    print(f"races: {dict(ended)}")
    assert set(ended) <= {"confirmed", "cancelled"} and ended["cancelled"], ended


def test_node_with_a_raised_minimum_price_gets_a_bumped_attempt(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--node", "geth")
    subscribers, backend = subscribed(stack), Backend(rng, stack.addresses, "minimum")
    # The pool refuses and drops transactions below this price.
    minimum = 3 * 10**8
    stack.rpc.call("miner_setGasPrice", hex(minimum))
    ask = Ask(backend.account(), "0x" + "aa" * 20, 21_000, value=1)
    sent = send(stack.aws("sqs"), stack.signing_queue, [backend.request(backend.new_id(), ask)])
    item = published(stack, sent[0].id, within_s=90)
    words = [answer for attempt in item["attempts"] for answer in str(attempt).split("'") if "below minimum" in answer]
    assert words and f"minimum needed {minimum}" in words[0], item
    mined = stack.rpc.call("eth_getTransactionReceipt", item["txHash"])
    assert item["status"] == "confirmed" and int(mined["effectiveGasPrice"], 16) >= minimum, item
    check(stack, sent, subscribers)


class OwnGeth:
    """A geth that continues the chain of a stopped stack, and can be restarted."""

    def __init__(self, of: Stack, directory: Path, journal: bool) -> None:
        [command] = [line for line in family(of.program.process.pid).values() if re.match(r"\S+/geth --dev ", line)]
        of.stop()
        arguments = [part for part in command.split() if not (journal and part == "--txpool.nolocals")]
        # Outside of the directory that the next stack clears.
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
                # At its start geth mines a block, and a moment later it finds transactions by hash.
                [made, found] = self.rpc.answers(
                    [("eth_blockNumber", []), ("eth_getTransactionByHash", ["0x" + "00" * 32])]
                )
            except OSError:
                return False
            return int(made["result"], 16) > 0 and "result" in found

        wait_for("geth answers", answers, 60)
        return process

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def restart(self) -> set[str]:
        """Restarts the node. Returns the pooled transactions that it lost."""
        pooled = self.pooled()
        self.stop()
        self.process = self.start()
        return {hash for hash in pooled if self.rpc.call("eth_getTransactionByHash", hash) is None}

    def fund(self, address: str) -> None:
        [funder] = self.rpc.call("eth_accounts")
        transfer = {"from": funder, "to": address, "value": COINS, "gas": hex(21_000)}
        sent = self.rpc.call("eth_sendTransaction", transfer)
        wait_for("the account has funds", lambda: self.rpc.call("eth_getTransactionReceipt", sent), 30)

    def pooled(self) -> set[str]:
        """Hashes of the transactions that can be mined."""
        accounts = self.rpc.call("txpool_content")["pending"].values()
        return {transaction["hash"] for account in accounts for transaction in account.values()}


@pytest.mark.parametrize("journal", [False, True], ids=["without its journal", "with its journal"])
def test_node_restart_loses_no_request(dev: StartStack, rng: random.Random, tmp_path: Path, journal: bool) -> None:
    """The restart empties the pool. Without a journal the worker sends the same bytes again. With a journal the node
    reloads the transactions after ten seconds and mines them while the worker is down."""
    first = dev("--node", "geth", "--no-worker", "--rpc-port", str(free_port()))
    node = OwnGeth(first, tmp_path, journal)
    try:
        stack = dev("--rpc-url", node.url, "--no-worker")
        for address in stack.addresses.values():
            node.fund(address)
        subscribers, backend = subscribed(stack), Backend(rng, stack.addresses, "again")
        config = with_finality(stack, 2)
        worker = stack.start_worker(config=config)
        sent: list[Sent] = []
        lost: set[str] = set()
        for _ in range(2):
            wave = [backend.request(backend.new_id(), backend.transfer()) for _ in range(8)]
            sent += send(stack.aws("sqs"), stack.signing_queue, wave)
            wait_for("some transactions are pooled", node.pooled, 30, every_s=0.01)
            if journal:
                worker.kill()
            gone = node.restart()
            lost |= gone
            if journal:
                receipt = partial(node.rpc.call, "eth_getTransactionReceipt")
                wait_for("the journal is mined", lambda gone=gone: all(map(receipt, gone)), 60)  # type: ignore[misc]
                worker = stack.start_worker(config=config)
        assert lost, "the restart lost pooled transactions"
        audit = check(stack, sent, subscribers, crashed=journal)
        assert {item["status"] for item in audit.items.values()} == {"confirmed"}
    finally:
        node.stop()
