"""The life of an account: registering it while another program uses the key, pausing it with all others, fixing a nonce
gap, retiring and removing it; and rotating a key with the runbook in infra/OPERATING.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit import get, published
from scenario import GWEI
from stack import Program, CommandResult, Stack, run, wait_for
from test_operator import no_blocks

TO = "0x" + "cc" * 20
TRANSFER_GAS = 21_000
PURSE_WEI = 10**18
DAY_MS = 86_400_000


def signpost(stack: Stack, *arguments: str) -> CommandResult:
    return run(*arguments, "--config", str(stack.config_file))


def account(stack: Stack, *arguments: str) -> CommandResult:
    return signpost(stack, "account", *arguments)


def ok(result: CommandResult) -> CommandResult:
    assert result.code == 0, (result.out, result.err)
    return result


def refused(result: CommandResult, *words: str) -> None:
    assert result.code == 2, (result.out, result.err)
    for word in words:
        assert word in result.err, result.err


def show(stack: Stack, name: str) -> Any:
    return ok(account(stack, "show", name, "--json")).line()


def submit(stack: Stack, id: str, name: str, to: str = TO, value: int = 1) -> None:
    options = ("--account", name, "--to", to, "--value", str(value), "--gas", str(TRANSFER_GAS))
    ok(signpost(stack, "submit", "--id", id, *options))


def fund(stack: Stack, address: str) -> None:
    stack.rpc.call("anvil_setBalance", address, hex(PURSE_WEI))


def register(stack: Stack, name: str, *options: str) -> Any:
    """Registers a new account and funds it."""
    made = ok(account(stack, "register", name, "--create-key", "--json", *options)).line()
    fund(stack, made["address"])
    return made


def another_program_sends(stack: Stack, address: str, count: int) -> None:
    """Sends transactions from this address to the node's pool, without Signpost."""
    fund(stack, address)
    stack.rpc.call("anvil_impersonateAccount", address)
    for _ in range(count):
        transaction = {"from": address, "to": TO, "value": "0x1", "gas": hex(TRANSFER_GAS), "gasPrice": hex(GWEI)}
        stack.rpc.call("eth_sendTransaction", transaction)


def new_key(stack: Stack, alias: str) -> tuple[str, str]:
    """Creates a key with an alias. Returns its ARN and its address."""
    kms = stack.aws("kms")
    arn: str = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName=alias, TargetKeyId=arn)
    registered = ok(account(stack, "register", "peek", "--kms-key", arn, "--json")).line()
    drop(stack, registered["account"], "peek")
    address: str = registered["address"]
    return arn, address


def drop(stack: Stack, key: str, name: str) -> None:
    """Deletes an account's items, as if it had never been registered."""
    dynamodb, table = stack.aws("dynamodb"), stack.ready["accountsTable"]
    for item in ({"account": {"S": key}, "item": {"S": "head"}}, {"account": {"S": "directory"}, "item": {"S": name}}):
        dynamodb.delete_item(TableName=table, Key=item)


def set_retired_days_ago(stack: Stack, key: str, days: int) -> None:
    """Moves an account's `retiredAt` into the past."""
    head = {"account": {"S": key}, "item": {"S": "head"}}
    stack.aws("dynamodb").update_item(
        TableName=stack.ready["accountsTable"],
        Key=head,
        UpdateExpression="SET retiredAt = retiredAt - :ago",
        ExpressionAttributeValues={":ago": {"N": str(days * DAY_MS)}},
    )


def wait_until_idle(stack: Stack, name: str) -> None:
    wait_for(f"no slot of {name} is open", lambda: not show(stack, name)["openSlots"], 30)


# Registering


def test_key_alias_is_stored_as_its_key_and_may_be_moved(stack: Stack) -> None:
    arn, address = new_key(stack, "alias/moving")
    made = ok(account(stack, "register", "moving", "--kms-key", "alias/moving"))
    assert f"alias/moving is {arn}" in made.err and arn in made.out, (made.out, made.err)
    assert (show(stack, "moving")["kmsKeyId"], show(stack, "moving")["address"]) == (arn, address)
    fund(stack, address)
    kms = stack.aws("kms")
    other = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName="alias/moving", TargetKeyId=other)
    submit(stack, "moving-1", "moving")
    assert published(stack, "moving-1")["from"].lower() == address.lower()
    again = ok(account(stack, "register", "moving", "--kms-key", arn))
    assert "already registered; nothing changed" in again.err, again.err


def test_account_with_pending_transactions_is_not_registered(stack: Stack) -> None:
    _, address = new_key(stack, "alias/shared")
    options = ("register", "shared", "--kms-key", "alias/shared")
    with no_blocks(stack):
        another_program_sends(stack, address, 2)
        refused(account(stack, *options), "2 transaction(s)", "nonces 0 to 1", "--wait", "--nonce 2")
        refused(account(stack, *options, "--nonce", "1"), "cannot begin at nonce 1", "2 transaction(s)")
        assert account(stack, "show", "shared").code == 1, "nothing is registered"
        waiting = Program(stack.program.out.parent, "register", ["account", *options, "--wait", "--json",
                          "--config", str(stack.config_file)])  # fmt: skip
        wait_for("it reports what it waits for", lambda: "waiting: 2 transaction(s)" in waiting.log(), 20)
    assert waiting.wait(60) == 0, waiting.log()
    assert show(stack, "shared")["nextNonce"] == 2
    submit(stack, "shared-1", "shared")
    item = published(stack, "shared-1")
    assert (item["status"], item["nonce"]) == ("confirmed", 2)


