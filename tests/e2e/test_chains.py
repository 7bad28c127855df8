"""Two Signposts on two chains share tables and a key. Each lane belongs to one chain."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from audit import published
from conftest import StartStack
from nodes import queues_of
from stack import Rpc, Stack, free_port, external_anvil, run, wait_for

MAIN, TEST = 56, 97
COINS = hex(10**20)
TO = "0x" + "aa" * 20
REQUESTS = 12
# Only a sweep finds lanes without a poke. This interval makes many of them run within the test.
FAST_SWEEPS = "\n[timing]\nsweep_ms = 300\n"


@dataclass
class Signpost:
    """One of the two, with its own configuration on the shared tables."""

    stack: Stack
    chain_id: int
    account: str
    config: Path
    rpc: Rpc
    broadcast_queue: str

    def command(self, *arguments: str) -> Any:
        return run(*arguments, "--config", str(self.config))

    def ok(self, *arguments: str) -> Any:
        result = self.command(*arguments)
        assert result.code == 0, result.err + result.out
        return result

    def head(self) -> dict[str, Any]:
        """The head of its lane in the table."""
        address = self.stack.addresses["both"].lower()
        key = {"account": {"S": f"{self.chain_id}:{address}"}, "item": {"S": "head"}}
        table = self.stack.ready["accountsTable"]
        head: dict[str, Any] = self.stack.aws("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True)[
            "Item"
        ]
        return head

    def next_nonce(self) -> int:
        return int(self.head()["nextNonce"]["N"])

    def count(self) -> int:
        return int(self.rpc.call("eth_getTransactionCount", self.stack.addresses["both"], "latest"), 16)

    def submit(self, id: str) -> None:
        self.ok("submit", "--id", id, "--account", self.account, "--to", TO, "--gas", "21000", "--value", "1")


def pair(stack: Stack, directory: Path, main_url: str) -> tuple[Signpost, Signpost]:
    """The Signposts on chain 56 and on chain 97. The key of `both` is registered on both."""
    text = re.sub(r"\n\[timing\][^\[]*", "\n", stack.config_file.read_text()) + FAST_SWEEPS
    test_config, main_config = directory / "test.toml", directory / "main.toml"
    test_config.write_text(text)
    [broadcast] = re.findall(r'broadcast_url = "([^"]+)"', text)
    test = Signpost(stack, TEST, "both", test_config, stack.rpc, broadcast)
    text = queues_of(stack, text, "main")
    [broadcast] = re.findall(r'broadcast_url = "([^"]+)"', text)
    text = text.replace(f"chain_id = {TEST}", f"chain_id = {MAIN}")
    text = re.sub(r"rpc_urls = \[[^\]]*\]", f'rpc_urls = ["{main_url}"]', text)
    main_config.write_text(text)
    main = Signpost(stack, MAIN, "both-main", main_config, Rpc(main_url), broadcast)
    return main, test


def use_nonce(signpost: Signpost) -> None:
    """Uses the address's next nonce on one chain, as another program would."""
    address, before = signpost.stack.addresses["both"], signpost.count()
    signpost.rpc.call("anvil_setBalance", address, COINS)
    signpost.rpc.call("anvil_impersonateAccount", address)
    signpost.rpc.call("eth_sendTransaction", {"from": address, "to": TO, "gas": hex(21_000), "gasPrice": hex(10**9)})
    signpost.rpc.call("anvil_stopImpersonatingAccount", address)
    wait_for("the transaction is mined", lambda: signpost.count() > before, 20)


def test_two_signposts_on_two_chains_share_their_tables(dev: StartStack, tmp_path: Path) -> None:
    stack = dev("--no-worker", "--account", "both")
    with external_anvil(tmp_path, free_port(), chain_id=MAIN) as main_url:
        main, test = pair(stack, tmp_path, main_url)
        check_stages_refuse_other_chain(main)
        key = json.loads(test.ok("account", "show", "both", "--json").out)["kmsKeyId"]
        main.ok("account", "register", main.account, "--kms-key", key)
        main.rpc.call("anvil_setBalance", stack.addresses["both"], COINS)
        workers = [stack.start_worker("--stage", "all", config=signpost.config) for signpost in (main, test)]

        # Requests on both chains. One lane is far ahead of the other.
        for at in range(REQUESTS):
            main.submit(f"main-{at}")
            if at < 2:
                test.submit(f"test-{at}")
        for signpost, ids in ((main, [f"main-{at}" for at in range(REQUESTS)]), (test, ["test-0", "test-1"])):
            for nonce, id in enumerate(ids):
                item = published(stack, id)
                assert (item["status"], item["chainId"], item["nonce"]) == ("confirmed", signpost.chain_id, nonce), item
                assert signpost.rpc.call("eth_getTransactionReceipt", item["txHash"])["status"] == "0x1"
        assert (main.next_nonce(), main.count()) == (REQUESTS, REQUESTS)
        assert (test.next_nonce(), test.count()) == (2, 2)

        # A nonce used by another program on one chain moves the idle lane on that chain only.
        use_nonce(main)
        wait_for("the lane adopts the count", lambda: main.next_nonce() == REQUESTS + 1, 60)
        assert test.next_nonce() == 2

        # A poke for the other chain's lane is dropped with a log line and not redelivered.
        poke = {"account": f"{MAIN}:{stack.addresses['both'].lower()}", "cause": "wrong queue"}
        sqs = stack.aws("sqs")
        sqs.send_message(QueueUrl=test.broadcast_queue, MessageGroupId="x", MessageDeduplicationId="x",
                         MessageBody=json.dumps(poke))  # fmt: skip
        wait_for("the poke is dropped", lambda: "a poke for an account on another chain" in workers[1].log(), 30)
        visible = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        wait_for("the poke is gone", lambda: all(count == "0" for count in sqs.get_queue_attributes(
            QueueUrl=test.broadcast_queue, AttributeNames=visible)["Attributes"].values()), 30)  # fmt: skip

        # Both continue.
        main.submit("main-after")
        test.submit("test-after")
        assert published(stack, "main-after")["nonce"] == REQUESTS + 1
        assert published(stack, "test-after")["nonce"] == 2
        for signpost in (main, test):
            assert not signpost.head()["paused"]["BOOL"]
        check_commands_see_own_chain(main, test)
        for worker in workers:
            assert worker.ended is None, worker.log()
            assert worker.stop() == 0
            assert '"displaced"' not in worker.log() and "is paused" not in worker.log()


