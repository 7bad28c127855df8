"""The commands used with a running `signpost dev`, as in their `--help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit import OUTCOME, STATUS, get, published
from conftest import StartStack
from scenario import DENIED
from stack import Program, CommandResult, Stack, free_port, run, wait_for

TO = "0x" + "aa" * 20
COMMANDS = [
    "demo",
    "dev",
    "worker",
    "submit",
    "status",
    "requests",
    "cancel",
    "bump",
    "rescue",
    "watch",
    "account",
    "republish",
    "audit",
    "doctor",
    "redrive",
    "export",
    "policy",
    "console",
    "bench",
    "completions",
]
STACK_COMMANDS = [["submit", "--to", TO, "--gas", "21000"], ["status", "x"], ["watch"], ["account", "list"]]


def signpost(stack: Stack, *arguments: str, stdin: str | None = None) -> CommandResult:
    return run(*arguments, "--config", str(stack.config_file), stdin=stdin)


def submit(stack: Stack, id: str, *more: str) -> None:
    account = () if "--account" in more else ("--account", "hot")
    sent = signpost(stack, "submit", "--id", id, "--gas", "21000", *account, *more)
    assert sent.code == 0, sent.err
    assert id in sent.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    helped = run(command, "--help")
    assert helped.code == 0
    assert "Examples:" in helped.out and f"signpost {command}" in helped.out, helped.out


def test_request_from_options_is_executed_as_written(stack: Stack) -> None:
    sent = signpost(stack, "submit", "--id", "options-1", "--account", "hot", "--to", TO, "--value", "0x10",
                  "--gas", "30000", "--data", "0x", "--chain-id", "97", "--max-fee-per-gas", "300000000",
                  "--max-priority-fee-per-gas", "200000000", "--max-gas-price", "400000000",
                  "--metadata", '{"order": 7}', "--json")  # fmt: skip
    assert sent.code == 0, sent.err
    assert sent.line()["requestId"] == "options-1" and sent.line()["messageId"]
    item = published(stack, "options-1")
    assert item["status"] == "confirmed"
    written = {"value": "16", "gas": 30_000, "maxFeePerGas": "300000000", "metadata": {"order": 7}}
    assert {name: item[name] for name in written} == written
    transaction = stack.rpc.call("eth_getTransactionByHash", item["txHash"])
    assert int(transaction["maxPriorityFeePerGas"], 16) == 200_000_000


def test_request_without_an_id_gets_one(stack: Stack) -> None:
    sent = signpost(stack, "submit", "--account", "hot", "--to", TO, "--gas", "21000", "--json")
    assert published(stack, sent.line()["requestId"])["status"] == "confirmed"


def test_requests_are_read_from_a_file_or_as_lines(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"requestId": "file-1", "account": "hot", "to": TO, "gas": 21_000}, indent=2))
    assert signpost(stack, "submit", "--file", str(file)).code == 0
    bodies = [{"requestId": f"line-{at}", "account": "hot", "to": TO, "gas": 21_000} for at in range(12)]
    sent = signpost(stack, "submit", "--json", stdin="\n".join(map(json.dumps, bodies)))
    assert [line["requestId"] for line in sent.lines()] == [body["requestId"] for body in bodies]
    ids = ["file-1", *(f"line-{at}" for at in range(12))]
    items = [published(stack, id) for id in ids]
    assert {item["status"] for item in items} == {"confirmed"}
    nonces = [item["nonce"] for item in items]
    assert nonces == list(range(nonces[0], nonces[0] + len(nonces))), "they were not processed in order"


def test_status_follows_a_request_to_its_outcome(stack: Stack) -> None:
    submit(stack, "status-1", "--to", TO)
    followed = signpost(stack, "status", "status-1", "--watch", "--json")
    assert followed.code == 0, followed.err
    order = ["reserved", "signed", "sent", "mined", "confirmed"]
    seen = [order.index(line["status"]) for line in followed.lines()]
    assert seen == sorted(seen) and seen[-1] == len(order) - 1, followed.out
    assert "publishedAt" in followed.lines()[-1]
    for line in followed.lines():
        STATUS.validate(line)

    once = signpost(stack, "status", "status-1", "--json")
    assert once.line()["status"] == "confirmed"
    text = signpost(stack, "status", "status-1")
    assert "confirmed" in text.out and once.line()["txHash"] in text.out


def test_status_of_a_refused_request_gives_the_reason_and_fails(stack: Stack) -> None:
    submit(stack, "status-2", "--to", DENIED)
    followed = signpost(stack, "status", "status-2", "--watch")
    assert followed.code == 1
    assert "rejected" in followed.out and "toNotAllowed" in followed.out, followed.out


def test_status_of_an_unknown_request_gives_a_hint(stack: Stack) -> None:
    asked = signpost(stack, "status", "never-sent")
    assert asked.code == 1
    assert "never-sent" in asked.err and "--watch" in asked.err, asked.err
    assert signpost(stack, "status", "no id at all").code == 2


def test_watch_shows_matching_outcomes_and_removes_its_queue(stack: Stack, tmp_path: Path) -> None:
    arguments = ["watch", "--json", "--count", "2", "--status", "confirmed", "--config", str(stack.config_file)]
    watching = Program(tmp_path, "watch", arguments)
    try:
        wait_for("watch is subscribed", lambda: "Watching" in watching.log(), 20)
        for id, to in [("watch-1", TO), ("watch-2", DENIED), ("watch-3", TO)]:
            submit(stack, id, "--to", to)
        assert watching.wait(60) == 0, watching.log()
    finally:
        watching.stop()
    outcomes = [json.loads(line) for line in watching.out.read_text().splitlines()]
    assert sorted(outcome["requestId"] for outcome in outcomes) == ["watch-1", "watch-3"]
    for outcome in outcomes:
        OUTCOME.validate(outcome)
    assert not [url for url in stack.aws("sqs").list_queues()["QueueUrls"] if "watch" in url]
    assert signpost(stack, "watch", "--status", "failed").code == 2


def test_accounts_are_registered_once_and_shown(stack: Stack) -> None:
    made = signpost(stack, "account", "register", "extra", "--create-key", "--json")
    assert made.code == 0, made.err
    listed = {line["name"]: line for line in signpost(stack, "account", "list", "--json").lines()}
    assert listed["extra"]["address"] == made.line()["address"]
    assert listed["hot"]["address"] == stack.addresses["hot"]
    shown = signpost(stack, "account", "show", "extra", "--json").line()
    assert (shown["nextNonce"], shown["transactionCount"], shown["balanceWei"]) == (0, 0, "0")

    again = signpost(stack, "account", "register", "extra", "--create-key", "--json")
    assert again.code == 0 and again.line()["address"] == made.line()["address"]
    taken = signpost(stack, "account", "register", "another", "--kms-key", listed["hot"]["kmsKeyId"])
    assert taken.code == 2, taken.err
    assert "registered already, as hot" in taken.err, taken.err
    unknown = signpost(stack, "account", "show", "nobody")
    assert unknown.code == 1 and "account list" in unknown.err, unknown.err


def test_new_account_signs_at_once_and_waits_for_funds(stack: Stack) -> None:
    made = signpost(stack, "account", "register", "poor", "--create-key", "--json").line()
    submit(stack, "poor-1", "--account", "poor", "--to", TO)
    refused = wait_for("a node reports missing funds", lambda: item_without_funds(get(stack, "poor-1")), 30)
    assert "publishedAt" not in refused, "missing funds are not a final result"
    stack.rpc.call("anvil_setBalance", made["address"], hex(10**18))
    funded = published(stack, "poor-1")
    assert (funded["status"], len(funded["attempts"])) == ("confirmed", 1)


def item_without_funds(item: dict[str, Any] | None) -> dict[str, Any] | None:
    return item if item and any(attempt.get("answer") == "funds" for attempt in item.get("attempts", [])) else None


def test_commands_find_the_running_stack(dev: StartStack) -> None:
    # No option names the configuration: the commands find that of the newest `signpost dev`. Another test process may
    # start or stop a stack at the same moment, so the test makes a few tries with a new stack each.
    def is_found() -> bool:
        stack = dev("--no-worker")
        listed = run("account", "list", "--json")
        return listed.code == 0 and {line["address"] for line in listed.lines()} == set(stack.addresses.values())

    assert any(is_found() for _ in range(5))


@pytest.mark.parametrize("command", STACK_COMMANDS, ids=lambda command: command[0])
def test_commands_without_a_stack_give_a_hint(command: list[str], tmp_path: Path) -> None:
    asked = run(*command, CARGO_TARGET_DIR=str(tmp_path))
    assert asked.code == 2
    assert "signpost dev" in asked.err and "--config" in asked.err, asked.err


@pytest.mark.parametrize("command", STACK_COMMANDS, ids=lambda command: command[0])
def test_aws_endpoint_url_overrides_the_configured_endpoint(stack: Stack, command: list[str]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    asked = run(*command, "--config", str(stack.config_file), AWS_ENDPOINT_URL=nowhere)
    assert asked.code == 1, (asked.out, asked.err)
    assert "AWS_ENDPOINT_URL" in asked.err, asked.err


def test_worker_reports_all_configuration_errors_and_exits(stack: Stack, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    text = stack.config_file.read_text()
    wrong.write_text(text.replace("chain_id = 97", 'chain_id = "97"').replace("outcomes_arn", "outcome_arn"))
    ended = run("worker", "--config", str(wrong))
    assert ended.code == 2
    assert "chain.chain_id" in ended.err and "topic.outcomes_arn" in ended.err, ended.err
    missing = run("worker", "--config", str(tmp_path / "missing.toml"))
    assert missing.code == 2 and "missing.toml" in missing.err