# All accounts


def test_all_accounts_are_paused_and_resumed_at_once(stack: Stack) -> None:
    register(stack, "all-1")
    ended = register(stack, "all-2")
    ok(account(stack, "retire", "all-2", "--yes"))
    refused(account(stack, "pause", "--all"), "until they are resumed", "all-1", "--yes")
    refused(account(stack, "pause"), "--all")
    paused = ok(account(stack, "pause", "--all", "--yes", "--json"))
    try:
        lines = {line["name"]: line for line in paused.lines()}
        assert {"hot", "all-1"} <= set(lines) and ended["name"] not in lines
        assert all(line["paused"] for line in lines.values())
        assert f"{len(lines)} account(s) paused" in paused.err, paused.err
        submit(stack, "all-paused", "all-1")
        assert published(stack, "all-paused")["reason"]["code"] == "accountPaused"
        refused(account(stack, "resume", "--all"), "all-1", "for another reason", "--yes")
    finally:
        resumed = ok(account(stack, "resume", "--all", "--yes", "--json"))
    assert {line["name"] for line in resumed.lines()} == set(lines)
    assert show(stack, "all-2")["paused"], "a retired account stays paused"
    submit(stack, "all-resumed", "all-1")
    assert published(stack, "all-resumed")["status"] == "confirmed"
    assert "no account is paused" in ok(account(stack, "resume", "--all")).err


# A wrong nonce


def test_doctor_finds_a_nonce_gap_and_set_nonce_fixes_it(stack: Stack) -> None:
    made = ok(account(stack, "register", "gap", "--create-key", "--nonce", "3", "--json"))
    assert "gap below 3" in made.err and "nonces 0 to 2" in made.err, made.err
    address = made.line()["address"]
    fund(stack, address)
    [found] = [line for line in signpost(stack, "doctor", "--json").lines() if line["check"] == "gap: nonces"]
    assert (found["state"], "set-nonce gap 0" in found["todo"]) == ("problem", True), found

    refused(account(stack, "set-nonce", "gap", "0"), "continues at nonce 3", "0 (0 final, 0 with the pool)", "--yes")
    assert show(stack, "gap")["nextNonce"] == 3
    put = ok(account(stack, "set-nonce", "gap", "0", "--yes", "--json")).line()
    assert (put["nextNonce"], put["openSlots"]) == (0, 0)
    submit(stack, "gap-1", "gap")
    item = published(stack, "gap-1")
    assert (item["status"], item["nonce"]) == ("confirmed", 0)
    wait_until_idle(stack, "gap")

    assert "nothing to change" in ok(account(stack, "set-nonce", "gap", "1", "--yes")).err
    refused(account(stack, "set-nonce", "gap", "0", "--yes"), "nonces below 1")
    refused(account(stack, "set-nonce", "gap", "5"), "gap below 5", "nonces 1 to 4", "--yes")
    stack.rpc.call("anvil_setBalance", address, "0x0")
    submit(stack, "gap-2", "gap")
    wait_for("a slot is open", lambda: get(stack, "gap-2"), 30)
    refused(account(stack, "set-nonce", "gap", "2", "--yes"), "1 open slot", "requests list")
    fund(stack, address)
    assert published(stack, "gap-2")["status"] == "confirmed"


# Removing


def test_account_is_unregistered_a_month_after_retirement(stack: Stack) -> None:
    made = register(stack, "gone")
    refused(account(stack, "unregister", "gone", "--yes"), "not retired", "account retire gone")
    ok(account(stack, "retire", "gone", "--yes"))
    refused(account(stack, "unregister", "gone", "--yes"), "was retired 20", "unregister it after 20")
    set_retired_days_ago(stack, made["account"], 29)
    refused(account(stack, "unregister", "gone", "--yes"), "unregister it after 20")
    set_retired_days_ago(stack, made["account"], 2)
    refused(account(stack, "unregister", "gone"), "accounts table", "--yes")
    assert show(stack, "gone")["retiredAt"], "the account is still there"
    line = ok(account(stack, "unregister", "gone", "--yes", "--json")).line()
    assert (line["name"], line["unregistered"]) == ("gone", True)
    assert account(stack, "show", "gone").code == 1
    arn, _ = new_key(stack, "alias/gone-next")
    again = ok(account(stack, "register", "gone", "--kms-key", arn, "--json")).line()
    assert again["address"] != made["address"]


POLICY = 'max_gas_price_wei = "3000000000"\ngas_price_wei = "100000000"\n'