def check_stages_refuse_other_chain(signpost: Signpost) -> None:
    """Neither stage starts if the tables have only accounts of another chain."""
    for stage in ("signer", "broadcaster"):
        refused = signpost.command("worker", "--stage", stage)
        assert refused.code == 2 and "on chain 97" in refused.err, refused.err


def check_commands_see_own_chain(main: Signpost, test: Signpost) -> None:
    for signpost, other in ((main, test), (test, main)):
        listed = signpost.ok("account", "list", "--json")
        assert [line["name"] for line in listed.lines()] == [signpost.account]
        assert f"1 account(s) on chain {other.chain_id}" in listed.err
        foreign = signpost.command("account", "pause", other.account)
        assert foreign.code == 2 and f"on chain {other.chain_id}" in foreign.err, foreign.err
        audited = signpost.ok("audit", "--json")
        assert {line["account"] for line in audited.lines()} == {signpost.account}
        exported = signpost.ok("export", "--since", "1d").lines()
        assert {line["asked"]["account"].split(":")[0] for line in exported} == {str(signpost.chain_id)}
        checks = {line["check"]: line for line in signpost.command("doctor", "--json").lines()}
        named = checks["accounts of other chains"]
        assert named["state"] == "ok" and f"chain {other.chain_id}" in named["found"], named
        assert not [check for check in checks if check.startswith(f"{other.account}:")]
    cancel = test.command("cancel", "main-0", "--yes")
    assert cancel.code == 2 and "on chain 56" in cancel.err, cancel.err


def test_bad_key_stops_its_own_account_only(dev: StartStack) -> None:
    stack = dev("--no-worker", "--account", "good", "--account", "bad")
    config = ("--config", str(stack.config_file))

    def shown(account: str) -> Any:
        return run("account", "show", account, "--json", *config).line()

    def submit(id: str, account: str) -> None:
        run("submit", "--id", id, "--account", account, "--to", TO, "--gas", "21000", *config)

    right, wrong = shown("bad")["kmsKeyId"], shown("good")["kmsKeyId"]
    put_key(stack, "bad", wrong)
    worker = stack.start_worker("--stage", "all")
    submit("bad-1", "bad")
    submit("good-1", "good")
    assert published(stack, "good-1")["status"] == "confirmed"
    item = published(stack, "bad-1")
    assert (item["status"], item["reason"]["code"]) == ("rejected", "accountUnusable"), item
    assert worker.ended is None and "the account's key cannot be used" in worker.log()
    problems = {line["check"]: line for line in run("doctor", "--json", *config).lines() if line["state"] == "problem"}
    assert "belongs to another address" in problems["bad: signer"]["found"], problems
    assert shown("bad")["unusable"]["fault"] == "wrongAddress"

    # The right key is back. Without a restart the signer checks the key again, once a minute while requests arrive.
    put_key(stack, "bad", right)
    ids = (f"bad-again-{at}" for at in count())

    def works() -> bool:
        id = next(ids)
        submit(id, "bad")
        return bool(published(stack, id)["status"] == "confirmed")

    wait_for("the account works again", works, 120, every_s=5)
    assert "unusable" not in shown("bad")


def put_key(stack: Stack, account: str, key: str) -> None:
    """Changes the account's key, as moving its alias would."""
    head = {"account": {"S": f"{TEST}:{stack.addresses[account].lower()}"}, "item": {"S": "head"}}
    stack.aws("dynamodb").update_item(
        TableName=stack.ready["accountsTable"], Key=head, UpdateExpression="SET kmsKeyId = :key",
        ExpressionAttributeValues={":key": {"S": key}})  # fmt: skip
