"""What an operator does when something is wrong, with the commands as their `--help` tells them: each as text
and as JSON, and each on a stack that is really in that state."""

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
from stack import READY_WITHIN_S, Program, Ran, Stack, environment, run, wait_for

TO = "0x" + "bb" * 20
SECRET_DATA = "0xdeadbeef" + "5ec2e7" * 20
BLOCK_S = 1  # anvil takes whole seconds here


def beside(stack: Stack, *arguments: str) -> Ran:
    return run(*arguments, "--config", str(stack.config_file))


def well(ran: Ran) -> Ran:
    assert ran.code == 0, (ran.out, ran.err)
    return ran


def submit(stack: Stack, id: str, *more: str, to: str = TO) -> None:
    account = () if "--account" in more else ("--account", "hot")
    well(beside(stack, "submit", "--id", id, "--to", to, "--gas", "21000", *account, *more))


@contextmanager
def no_blocks(stack: Stack) -> Iterator[None]:
    """While nobody mines."""
    stack.rpc.call("evm_setIntervalMining", 0)
    try:
        yield
    finally:
        stack.rpc.call("evm_setIntervalMining", BLOCK_S)


# Accounts


def test_a_paused_account_signs_nothing_until_it_is_resumed(stack: Stack) -> None:
    made = well(beside(stack, "account", "register", "cold", "--create-key", "--json")).line()
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    paused = well(beside(stack, "account", "pause", "cold", "--json")).line()
    assert paused["paused"] is True
    assert "paused" in well(beside(stack, "account", "show", "cold")).out
    submit(stack, "paused-1", "--account", "cold")
    refused = published(stack, "paused-1")
    assert (refused["status"], refused["reason"]["code"]) == ("rejected", "accountPaused")
    # The reason is found without knowing where to look: by the status of the request, and in the list.
    told = well(beside(stack, "status", "paused-1")).out
    assert "accountPaused" in told and "resumed" in told, told
    assert "accountPaused" in well(beside(stack, "requests", "list", "--status", "rejected")).out
    assert "paused" not in well(beside(stack, "account", "resume", "cold")).out
    submit(stack, "paused-1", "--account", "cold", "--metadata", "{}")
    assert published(stack, "paused-1", "confirmed")["attempts"]


def test_an_account_is_retired_only_when_asked_twice_and_without_open_slots(stack: Stack) -> None:
    made = well(beside(stack, "account", "register", "leaving", "--create-key", "--json")).line()
    assert "retiredAt" not in made
    unasked = beside(stack, "account", "retire", "leaving")
    assert unasked.code == 2 and "--yes" in unasked.err, unasked.err
    # Without funds its request stays open.
    submit(stack, "leaving-1", "--account", "leaving")
    wait_for("a slot is open", lambda: get(stack, "leaving-1"), 30)
    too_early = beside(stack, "account", "retire", "leaving", "--yes")
    assert too_early.code == 2 and "1 open slot" in too_early.err, too_early.err
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    published(stack, "leaving-1", "confirmed")
    wait_for("the slot is left", lambda: not well(beside(stack, "account", "show", "leaving", "--json")).line()["openSlots"], 30)
    retired = well(beside(stack, "account", "retire", "leaving", "--yes", "--json")).line()
    assert retired["paused"] is True and retired["retiredAt"] > 0
    resumed = beside(stack, "account", "resume", "leaving")
    assert resumed.code == 2 and "for good" in resumed.err, resumed.err
    submit(stack, "leaving-2", "--account", "leaving")
    assert published(stack, "leaving-2")["reason"]["code"] == "accountPaused"
    assert "retired 20" in well(beside(stack, "account", "list")).out
    # What it did stays to be looked at.
    trail = well(beside(stack, "export", "--since", "1h", "--account", "leaving")).lines()
    assert {line["requestId"] for line in trail} == {"leaving-1", "leaving-2"}


# Requests


