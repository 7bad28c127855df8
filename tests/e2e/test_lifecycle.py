"""Bumps and cancels of stuck requests on the local stack."""

from __future__ import annotations

import json
from typing import Any

from audit import get, published
from stack import Stack, run, wait_for

TO = "0x" + "aa" * 20
BLOCK_S = 1  # anvil accepts whole seconds here
BLOCKS_BEFORE_A_BUMP = 16


def signpost(stack: Stack, *arguments: str) -> str:
    result = run(*arguments, "--config", str(stack.config_file))
    assert result.code == 0, result.err
    return result.out


def attempts(item: dict[str, Any] | None) -> list[dict[str, Any]]:
    return item.get("attempts", []) if item else []


def test_unmined_request_is_bumped_and_outcome_names_mined_attempt(stack: Stack) -> None:
    stack.rpc.call("evm_setIntervalMining", 0)
    signpost(stack, "submit", "--id", "stuck-1", "--account", "hot", "--to", TO, "--gas", "21000")
    [sent] = wait_for("the request is sent", lambda: [a for a in attempts(get(stack, "stuck-1")) if "sentAt" in a], 30)
    # More than two rounds of validators without the transaction: only blocks trigger a bump, not time. It is sent
    # again and waits in the pool.
    stack.rpc.call("anvil_dropTransaction", sent["txHash"])
    stack.rpc.call("anvil_mine", hex(BLOCKS_BEFORE_A_BUMP + 1))
    bumped = wait_for("a bump", lambda: (a := attempts(get(stack, "stuck-1"))) and len(a) > 1 and a, 40)
    first, second = (int(attempt["fee"]["gasPrice"]) for attempt in bumped[:2])
    assert second >= first + (first + 9) // 10
    stack.rpc.call("evm_setIntervalMining", BLOCK_S)
    item = published(stack, "stuck-1")
    assert item["status"] == "confirmed"
    assert item["txHash"] in {attempt["txHash"] for attempt in item["attempts"]}
    shown = signpost(stack, "status", "stuck-1")
    for attempt in item["attempts"]:
        assert attempt["txHash"] in shown, shown
        assert attempt["fee"]["gasPrice"] in shown.replace(",", ""), shown
    assert "accepted" in shown, shown


def test_cancel_uses_the_nonce_and_the_lane_continues(stack: Stack) -> None:
    made = run("account", "register", "poor", "--create-key", "--json", "--config", str(stack.config_file)).line()
    signpost(stack, "submit", "--id", "unwanted-1", "--account", "poor", "--to", TO, "--gas", "21000")
    wait_for(
        "the request is sent", lambda: any("sentAt" in attempt for attempt in attempts(get(stack, "unwanted-1"))), 30
    )
    signpost(stack, "cancel", "unwanted-1", "--yes")
    wait_for("a cancel attempt", lambda: attempts(get(stack, "unwanted-1"))[-1:] and
             attempts(get(stack, "unwanted-1"))[-1]["kind"] == "cancel", 40)  # fmt: skip
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    item = published(stack, "unwanted-1")
    assert (item["status"], item["reason"]["code"]) == ("cancelled", "cancelled")
    mined = stack.rpc.call("eth_getTransactionByHash", item["txHash"])
    assert mined["to"].lower() == made["address"].lower() and int(mined["value"], 16) in (0, 1)
    signpost(stack, "submit", "--id", "wanted-1", "--account", "poor", "--to", TO, "--gas", "21000")
    after = published(stack, "wanted-1")
    assert (after["status"], after["nonce"]) == ("confirmed", item["nonce"] + 1)


def test_cancel_of_unknown_id_is_answered_and_stores_no_request(stack: Stack) -> None:
    sent = stack.aws("sqs").send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot",
                                         MessageBody=json.dumps({"cancel": "never-sent-1"}))  # fmt: skip
    answer = published(stack, f"sqs:{sent['MessageId']}")
    assert (answer["reason"]["code"], answer["reason"]["requestId"]) == ("unknownRequest", "never-sent-1")
    unknown = run("cancel", "never-sent-1", "--yes", "--config", str(stack.config_file))
    assert unknown.code == 1 and "no request never-sent-1" in unknown.err, unknown
    signpost(stack, "submit", "--id", "after-1", "--account", "hot", "--to", TO, "--gas", "21000")
    published(stack, "after-1")
    assert get(stack, "never-sent-1") is None
