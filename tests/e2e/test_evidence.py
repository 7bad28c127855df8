"""Evidence of a request on the local stack: it is complete, anyone can verify it offline, and verification finds every
change.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit import published, schema
from stack import CommandResult, Stack, run

TO = "0x" + "bb" * 20
TRANSFER = "0xa9059cbb" + "00" * 12 + "aa" * 20 + "00" * 31 + "09"
EVIDENCE = schema("evidence.v1")
OTHER_HASH = "0x" + "11" * 32


def signpost(stack: Stack, *arguments: str) -> CommandResult:
    return run(*arguments, "--config", str(stack.config_file))


def ok(result: CommandResult) -> CommandResult:
    assert result.code == 0, (result.out, result.err)
    return result


@pytest.fixture(scope="module")
def made(shared: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    """The evidence of a confirmed request and its file."""
    ok(
        signpost(
            shared,
            "submit",
            "--id",
            "proof-1",
            "--account",
            "hot",
            "--to",
            TO,
            "--data",
            TRANSFER,
            "--gas",
            "60000",
            "--max-gas-price",
            "2000000000",
            "--metadata",
            '{"order": 4711}',
        )
    )
    published(shared, "proof-1", "confirmed")
    path = tmp_path_factory.mktemp("evidence") / "proof-1.json"
    ok(signpost(shared, "evidence", "proof-1", "--out", str(path)))
    yield json.loads(path.read_text()), path


def verify(evidence: dict[str, Any] | Path) -> CommandResult:
    """Verifies evidence without a configuration, with unreachable service endpoints."""
    offline = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "SIGNPOST_CONFIG": "/nowhere", "HOME": "/nowhere"}
    if isinstance(evidence, Path):
        return run("evidence", "--verify", str(evidence), **offline)
    return run("evidence", "--verify", "-", stdin=json.dumps(evidence), **offline)


def failed(result: CommandResult) -> list[str]:
    lines = [line.split(None, 1)[1] for line in result.out.splitlines() if line.startswith("FAILED")]
    return [line.split(": ", 2)[0] if not line.startswith("attempt") else ": ".join(line.split(": ", 2)[:2])
            for line in lines]  # fmt: skip


def test_evidence_is_complete_and_verifies_offline(stack: Stack, made: tuple[dict[str, Any], Path]) -> None:
    evidence, path = made
    EVIDENCE.validate(evidence)
    item = published(stack, "proof-1")
    node = stack.rpc.call("eth_getBlockByHash", item["blockHash"], False)
    assert evidence["header"] == {name: node[name] for name in evidence["header"]}
    assert evidence["receipt"] == stack.rpc.call("eth_getTransactionReceipt", item["txHash"])
    assert evidence["outcome"]["status"] == "confirmed" and evidence["outcome"]["witnesses"] == item["witnesses"]
    assert evidence["request"]["digest"] == item["digest"]
    assert evidence["request"]["asked"] == {"namesFee": False, "maxGasPrice": "2000000000"}
    assert evidence["call"]["function"] == "transfer(address,uint256)"
    assert evidence["approvals"] == []
    # policyDigest is the SHA-256 of the policy file.
    policy = Path(tomllib.loads(stack.config_file.read_text())["policy"]["file"]).read_bytes()
    assert evidence["policyDigest"] == item["policyDigest"] == hashlib.sha256(policy).hexdigest()
    assert evidence["codeVersion"] == item["codeVersion"] == run("--version").out.split()[1]
    # The signature can be found in KMS's audit trail and in the worker's log, by its KMS request id.
    (attempt,) = evidence["attempts"]
    assert attempt["kmsRequestId"] == item["attempts"][0]["kmsRequestId"]
    logged = [line for _, log in stack.logs() for line in log.splitlines() if attempt["kmsRequestId"] in line]
    (line,) = [line for line in logged if "INFO" in line or '"info"' in line.lower()]
    for value in ("proof-1", attempt["txHash"], str(evidence["request"]["nonce"])):
        assert value in line, line
    assert any(evidence["policyDigest"] in line for _, log in stack.logs() for line in log.splitlines())
    checked = ok(verify(path))
    assert failed(checked) == [] and "FAILED" not in checked.out
    for said in ("that the block is in the chain", "that the transaction is in the block", "the seal covers them"):
        assert said in checked.out, checked.out
    assert ok(signpost(stack, "evidence", "proof-1", "--out", "-")).line()["attempts"] == evidence["attempts"]


def changed(evidence: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    other = copy.deepcopy(evidence)
    *parents, name = path.split(".")
    place: Any = other
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    assert place[name] != value
    place[name] = value
    return other


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("request.value", "1", "digest"),
        ("request.value", "1", "attempt 0: raw bytes"),
        ("request.to", "0x" + "cc" * 20, "attempt 0: signing hash"),
        ("request.digest", "11" * 32, "digest"),
        ("attempts.0.signature.r", OTHER_HASH, "attempt 0: signature"),
        ("attempts.0.txHash", OTHER_HASH, "attempt 0: hash"),
        ("outcome.blockHash", OTHER_HASH, "block"),
        ("receipt.status", "0x0", "receipt"),
        ("header.stateRoot", OTHER_HASH, "block header"),
        ("header.hash", OTHER_HASH, "block header"),
    ],
)
def test_changed_evidence_fails_verification(
    made: tuple[dict[str, Any], Path], path: str, value: Any, line: str
) -> None:
    result = verify(changed(made[0], path, value))
    assert result.code == 1 and line in failed(result), (result.out, result.err)


def test_missing_evidence_is_reported(stack: Stack, tmp_path: Path) -> None:
    unknown = signpost(stack, "evidence", "proof-0", "--out", str(tmp_path / "none.json"))
    assert unknown.code == 1 and "no request proof-0" in unknown.err, unknown.err
    assert not (tmp_path / "none.json").exists()
    assert run("evidence").code == 2
    assert verify({"schema": "evidence.v1"}).code == 2