def test_requests_are_listed_newest_first_by_account_status_and_age(stack: Stack) -> None:
    for id, to in [("list-1", TO), ("list-2", DENIED), ("list-3", TO)]:
        submit(stack, id, to=to)
        published(stack, id)
    listed = well(beside(stack, "requests", "list", "--account", "hot", "--since", "10m", "--json")).lines()
    for line in listed:
        STATUS.validate(line)
    ours = [line["requestId"] for line in listed if line["requestId"].startswith("list-")]
    assert ours == ["list-3", "list-2", "list-1"]
    rejected = well(beside(stack, "requests", "list", "--status", "rejected", "--json")).lines()
    assert "list-2" in {line["requestId"] for line in rejected}
    assert {line["status"] for line in rejected} == {"rejected"}
    assert len(well(beside(stack, "requests", "list", "--limit", "2", "--json")).lines()) == 2
    text = well(beside(stack, "requests", "list", "--since", "10m")).out
    assert "list-1" in text and "toNotAllowed" in text and "hot" in text, text
    assert beside(stack, "requests", "list", "--since", "yesterday").code == 2
    assert beside(stack, "requests", "list", "--status", "failed").code == 2


def test_a_message_without_an_account_is_found_by_a_scan(stack: Stack) -> None:
    sent = stack.aws("sqs").send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageBody="{ no JSON")
    id = f"sqs:{sent['MessageId']}"
    published(stack, id)
    by_index = well(beside(stack, "requests", "list", "--limit", "1000", "--json")).lines()
    assert id not in {line["requestId"] for line in by_index}
    scanned = well(beside(stack, "requests", "list", "--scan", "--status", "rejected", "--json")).lines()
    assert [line["reason"]["code"] for line in scanned if line["requestId"] == id] == ["notJson"]


def test_the_status_is_a_timeline_with_what_each_node_said(stack: Stack) -> None:
    submit(stack, "timeline-1")
    item = published(stack, "timeline-1")
    shown = well(beside(stack, "status", "timeline-1")).out
    steps = ["reserved", "signed", "sent", "confirmed", "published"]
    places = [shown.index(f" s  {step}") for step in steps]
    assert places == sorted(places), shown
    assert "a node took it" in shown and item["txHash"] in shown and f"block {item['blockNumber']}" in shown, shown


# A stuck request


