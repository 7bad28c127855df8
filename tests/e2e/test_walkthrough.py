"""The walkthrough of Chapel: runs the page's steps in order, as far as they can run here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from audit import published
from stack import CommandResult, Stack
from test_readme import variables

PAGE = Path(__file__).resolve().parents[2] / "infra/CHAPEL.md"
# The amount of the faucet: 0.01 BNB.
FUNDS_WEI = 10**16
COST_WEI = 1_000_000_000 + 21_000 * 100_000_000


def steps() -> list[str]:
    return re.findall(r"^```sh chapel\n(.*?)^```$", PAGE.read_text(), re.S | re.M)


def follow(stack: Stack, step: str, directory: Path) -> CommandResult:
    done = subprocess.run(
        ["sh", "-euc", step], env=variables(stack), cwd=directory, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_chapel_walkthrough_ends_with_a_confirmed_request(stack: Stack, tmp_path: Path) -> None:
    # The stack of step 2 creates a key with this alias.
    kms = stack.aws("kms")
    key = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/signpost", TargetKeyId=key)

    policy, register, check, submit, resubmit, evidence, retire = steps()
    assert "allowed" in follow(stack, policy, tmp_path).out
    follow(stack, register, tmp_path)
    address = account(stack, tmp_path)["address"]
    assert account(stack, tmp_path)["balanceWei"] == "0"
    # Stands in for the faucet of step 5.
    stack.rpc.call("anvil_setBalance", address, hex(FUNDS_WEI))
    follow(stack, check, tmp_path)
    assert "confirmed" in follow(stack, submit, tmp_path).out
    assert published(stack, "chapel-1")["from"].lower() == address.lower()
    assert "confirmed" in follow(stack, resubmit, tmp_path).out
    after = account(stack, tmp_path)
    assert (after["nextNonce"], after["transactionCount"]) == (1, 1), "sent twice, executed once"
    assert after["balanceWei"] == str(FUNDS_WEI - COST_WEI), "the cost is that on the page"
    assert "FAILED" not in follow(stack, evidence, tmp_path).out
    follow(stack, retire, tmp_path)
    assert account(stack, tmp_path)["paused"]


def account(stack: Stack, directory: Path) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(follow(stack, "signpost account show chapel --json", directory).out)
    return shown