def write_policy(stack: Stack, *names: str) -> None:
    stack.config_file.with_name("policy.toml").write_text("".join(f"[account.{name}]\n{POLICY}" for name in names))


def restart_stages(stack: Stack) -> None:
    """Restarts both stages, each as a separate process."""
    for worker in stack.workers:
        if worker.ended is None:
            assert worker.stop() == 0, worker.log()
    for stage in ("signer", "broadcaster"):
        stack.start_worker("--stage", stage)


def doctor(stack: Stack) -> dict[str, Any]:
    result = signpost(stack, "doctor", "--json")
    lines = {line["check"]: line for line in result.lines()}
    assert result.code == (1 if any(line["state"] == "problem" for line in lines.values()) else 0)
    return lines


def problems(stack: Stack) -> dict[str, Any]:
    return {check: line for check, line in doctor(stack).items() if line["state"] == "problem"}


def test_key_rotation_follows_the_runbook(dev: Callable[..., Stack]) -> None:
    stack = dev("--no-worker", "--gate", "--account", "old", "--account", "other")
    write_policy(stack, "old", "other")
    restart_stages(stack)
    for name in ("old", "other"):
        submit(stack, f"{name}-1", name)
        published(stack, f"{name}-1", "confirmed")

    # Step 2: a new key with a policy, a name and funds.
    write_policy(stack, "old", "other", "new")
    restart_stages(stack)
    new = register(stack, "new")
    # Step 3: new requests go to the new account. A last request of the old account moves the rest of its funds.
    submit(stack, "new-1", "new")
    rest = int(show(stack, "old")["balanceWei"]) - TRANSFER_GAS * GWEI // 10
    submit(stack, "old-last", "old", to=new["address"], value=rest)
    for id in ("new-1", "old-last"):
        published(stack, id, "confirmed")
    wait_until_idle(stack, "old")
    assert show(stack, "old")["balanceWei"] == "0"
    # Step 4: the old account signs nothing, and its policy is removed.
    old = ok(account(stack, "retire", "old", "--yes", "--json")).line()
    submit(stack, "old-late", "old")
    assert published(stack, "old-late")["reason"]["code"] == "accountPaused"
    write_policy(stack, "other", "new")
    # Step 5: its key signs nothing either.
    kms = stack.aws("kms")
    kms.disable_key(KeyId=old["kmsKeyId"])
    restart_stages(stack)
    check_others_continue(stack, "disabled")
    kms.schedule_key_deletion(KeyId=old["kmsKeyId"], PendingWindowInDays=30)
    restart_stages(stack)
    check_others_continue(stack, "deleted")
    submit(stack, "old-later", "old")
    assert published(stack, "old-later")["reason"]["code"] == "noPolicy"
    # Step 6: a month later the account is removed.
    refused(account(stack, "unregister", "old", "--yes"), "unregister it after")
    set_retired_days_ago(stack, old["account"], 31)
    ok(account(stack, "unregister", "old", "--yes"))
    restart_stages(stack)
    check_others_continue(stack, "gone")
    assert not [check for check in doctor(stack) if check.startswith("old:")]


def check_others_continue(stack: Stack, when: str) -> None:
    """Checks that the other accounts work, both workers run and the doctor reports no problem."""
    for name in ("new", "other"):
        submit(stack, f"{name}-{when}", name)
        assert published(stack, f"{name}-{when}")["status"] == "confirmed"
    assert not problems(stack)
    state = doctor(stack).get("old: state")
    assert state is None or ("retired" in state["found"] and "can no longer be used" in state["found"]), state
    running = [worker for worker in stack.workers if worker.ended is None]
    assert [worker.ended for worker in running] == [None, None], "a stage has ended"


def test_doctor_reports_a_stage_unable_to_start(dev: Callable[..., Stack]) -> None:
    stack = dev("--no-worker", "--account", "hot")
    assert not problems(stack)
    invalid = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "nowhere"}
    for command, code in [("doctor", 1), ("worker", 2)]:
        ended = run(command, "--config", str(stack.config_file), **invalid)
        assert ended.code == code and "not a valid URL" in ended.out + ended.err, (ended.out, ended.err)
    for item in stack.aws("dynamodb").scan(TableName=stack.ready["accountsTable"])["Items"]:
        # Moves the only account to another chain than that of the nodes and the configuration.
        if item["item"]["S"] != "head":
            continue
        drop(stack, item["account"]["S"], item["name"]["S"])
        other = "56:" + item["account"]["S"].split(":")[1]
        put = stack.aws("dynamodb").put_item
        put(TableName=stack.ready["accountsTable"], Item={**item, "account": {"S": other}})
        entry = {
            "account": {"S": "directory"},
            "item": item["name"],
            "accountKey": {"S": other},
            "itemVersion": {"N": "1"},
        }
        put(TableName=stack.ready["accountsTable"], Item=entry)
    found = problems(stack)
    assert "chain 56" in found["signer: start"]["found"], found
    worker = stack.start_worker("--stage", "signer")
    assert worker.wait(30) == 2, "the worker does not start either"
