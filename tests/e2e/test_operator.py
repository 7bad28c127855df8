"""The operator's commands for problems, used as in their `--help`: each as text and as JSON, and each on a stack that
is really in that state."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audit import OUTCOME, STATUS, Subscriber, get, published, queue_depth
from scenario import DENIED, GWEI
from stack import READY_WITHIN_S, Program, CommandResult, Stack, environment, run, wait_for

TO = "0x" + "bb" * 20
SECRET_DATA = "0xdeadbeef" + "5ec2e7" * 20
BLOCK_S = 1  # anvil accepts whole seconds here


def signpost(stack: Stack, *arguments: str) -> CommandResult:
    return run(*arguments, "--config", str(stack.config_file))


def ok(result: CommandResult) -> CommandResult:
    assert result.code == 0, (result.out, result.err)
    return result


def submit(stack: Stack, id: str, *more: str, to: str = TO) -> None:
    account = () if "--account" in more else ("--account", "hot")
    ok(signpost(stack, "submit", "--id", id, "--to", to, "--gas", "21000", *account, *more))


@contextmanager
def no_blocks(stack: Stack) -> Iterator[None]:
    """Stops mining until the end of the block."""
    stack.rpc.call("evm_setIntervalMining", 0)
    try:
        yield
    finally:
        stack.rpc.call("evm_setIntervalMining", BLOCK_S)


# Accounts


def test_paused_account_signs_nothing_until_it_is_resumed(stack: Stack) -> None:
    made = ok(signpost(stack, "account", "register", "cold", "--create-key", "--json")).line()
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    paused = ok(signpost(stack, "account", "pause", "cold", "--json")).line()
    assert paused["paused"] is True
    assert "paused" in ok(signpost(stack, "account", "show", "cold")).out
    submit(stack, "paused-1", "--account", "cold")
    refused = published(stack, "paused-1")
    assert (refused["status"], refused["reason"]["code"]) == ("rejected", "accountPaused")
    # The reason is shown by the request's status and in the list.
    status = ok(signpost(stack, "status", "paused-1")).out
    assert "accountPaused" in status and "resumed" in status, status
    assert "accountPaused" in ok(signpost(stack, "requests", "list", "--status", "rejected")).out
    assert "paused" not in ok(signpost(stack, "account", "resume", "cold")).out
    submit(stack, "paused-1", "--account", "cold", "--metadata", "{}")
    assert published(stack, "paused-1", "confirmed")["attempts"]


def test_retiring_needs_confirmation_and_no_open_slots(stack: Stack) -> None:
    made = ok(signpost(stack, "account", "register", "leaving", "--create-key", "--json")).line()
    assert "retiredAt" not in made
    unconfirmed = signpost(stack, "account", "retire", "leaving")
    assert unconfirmed.code == 2 and "--yes" in unconfirmed.err, unconfirmed.err
    # Without funds its request stays open.
    submit(stack, "leaving-1", "--account", "leaving")
    wait_for("a slot is open", lambda: get(stack, "leaving-1"), 30)
    too_early = signpost(stack, "account", "retire", "leaving", "--yes")
    assert too_early.code == 2 and "1 open slot" in too_early.err, too_early.err
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    published(stack, "leaving-1", "confirmed")
    wait_for(
        "the slot is closed",
        lambda: not ok(signpost(stack, "account", "show", "leaving", "--json")).line()["openSlots"],
        30,
    )
    retired = ok(signpost(stack, "account", "retire", "leaving", "--yes", "--json")).line()
    assert retired["paused"] is True and retired["retiredAt"] > 0
    resumed = signpost(stack, "account", "resume", "leaving")
    assert resumed.code == 2 and "cannot be resumed" in resumed.err, resumed.err
    submit(stack, "leaving-2", "--account", "leaving")
    assert published(stack, "leaving-2")["reason"]["code"] == "accountPaused"
    assert "retired 20" in ok(signpost(stack, "account", "list")).out
    # Its history stays available.
    trail = ok(signpost(stack, "export", "--since", "1h", "--account", "leaving")).lines()
    assert {line["requestId"] for line in trail} == {"leaving-1", "leaving-2"}


# Requests


def test_requests_are_listed_newest_first_by_account_status_and_age(stack: Stack) -> None:
    for id, to in [("list-1", TO), ("list-2", DENIED), ("list-3", TO)]:
        submit(stack, id, to=to)
        published(stack, id)
    listed = ok(signpost(stack, "requests", "list", "--account", "hot", "--since", "10m", "--json")).lines()
    for line in listed:
        STATUS.validate(line)
    ours = [line["requestId"] for line in listed if line["requestId"].startswith("list-")]
    assert ours == ["list-3", "list-2", "list-1"]
    rejected = ok(signpost(stack, "requests", "list", "--status", "rejected", "--json")).lines()
    assert "list-2" in {line["requestId"] for line in rejected}
    assert {line["status"] for line in rejected} == {"rejected"}
    assert len(ok(signpost(stack, "requests", "list", "--limit", "2", "--json")).lines()) == 2
    text = ok(signpost(stack, "requests", "list", "--since", "10m")).out
    assert "list-1" in text and "toNotAllowed" in text and "hot" in text, text
    assert signpost(stack, "requests", "list", "--since", "yesterday").code == 2
    assert signpost(stack, "requests", "list", "--status", "failed").code == 2


def test_message_without_an_account_is_found_by_a_scan(stack: Stack) -> None:
    sent = stack.aws("sqs").send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageBody="{ no JSON")
    id = f"sqs:{sent['MessageId']}"
    published(stack, id)
    by_index = ok(signpost(stack, "requests", "list", "--limit", "1000", "--json")).lines()
    assert id not in {line["requestId"] for line in by_index}
    scanned = ok(signpost(stack, "requests", "list", "--scan", "--status", "rejected", "--json")).lines()
    assert [line["reason"]["code"] for line in scanned if line["requestId"] == id] == ["notJson"]


def test_status_shows_a_timeline_with_node_answers(stack: Stack) -> None:
    submit(stack, "timeline-1")
    item = published(stack, "timeline-1")
    shown = ok(signpost(stack, "status", "timeline-1")).out
    steps = ["reserved", "signed", "sent", "confirmed", "published"]
    places = [shown.index(f" s  {step}") for step in steps]
    assert places == sorted(places), shown
    assert "a node accepted it" in shown and item["txHash"] in shown and f"block {item['blockNumber']}" in shown, shown


# A stuck request


def test_stuck_request_is_bumped_within_its_cap_and_mined(stack: Stack) -> None:
    with no_blocks(stack):
        submit(stack, "bump-1", "--gas-price", str(GWEI // 10), "--max-gas-price", str(2 * GWEI))
        wait_for(
            "the request is sent",
            lambda: any("sentAt" in a for a in (get(stack, "bump-1") or {}).get("attempts", [])),
            30,
        )
        unconfirmed = signpost(stack, "bump", "bump-1", "--max-gas-price", str(GWEI))
        assert unconfirmed.code == 2 and "--yes" in unconfirmed.err, unconfirmed.err
        above = signpost(stack, "bump", "bump-1", "--max-gas-price", str(2 * GWEI + 1), "--yes")
        assert above.code == 2 and "cap" in above.err and "cancel" in above.err, above.err
        small = signpost(stack, "bump", "bump-1", "--max-gas-price", str(GWEI // 10 + 1), "--yes")
        assert small.code == 2 and "a tenth" in small.err, small.err
        bumped = ok(signpost(stack, "bump", "bump-1", "--max-gas-price", str(GWEI), "--yes", "--json")).line()
        assert (bumped["kind"], bumped["gasPrice"]) == ("execute", str(GWEI))
        item = get(stack, "bump-1")
        assert item and bumped["txHash"] in {attempt["txHash"] for attempt in item["attempts"]}
    item = published(stack, "bump-1")
    assert (item["status"], int(item["effectiveGasPrice"]) >= GWEI) == ("confirmed", True), item
    late = signpost(stack, "bump", "bump-1", "--max-gas-price", str(2 * GWEI), "--yes")
    assert late.code == 2 and "confirmed" in late.err, late.err
    assert signpost(stack, "bump", "never-sent", "--max-gas-price", "1", "--yes").code == 1


def test_stuck_request_is_rescued_with_the_printed_command(stack: Stack) -> None:
    node = stack.rpc.url
    with no_blocks(stack):
        submit(stack, "rescue-1", "--value", "7", "--gas-price", str(GWEI))
        wait_for(
            "the request is sent",
            lambda: any("sentAt" in a for a in (get(stack, "rescue-1") or {}).get("attempts", [])),
            30,
        )
        lane = ok(signpost(stack, "status", "rescue-1")).out
        assert "payment: it moves BNB" in lane and "not active yet" in lane, lane
        stack.rpc.call("anvil_dropTransaction", get(stack, "rescue-1")["attempts"][0]["txHash"])
        rescue = ok(signpost(stack, "rescue", "rescue-1", "--json")).line()
        [attempt] = rescue["attempts"]
        assert node not in json.dumps(rescue) and attempt["explorer"].startswith(
            "https://testnet.bscscan.com/tx/0x"
        ), rescue
        assert rescue["bump"].startswith("signpost bump rescue-1 --max-gas-price "), rescue
        assert "--config" in rescue["cancel"], rescue
        result = subprocess.run(["bash", "-c", attempt["curl"][0]], env={**environment(), "BSC_RPC_1": node},
                             capture_output=True, text=True, check=True)  # fmt: skip
        answer = json.loads(result.stdout)
        assert answer.get("result") == attempt["txHash"] or "already" in answer["error"]["message"], answer
        text = ok(signpost(stack, "rescue", "rescue-1")).out
        assert f"RAW_0={attempt['raw']}" in text and '"$BSC_RPC_1"' in text and node not in text, text
    assert published(stack, "rescue-1")["status"] == "confirmed"
    assert "there is nothing to do" in ok(signpost(stack, "rescue", "rescue-1")).out
    unknown = signpost(stack, "rescue", "never-sent")
    assert unknown.code == 1 and "no request never-sent" in unknown.err, unknown.err


def test_cancel_needs_confirmation(stack: Stack) -> None:
    unconfirmed = signpost(stack, "cancel", "anything")
    assert unconfirmed.code == 2 and "--yes" in unconfirmed.err and "cannot be undone" in unconfirmed.err, unconfirmed.err


# Outcomes


def test_republished_outcome_is_an_identical_copy(stack: Stack) -> None:
    subscriber = Subscriber(stack, "republished", ["confirmed", "rejected"])
    for id, to in [("again-1", TO), ("again-2", DENIED)]:
        submit(stack, id, to=to)
        published(stack, id)
    wait_for("the first copies", lambda: subscriber.receive() or len(copies(subscriber, "again-")) == 2, 30)
    first = copies(subscriber, "again-")
    lines = ok(signpost(stack, "republish", "again-1", "again-2", "--json")).lines()
    wait_for("the second copies", lambda: subscriber.receive() or len(copies(subscriber, "again-")) == 4, 30)
    assert sorted(copies(subscriber, "again-")) == sorted([*first, *first]), "a copy differs"
    assert {line["eventId"] for line in lines} == {json.loads(body)["eventId"] for body in first}
    unknown = signpost(stack, "republish", "never-sent")
    assert unknown.code == 1 and "no such request" in unknown.err
    with no_blocks(stack):
        submit(stack, "again-3")
        wait_for("the request is recorded", lambda: get(stack, "again-3"), 30)
        early = signpost(stack, "republish", "again-3")
        assert early.code == 1 and "no outcome yet" in early.err, early.err
    published(stack, "again-3")


def copies(subscriber: Subscriber, prefix: str) -> list[str]:
    return [copy.body for copy in subscriber.copies if copy.json["requestId"].startswith(prefix)]


def test_export_names_sender_policy_verdict_and_key(stack: Stack) -> None:
    submit(stack, "trail-1")
    submit(stack, "trail-2", to=DENIED)
    for id in ("trail-1", "trail-2"):
        published(stack, id)
    exported = ok(signpost(stack, "export", "--since", "10m"))
    trail = {line["requestId"]: line for line in exported.lines()}
    key = ok(signpost(stack, "account", "show", "hot", "--json")).line()["kmsKeyId"]
    signed, refused = trail["trail-1"], trail["trail-2"]
    assert (signed["policy"]["verdict"], signed["kmsKeyId"]) == ("allowed", key)
    assert signed["asked"]["sender"] and signed["attempts"][0]["txHash"] == signed["outcome"]["txHash"]
    assert (refused["policy"]["code"], refused["kmsKeyId"], refused["attempts"]) == ("toNotAllowed", None, [])
    for line in trail.values():
        if line["outcome"]:
            OUTCOME.validate(line["outcome"])
    assert ok(signpost(stack, "export", "--since", "0s")).lines() == []


# Checking a stack


def violations(stack: Stack) -> list[dict[str, Any]]:
    result = signpost(stack, "audit", "--account", "hot", "--json")
    found = [line for line in result.lines() if "invariant" in line]
    assert result.code == (1 if found else 0), (result.out, result.err)
    return found


@contextmanager
def broken(stack: Stack, table: str, key: dict[str, Any], **change: Any) -> Iterator[None]:
    """Changes an item by hand until the end of the block; without a change, deletes it."""
    dynamodb, name = stack.aws("dynamodb"), stack.ready[table]
    item = dynamodb.get_item(TableName=name, Key=key, ConsistentRead=True)["Item"]
    if change:
        dynamodb.put_item(TableName=name, Item={**item, **change})
    else:
        dynamodb.delete_item(TableName=name, Key=key)
    try:
        yield
    finally:
        dynamodb.put_item(TableName=name, Item=item)


def test_audit_finds_manual_damage_and_nothing_else(stack: Stack) -> None:
    for id in ("audit-1", "audit-2"):
        submit(stack, id)
        published(stack, id)
    head = {"account": {"S": f"97:{stack.addresses['hot'].lower()}"}}
    wait_for(
        "the slots are closed",
        lambda: not ok(signpost(stack, "account", "show", "hot", "--json")).line()["openSlots"],
        30,
    )
    assert violations(stack) == []
    text = ok(signpost(stack, "audit"))
    assert "hot" in text.out and ": ok" in text.out, text.out

    item = get(stack, "audit-1")
    assert item
    key = {"requestId": {"S": "audit-1"}}
    slot = {**head, "item": {"S": f"nonce#{item['nonce']:012}"}}

    def found(invariant: str, about: str) -> None:
        lines = violations(stack)
        assert any(line["invariant"] == invariant and about in line["about"] for line in lines), lines
        printed = signpost(stack, "audit", "--account", "hot")
        assert printed.code == 1 and invariant in printed.out and "violation" in printed.out, printed.out

    with broken(stack, "accountsTable", slot, requestId={"S": "audit-2"}):
        found("I1", f"nonce {item['nonce']}")
    with broken(stack, "accountsTable", slot):
        found("I1", "audit-1")
    with broken(stack, "requestsTable", key):
        found("I1", f"nonce {item['nonce']}")
    with broken(stack, "requestsTable", key, attempts={"L": []}):
        assert any("audit-1" in line["about"] for line in violations(stack))
    with broken(stack, "requestsTable", key, status={"S": "reverted"}):
        found("I6", "audit-1")
    with broken(stack, "requestsTable", key, status={"S": "rejected"}):
        found("I7", "audit-1")
    with broken(stack, "requestsTable", key, value={"S": "17"}):
        assert any("audit-1" in line["about"] for line in violations(stack))
    with broken(stack, "requestsTable", key, feeCap={"S": "1"}):
        found("I9", "audit-1")
    with broken(stack, "requestsTable", key, blockNumber={"N": str(10**9)}):
        found("I6", "audit-1")
    next_nonce = item["nonce"]
    with broken(stack, "accountsTable", {**head, "item": {"S": "head"}},
                nextNonce={"N": str(next_nonce)}, lowestOpenNonce={"N": str(next_nonce)}):  # fmt: skip
        found("I4", "audit-1")
    assert violations(stack) == [], "every item is restored"


def test_doctor_finds_no_problem_in_a_healthy_stack(stack: Stack) -> None:
    checks = ok(signpost(stack, "doctor", "--json")).lines()
    assert {line["state"] for line in checks} <= {"ok", "look"}, checks
    checked = {line["check"] for line in checks}
    for check in [
        "credentials",
        "signing queue: redrive",
        "resign queue: visibility",
        "requests table: index",
        "requests table: expiry",
        "accounts table: key",
        "outcome topic",
        "hot: key",
        "hot: address",
        "hot: code",
        "hot: balance",
        "hot: nonces",
        "clock",
        "policy file",
        "payment lane",
        "fork: Jenner",
    ]:
        assert check in checked, (check, checked)
    [version] = [line for line in checks if line["check"].endswith(": version")]
    assert "anvil" in version["found"] and "unknown version" in version["found"], version
    [lane] = [line for line in checks if line["check"] == "payment lane"]
    assert lane["found"] == "the payment lane is not active yet", lane
    assert any(check.startswith("node 1") and check.endswith("finality") for check in checked)
    text = ok(signpost(stack, "doctor"))
    assert text.out.splitlines()[-1].endswith("no problem found"), text.out


def test_doctor_names_each_problem_and_its_remedy(stack: Stack, tmp_path: Path) -> None:
    key = ok(signpost(stack, "account", "show", "hot", "--json")).line()["kmsKeyId"]
    sqs, kms = stack.aws("sqs"), stack.aws("kms")
    kms.disable_key(KeyId=key)
    sqs.set_queue_attributes(QueueUrl=stack.signing_queue, Attributes={"VisibilityTimeout": "5"})
    try:
        checks = signpost(stack, "doctor", "--json")
    finally:
        kms.enable_key(KeyId=key)
        sqs.set_queue_attributes(QueueUrl=stack.signing_queue, Attributes={"VisibilityTimeout": "60"})
    problems = {line["check"]: line for line in checks.lines() if line["state"] == "problem"}
    assert checks.code == 1
    assert "Disabled" in problems["hot: key"]["found"] and problems["hot: key"]["todo"]
    assert problems["signing queue: visibility"]["found"] == "5 s"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(stack.config_file.read_text().replace("chain_id = 97", "chain_id = 56"))
    other = run("doctor", "--config", str(wrong))
    assert other.code == 1 and "chain 97" in other.out and "→" in other.out, other.out


def test_http_node_is_reported_by_doctor_and_at_start(stack: Stack, tmp_path: Path) -> None:
    # No server listens at this address, and it does not count as loopback. The key in the URL must not be shown.
    url = "http://0.0.0.0:1/topsecret"
    config = tmp_path / "clear.toml"
    config.write_text(stack.config_file.read_text().replace("rpc_urls = [", f'rpc_urls = ["{url}", '))
    checks = {line["check"]: line for line in run("doctor", "--json", "--config", str(config)).lines()}
    found = checks["0.0.0.0: transport"]
    assert found["state"] == "look" and found["found"].startswith("http://") and "https" in found["todo"], found
    assert [check for check in checks if check.endswith(": transport")] == [
        "0.0.0.0: transport"
    ], "loopback needs no TLS"
    worker = Program(tmp_path, "clear", ["worker", "--config", str(config), "--stage", "broadcaster"])
    try:
        log = wait_for(
            "the worker warns",
            lambda: worker.log() if "not encrypted (http://)" in worker.log() else None,
            READY_WITHIN_S,
        )
    finally:
        worker.stop()
    [line] = [line for line in log.splitlines() if "not encrypted (http://)" in line]
    assert "0.0.0.0" in line and "WARN" in line, line
    assert "topsecret" not in worker.log()


def dead_letters(stack: Stack) -> str:
    asked = stack.aws("sqs").get_queue_attributes(QueueUrl=stack.signing_queue, AttributeNames=["RedrivePolicy"])
    name = json.loads(asked["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"].rsplit(":", 1)[1]
    url: str = stack.aws("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    return url


def test_dead_letters_are_listed_without_data_and_redriven_in_order(stack: Stack) -> None:
    sqs, dead = stack.aws("sqs"), dead_letters(stack)
    # More than one receive returns: a FIFO queue holds the group's other messages back until those are deleted.
    ids = [f"dead-{at:02}" for at in range(13)]
    for id in ids:
        body = {"requestId": id, "account": "hot", "to": TO, "gas": 60_000, "data": SECRET_DATA}
        sqs.send_message(QueueUrl=dead, MessageGroupId="hot", MessageDeduplicationId=id, MessageBody=json.dumps(body))
    shown = ok(signpost(stack, "redrive", "--dry-run"))
    assert all(id in shown.out for id in ids[:10]) and "hot" in shown.out, shown.out
    assert SECRET_DATA[2:] not in shown.out + shown.err
    counted = [
        line for line in signpost(stack, "doctor", "--json").lines() if line["check"] == "signing queue: set aside"
    ]
    assert counted[0]["state"] == "problem" and "redrive" in counted[0]["todo"], counted
    unconfirmed = signpost(stack, "redrive", "--queue", "signing")
    assert unconfirmed.code == 2 and "--yes" in unconfirmed.err, unconfirmed.err
    assert queue_depth(sqs, dead) == len(ids), "messages were moved without --yes"
    moved = ok(signpost(stack, "redrive", "--queue", "signing", "--yes", "--json"))
    assert [line["requestId"] for line in moved.lines()] == ids
    items = [published(stack, id) for id in ids]
    assert {item["status"] for item in items} == {"confirmed"}
    assert [item["nonce"] for item in items] == sorted(item["nonce"] for item in items), "the order changed"
    assert queue_depth(sqs, dead) == 0
    assert "no message" in ok(signpost(stack, "redrive", "--yes")).err


def test_refused_dead_letter_is_answered_again_and_not_redriven(stack: Stack) -> None:
    sqs, dead = stack.aws("sqs"), dead_letters(stack)
    bad = sqs.send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageBody="{ no JSON either")[
        "MessageId"
    ]
    item = published(stack, f"sqs:{bad}")
    # As if the answered message was moved to the dead-letter queue later, behind a failed message of its group.
    body = json.dumps({"requestId": "refused-before", "account": "hot", "to": TO, "gas": 60_000})
    held = sqs.send_message(QueueUrl=dead, MessageGroupId="hot", MessageDeduplicationId=bad, MessageBody=body)[
        "MessageId"
    ]
    dynamodb, table = stack.aws("dynamodb"), stack.ready["requestsTable"]
    answer = dynamodb.get_item(TableName=table, Key={"requestId": {"S": f"sqs:{bad}"}})["Item"]
    dynamodb.put_item(TableName=table, Item={**answer, "requestId": {"S": f"sqs:{held}"}})
    subscriber = Subscriber(stack, "answered-again", ["rejected"])
    moved = ok(signpost(stack, "redrive", "--queue", "signing", "--yes"))
    assert "1 message(s) had been rejected before" in moved.err and "0 message(s) moved back" in moved.err, moved.err
    wait_for("the republished outcome", lambda: subscriber.receive() or copies(subscriber, f"sqs:{held}"), 30)
    [copy] = copies(subscriber, f"sqs:{held}")
    assert json.loads(copy)["reason"]["code"] == item["reason"]["code"] == "notJson"
    assert queue_depth(sqs, dead) == 0 and get(stack, "refused-before") is None


# The shell


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completes_the_commands(shell: str) -> None:
    script = ok(run("completions", shell)).out
    for command in ("account", "requests", "bump", "rescue", "audit", "doctor", "redrive", "export", "republish"):
        assert command in script, f"{shell} does not complete {command}"


def test_bash_completes_a_partial_command(tmp_path: Path) -> None:
    script = tmp_path / "completions.bash"
    script.write_text(run("completions", "bash").out)
    asked = f"""source {script}; COMP_WORDS=(signpost requ); COMP_CWORD=1
_signpost signpost requ signpost; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "requests", (done.stdout, done.stderr)