def test_a_stuck_request_is_bumped_within_its_cap_and_mined_at_the_new_price(stack: Stack) -> None:
    with no_blocks(stack):
        submit(stack, "bump-1", "--gas-price", str(GWEI // 10), "--max-gas-price", str(2 * GWEI))
        wait_for("it was sent", lambda: any("sentAt" in a for a in (get(stack, "bump-1") or {}).get("attempts", [])), 30)
        unasked = beside(stack, "bump", "bump-1", "--max-gas-price", str(GWEI))
        assert unasked.code == 2 and "--yes" in unasked.err, unasked.err
        above = beside(stack, "bump", "bump-1", "--max-gas-price", str(2 * GWEI + 1), "--yes")
        assert above.code == 2 and "cap" in above.err and "cancel" in above.err, above.err
        small = beside(stack, "bump", "bump-1", "--max-gas-price", str(GWEI // 10 + 1), "--yes")
        assert small.code == 2 and "a tenth" in small.err, small.err
        bumped = well(beside(stack, "bump", "bump-1", "--max-gas-price", str(GWEI), "--yes", "--json")).line()
        assert (bumped["kind"], bumped["gasPrice"]) == ("execute", str(GWEI))
        item = get(stack, "bump-1")
        assert item and bumped["txHash"] in {attempt["txHash"] for attempt in item["attempts"]}
    item = published(stack, "bump-1")
    assert (item["status"], int(item["effectiveGasPrice"]) >= GWEI) == ("confirmed", True), item
    late = beside(stack, "bump", "bump-1", "--max-gas-price", str(2 * GWEI), "--yes")
    assert late.code == 2 and "confirmed" in late.err, late.err
    assert beside(stack, "bump", "never-sent", "--max-gas-price", "1", "--yes").code == 1


def test_a_stuck_request_is_rescued_with_what_is_printed(stack: Stack) -> None:
    node = stack.rpc.url
    with no_blocks(stack):
        submit(stack, "rescue-1", "--value", "7", "--gas-price", str(GWEI))
        wait_for("it was sent", lambda: any("sentAt" in a for a in (get(stack, "rescue-1") or {}).get("attempts", [])), 30)
        lane = well(beside(stack, "status", "rescue-1")).out
        assert "payment: it moves BNB" in lane and "not active yet" in lane, lane
        stack.rpc.call("anvil_dropTransaction", get(stack, "rescue-1")["attempts"][0]["txHash"])
        told = well(beside(stack, "rescue", "rescue-1", "--json")).line()
        [attempt] = told["attempts"]
        assert node not in json.dumps(told) and attempt["explorer"].startswith("https://testnet.bscscan.com/tx/0x"), told
        assert told["bump"].startswith("signpost bump rescue-1 --max-gas-price ") and "--config" in told["cancel"], told
        ran = subprocess.run(["bash", "-c", attempt["curl"][0]], env={**environment(), "BSC_RPC_1": node},
                             capture_output=True, text=True, check=True)  # fmt: skip
        answer = json.loads(ran.stdout)
        assert answer.get("result") == attempt["txHash"] or "already" in answer["error"]["message"], answer
        text = well(beside(stack, "rescue", "rescue-1")).out
        assert f"RAW_0={attempt['raw']}" in text and '"$BSC_RPC_1"' in text and node not in text, text
    assert published(stack, "rescue-1")["status"] == "confirmed"
    assert "nothing needs to be done" in well(beside(stack, "rescue", "rescue-1")).out
    unknown = beside(stack, "rescue", "never-sent")
    assert unknown.code == 1 and "no request never-sent" in unknown.err, unknown.err



def test_a_cancel_asks_first(stack: Stack) -> None:
    unasked = beside(stack, "cancel", "anything")
    assert unasked.code == 2 and "--yes" in unasked.err and "taken back" in unasked.err, unasked.err


# Outcomes


def test_an_outcome_is_published_again_as_an_equal_copy(stack: Stack) -> None:
    subscriber = Subscriber(stack, "republished", ["confirmed", "rejected"])
    for id, to in [("again-1", TO), ("again-2", DENIED)]:
        submit(stack, id, to=to)
        published(stack, id)
    wait_for("the first copies", lambda: subscriber.receive() or len(copies(subscriber, "again-")) == 2, 30)
    first = copies(subscriber, "again-")
    lines = well(beside(stack, "republish", "again-1", "again-2", "--json")).lines()
    wait_for("the second copies", lambda: subscriber.receive() or len(copies(subscriber, "again-")) == 4, 30)
    assert sorted(copies(subscriber, "again-")) == sorted([*first, *first]), "a copy differs"
    assert {line["eventId"] for line in lines} == {json.loads(body)["eventId"] for body in first}
    unknown = beside(stack, "republish", "never-sent")
    assert unknown.code == 1 and "no such request" in unknown.err
    with no_blocks(stack):
        submit(stack, "again-3")
        wait_for("it is there", lambda: get(stack, "again-3"), 30)
        early = beside(stack, "republish", "again-3")
        assert early.code == 1 and "no outcome yet" in early.err, early.err
    published(stack, "again-3")


def copies(subscriber: Subscriber, prefix: str) -> list[str]:
    return [copy.body for copy in subscriber.copies if copy.json["requestId"].startswith(prefix)]


def test_the_trail_says_who_asked_what_policy_said_and_with_which_key(stack: Stack) -> None:
    submit(stack, "trail-1")
    submit(stack, "trail-2", to=DENIED)
    for id in ("trail-1", "trail-2"):
        published(stack, id)
    exported = well(beside(stack, "export", "--since", "10m"))
    trail = {line["requestId"]: line for line in exported.lines()}
    key = well(beside(stack, "account", "show", "hot", "--json")).line()["kmsKeyId"]
    signed, refused = trail["trail-1"], trail["trail-2"]
    assert (signed["policy"]["verdict"], signed["kmsKeyId"]) == ("allowed", key)
    assert signed["asked"]["sender"] and signed["attempts"][0]["txHash"] == signed["outcome"]["txHash"]
    assert (refused["policy"]["code"], refused["kmsKeyId"], refused["attempts"]) == ("toNotAllowed", None, [])
    for line in trail.values():
        if line["outcome"]:
            OUTCOME.validate(line["outcome"])
    assert well(beside(stack, "export", "--since", "0s")).lines() == []


# Judging a stack


def violations(stack: Stack) -> list[dict[str, Any]]:
    ran = beside(stack, "audit", "--account", "hot", "--json")
    found = [line for line in ran.lines() if "invariant" in line]
    assert ran.code == (1 if found else 0), (ran.out, ran.err)
    return found


@contextmanager
def broken(stack: Stack, table: str, key: dict[str, Any], **change: Any) -> Iterator[None]:
    """While somebody has changed an item by hand; without a change it is deleted."""
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


def test_an_audit_finds_what_is_broken_by_hand_and_nothing_else(stack: Stack) -> None:
    for id in ("audit-1", "audit-2"):
        submit(stack, id)
        published(stack, id)
    head = {"account": {"S": f"97:{stack.addresses['hot'].lower()}"}}
    wait_for("the slots are left", lambda: not well(beside(stack, "account", "show", "hot", "--json")).line()["openSlots"], 30)
    assert violations(stack) == []
    text = well(beside(stack, "audit"))
    assert "hot" in text.out and ": ok" in text.out, text.out

    item = get(stack, "audit-1")
    assert item
    key = {"requestId": {"S": "audit-1"}}
    slot = {**head, "item": {"S": f"nonce#{item['nonce']:012}"}}

    def found(invariant: str, about: str) -> None:
        lines = violations(stack)
        assert any(line["invariant"] == invariant and about in line["about"] for line in lines), lines
        told = beside(stack, "audit", "--account", "hot")
        assert told.code == 1 and invariant in told.out and "violation" in told.out, told.out

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
    assert violations(stack) == [], "it was mended"


def test_the_doctor_finds_a_healthy_stack_healthy(stack: Stack) -> None:
    looked = well(beside(stack, "doctor", "--json")).lines()
    assert {line["state"] for line in looked} <= {"ok", "look"}, looked
    checked = {line["check"] for line in looked}
    for check in ["credentials", "signing queue: redrive", "resign queue: visibility", "requests table: index",
                  "requests table: expiry", "accounts table: key", "outcome topic", "hot: key", "hot: address", "hot: code",
                  "hot: balance", "hot: nonces", "clock", "policy file", "payment lane", "fork: Jenner"]:  # fmt: skip
        assert check in checked, (check, checked)
    [version] = [line for line in looked if line["check"].endswith(": version")]
    assert "anvil" in version["found"] and "unknown version" in version["found"], version
    [lane] = [line for line in looked if line["check"] == "payment lane"]
    assert lane["found"] == "the payment lane is not active yet", lane
    assert any(check.startswith("node 1") and check.endswith("finality") for check in checked)
    text = well(beside(stack, "doctor"))
    assert "no problem found" in text.err, text.err


def test_the_doctor_names_what_is_wrong_and_what_to_do(stack: Stack, tmp_path: Path) -> None:
    key = well(beside(stack, "account", "show", "hot", "--json")).line()["kmsKeyId"]
    sqs, kms = stack.aws("sqs"), stack.aws("kms")
    kms.disable_key(KeyId=key)
    sqs.set_queue_attributes(QueueUrl=stack.signing_queue, Attributes={"VisibilityTimeout": "5"})
    try:
        looked = beside(stack, "doctor", "--json")
    finally:
        kms.enable_key(KeyId=key)
        sqs.set_queue_attributes(QueueUrl=stack.signing_queue, Attributes={"VisibilityTimeout": "60"})
    problems = {line["check"]: line for line in looked.lines() if line["state"] == "problem"}
    assert looked.code == 1
    assert "Disabled" in problems["hot: key"]["found"] and problems["hot: key"]["todo"]
    assert problems["signing queue: visibility"]["found"] == "5 s"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(stack.config_file.read_text().replace("chain_id = 97", "chain_id = 56"))
    other = run("doctor", "--config", str(wrong))
    assert other.code == 1 and "chain 97" in other.out and "→" in other.out, other.out


def test_an_http_node_is_reported_by_doctor_and_at_the_start(stack: Stack, tmp_path: Path) -> None:
    # Nobody is there, and this address counts as another machine's; the key in the URL is nobody's business.
    url = "http://0.0.0.0:1/topsecret"
    config = tmp_path / "clear.toml"
    config.write_text(stack.config_file.read_text().replace("rpc_urls = [", f'rpc_urls = ["{url}", '))
    looked = {line["check"]: line for line in run("doctor", "--json", "--config", str(config)).lines()}
    found = looked["0.0.0.0: transport"]
    assert found["state"] == "look" and found["found"].startswith("http://") and "https" in found["todo"], found
    assert [check for check in looked if check.endswith(": transport")] == ["0.0.0.0: transport"], "loopback is no wire"
    worker = Program(tmp_path, "clear", ["worker", "--config", str(config), "--stage", "broadcaster"])
    try:
        log = wait_for("the worker warns", lambda: worker.log() if "not encrypted (http://)" in worker.log() else None, READY_WITHIN_S)
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


def test_dead_letters_are_shown_without_their_data_and_go_back_in_order(stack: Stack) -> None:
    sqs, dead = stack.aws("sqs"), dead_letters(stack)
    # More than one receive brings: a FIFO queue holds the others of the group back until those are gone.
    ids = [f"dead-{at:02}" for at in range(13)]
    for id in ids:
        body = {"requestId": id, "account": "hot", "to": TO, "gas": 60_000, "data": SECRET_DATA}
        sqs.send_message(QueueUrl=dead, MessageGroupId="hot", MessageDeduplicationId=id, MessageBody=json.dumps(body))
    shown = well(beside(stack, "redrive", "--dry-run"))
    assert all(id in shown.out for id in ids[:10]) and "hot" in shown.out, shown.out
    assert SECRET_DATA[2:] not in shown.out + shown.err
    counted = [line for line in beside(stack, "doctor", "--json").lines() if line["check"] == "signing queue: set aside"]
    assert counted[0]["state"] == "problem" and "redrive" in counted[0]["todo"], counted
    unasked = beside(stack, "redrive", "--queue", "signing")
    assert unasked.code == 2 and "--yes" in unasked.err, unasked.err
    assert queue_depth(sqs, dead) == len(ids), "a message got lost without a yes"
    moved = well(beside(stack, "redrive", "--queue", "signing", "--yes", "--json"))
    assert [line["requestId"] for line in moved.lines()] == ids
    items = [published(stack, id) for id in ids]
    assert {item["status"] for item in items} == {"confirmed"}
    assert [item["nonce"] for item in items] == sorted(item["nonce"] for item in items), "the order was lost"
    assert queue_depth(sqs, dead) == 0
    assert "no message" in well(beside(stack, "redrive", "--yes")).err


def test_a_dead_letter_that_was_refused_before_is_answered_again_and_not_put_back(stack: Stack) -> None:
    sqs, dead = stack.aws("sqs"), dead_letters(stack)
    bad = sqs.send_message(QueueUrl=stack.signing_queue, MessageGroupId="hot", MessageBody="{ no JSON either")["MessageId"]
    item = published(stack, f"sqs:{bad}")
    # As if the message that was answered had gone there afterwards, held back behind one that failed.
    body = json.dumps({"requestId": "refused-before", "account": "hot", "to": TO, "gas": 60_000})
    held = sqs.send_message(QueueUrl=dead, MessageGroupId="hot", MessageDeduplicationId=bad, MessageBody=body)["MessageId"]
    dynamodb, table = stack.aws("dynamodb"), stack.ready["requestsTable"]
    answer = dynamodb.get_item(TableName=table, Key={"requestId": {"S": f"sqs:{bad}"}})["Item"]
    dynamodb.put_item(TableName=table, Item={**answer, "requestId": {"S": f"sqs:{held}"}})
    subscriber = Subscriber(stack, "answered-again", ["rejected"])
    moved = well(beside(stack, "redrive", "--queue", "signing", "--yes"))
    assert "1 message(s) had been refused before" in moved.err and "0 message(s) are back" in moved.err, moved.err
    wait_for("the outcome again", lambda: subscriber.receive() or copies(subscriber, f"sqs:{held}"), 30)
    [copy] = copies(subscriber, f"sqs:{held}")
    assert json.loads(copy)["reason"]["code"] == item["reason"]["code"] == "notJson"
    assert queue_depth(sqs, dead) == 0 and get(stack, "refused-before") is None


# The shell


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands(shell: str) -> None:
    script = well(run("completions", shell)).out
    for command in ("account", "requests", "bump", "rescue", "audit", "doctor", "redrive", "export", "republish"):
        assert command in script, f"{shell} does not complete {command}"


def test_bash_completes_a_command_s_beginning(tmp_path: Path) -> None:
    script = tmp_path / "completions.bash"
    script.write_text(run("completions", "bash").out)
    asked = f"""source {script}; COMP_WORDS=(signpost requ); COMP_CWORD=1
_signpost signpost requ signpost; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "requests", (done.stdout, done.stderr)
