"""The policy in the message path: senders and limits, and the verdict of `signpost policy check` in advance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from audit import get, published
from stack import Stack, run, wait_for

TO = "0x" + "aa" * 20
OURS = "000000000000"
THEIRS = "111122223333"

RULES = """
[account.hot]
max_gas_price_wei = "3000000000"
gas_price_wei = "100000000"
max_value_wei = 10
spend_limit_wei = "1000000000000000"
spend_window_s = 3600
max_requests = 18
max_requests_window_s = 3600
allow_senders = ["{senders}"]
"""


def sqs_of(stack: Stack, account: str) -> Any:
    """A client with the credentials of another AWS account. The emulator uses the account number as `SenderId`."""
    return boto3.client("sqs", endpoint_url=stack.ready["awsEndpoint"], region_name=stack.ready["region"],
                        aws_access_key_id=account, aws_secret_access_key="test")  # fmt: skip


def send(sqs: Any, stack: Stack, body: dict[str, Any]) -> str:
    """Sends a message. Returns the id of its answer for a sender that may not use the request id."""
    sent = sqs.send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageBody=json.dumps(body),
                            MessageDeduplicationId=json.dumps(body))  # fmt: skip
    return f"sqs:{sent['MessageId']}"


def allow_by_queue_policy(stack: Stack, account: str) -> None:
    """Lets an account send by the queue's policy, so that only Signpost's policy can refuse it."""
    sqs = stack.aws("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=stack.signing_queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Resource": arn,
                 "Action": ["sqs:SendMessage", "sqs:GetQueueUrl"]}  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=stack.signing_queue, Attributes={"Policy": policy})


def with_rules(stack: Stack, directory: Path, senders: str, rules: str = RULES) -> Path:
    """A configuration with these rules."""
    policy = directory / "policy.toml"
    policy.write_text(rules.format(senders=senders))
    lines = stack.config_file.read_text().splitlines()
    config = directory / "signpost.toml"
    config.write_text("\n".join(f"file = {json.dumps(str(policy))}" if line.startswith("file = ") else line
                                for line in lines))  # fmt: skip
    assert str(policy) in config.read_text()
    return config


def transfer(id: str, value: int) -> dict[str, Any]:
    return {"requestId": id, "account": "hot", "to": TO, "value": value, "gas": 21_000}


def test_message_from_an_unlisted_sender_is_refused(dev: Any, tmp_path: Path) -> None:
    stack = dev("--account", "hot", "--no-worker")
    allow_by_queue_policy(stack, THEIRS)
    stack.start_worker(config=with_rules(stack, tmp_path, OURS))
    ours, theirs = sqs_of(stack, OURS), sqs_of(stack, THEIRS)

    own = send(theirs, stack, transfer("ours-1", 2))
    refused = published(stack, own)
    assert (refused["status"], refused["reason"]["code"]) == ("rejected", "senderNotAllowed")
    assert "allow_senders" in refused["reason"]["message"] and THEIRS in refused["reason"]["message"]
    assert (refused["sender"], refused["messageId"]) == (THEIRS, own.removeprefix("sqs:"))
    assert (
        refused["reason"]["requestId"] == "ours-1" and get(stack, "ours-1") is None
    ), "nothing is stored under the request id"
    send(ours, stack, transfer("ours-1", 1))
    assert published(stack, "ours-1")["status"] == "confirmed"

    assert stack.kms_signatures() == 1, "a request of the unlisted sender was signed"
    kept_s = refused["expiresAt"] - refused["createdAt"] // 1000
    assert kept_s == 24 * 3600, f"the retention is {kept_s} s"


def test_cancel_from_an_unlisted_sender_changes_nothing(dev: Any, tmp_path: Path) -> None:
    stack = dev("--account", "hot", "--no-worker")
    allow_by_queue_policy(stack, THEIRS)
    stack.start_worker(config=with_rules(stack, tmp_path, OURS))
    ours, theirs = sqs_of(stack, OURS), sqs_of(stack, THEIRS)
    # Without blocks the request stays open and can be cancelled.
    stack.rpc.call("evm_setIntervalMining", 0)
    send(ours, stack, transfer("ours-1", 1))
    wait_for("ours-1 is sent", lambda: (get(stack, "ours-1") or {}).get("status") == "sent", 60)

    refused = send(theirs, stack, {"cancel": "ours-1"})
    answer = published(stack, refused)
    assert answer["status"] == "rejected" and answer["reason"]["code"] == "senderNotAllowed", answer
    assert answer["sender"] == THEIRS and answer["reason"]["requestId"] == "ours-1"
    item = get(stack, "ours-1")
    assert item is not None and (item["status"], item.get("reason")) == ("sent", None), item
    stack.rpc.call("evm_setIntervalMining", 1)
    assert published(stack, "ours-1")["status"] == "confirmed"
    assert stack.kms_signatures() == 1, "the unlisted sender's cancel was signed"

    # The listed sender's cancel is accepted.
    stack.rpc.call("evm_setIntervalMining", 0)
    send(ours, stack, transfer("ours-2", 1))
    wait_for("ours-2 is sent", lambda: (get(stack, "ours-2") or {}).get("status") == "sent", 60)
    send(ours, stack, {"cancel": "ours-2"})
    wait_for("the cancel is signed", lambda: len((get(stack, "ours-2") or {}).get("attempts", [])) == 2, 60)
    stack.rpc.call("evm_setIntervalMining", 1)
    cancelled = published(stack, "ours-2")
    assert (cancelled["status"], cancelled["reason"]["code"]) == ("cancelled", "cancelled")


def test_requests_above_the_spend_limit_are_rejected(dev: Any, tmp_path: Path) -> None:
    stack = dev("--account", "hot", "--no-worker")
    stack.start_worker(config=with_rules(stack, tmp_path, OURS))
    # Each counts as 21,000 gas at the cap, 63,000 gwei. Fifteen fit into the limit of a million gwei.
    for number in range(20):
        send(stack.aws("sqs"), stack, transfer(f"pay-{number}", 1))
    ended = [published(stack, f"pay-{number}") for number in range(20)]
    assert [item["status"] for item in ended] == ["confirmed"] * 15 + ["rejected"] * 5
    assert {item["reason"]["code"] for item in ended[15:]} == {"spendLimitReached"}
    message = ended[15]["reason"]["message"]
    assert "spend_limit_wei is 1000000000000000 per spend_window_s of 3600" in message, message
    # A copy of a request with a slot does not count and is not refused.
    sqs = stack.aws("sqs")
    sqs.send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageDeduplicationId="again",
                     MessageBody=json.dumps(transfer("pay-3", 1)))  # fmt: skip
    send(sqs, stack, transfer("pay-20", 2))
    assert published(stack, "pay-20")["status"] == "rejected"
    assert get(stack, "pay-3")["status"] == "confirmed"


def test_request_limit_is_counted_per_sender(dev: Any, tmp_path: Path) -> None:
    stack = dev("--account", "hot", "--no-worker")
    allow_by_queue_policy(stack, THEIRS)
    both = RULES.replace('["{senders}"]', f'["{{senders}}", "{THEIRS}"]').replace(
        "max_requests = 18", "max_requests = 3"
    )
    stack.start_worker(config=with_rules(stack, tmp_path, OURS, both))
    ours, theirs = sqs_of(stack, OURS), sqs_of(stack, THEIRS)
    for number in range(5):
        send(ours, stack, transfer(f"ours-{number}", 1))
    send(theirs, stack, transfer("theirs-0", 1))
    ended = [published(stack, f"ours-{number}") for number in range(5)]
    assert [item["status"] for item in ended] == ["confirmed"] * 3 + ["rejected"] * 2
    assert {item["reason"]["code"] for item in ended[3:]} == {"requestLimitReached"}
    assert f"max_requests is 3 per max_requests_window_s of 3600: {OURS}" in ended[3]["reason"]["message"]
    assert published(stack, "theirs-0")["status"] == "confirmed"


@pytest.mark.parametrize(
    ("body", "sender", "code", "printed"),
    [
        (transfer("a", 10), OURS, 0, "allowed: a with account hot"),
        (transfer("a", 11), OURS, 1, "valueTooHigh by max_value_wei: policy max_value_wei is 10: `value` 11"),
        (transfer("a", 1), THEIRS, 1, "senderNotAllowed by allow_senders"),
        ({**transfer("a", 1), "nonce": 7}, OURS, 1, "nonceNotAllowed: `nonce` cannot be chosen"),
        ({"requestId": "a", "to": TO, "gas": 400_000}, OURS, 1, "spendLimitReached by spend_limit_wei"),
    ],
)
def test_policy_check_gives_the_verdict_of_the_service(
    body: dict[str, Any], sender: str, code: int, printed: str, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(RULES.format(senders=OURS))
    request = tmp_path / "request.json"
    request.write_text(json.dumps(body))
    asked = ("policy", "check", "--policy", str(policy), "--request", str(request), "--sender", sender)
    checked = run(*asked)
    assert checked.code == code and printed in checked.out, (checked.out, checked.err)
    line = run(*asked[:5], "-", "--sender", sender, "--json", stdin=json.dumps(body)).line()
    assert line["verdict"] == ("refused" if code else "allowed")
    assert line["code"] == (None if code == 0 else printed.split(":")[0].split(" ")[0])


def test_policy_check_distinguishes_misuse_from_refusal(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[account.hot]\nmax_gas_prize_wei = 1\nspend_limit_wei = 1\n")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(transfer("a", 1)))
    checked = run("policy", "check", "--policy", str(policy), "--request", str(request))
    assert checked.code == 2
    assert "did you mean max_gas_price_wei?" in checked.err and "spend_window_s is missing" in checked.err
    missing = run("policy", "check", "--policy", str(policy), "--request", str(tmp_path / "none.json"))
    assert missing.code == 2
