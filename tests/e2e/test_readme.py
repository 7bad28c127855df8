"""The three steps of the front pages, run as written: the shell and Python in the README, Rust in the client's page,
TypeScript in the file in this directory that the README links to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from stack import Stack, binary, environment

ROOT = Path(__file__).resolve().parents[2]


TYPESCRIPT = ROOT / "tests/e2e/three-steps.ts"


def block(language: str, page: str = "README.md") -> str:
    found = re.findall(rf"^```{language} three-steps\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)
    assert len(found) == 1, f"{page} has the three steps in {language} once"
    return found[0]


def variables(stack: Stack) -> dict[str, str]:
    ready = stack.ready
    return environment(
        AWS_ENDPOINT_URL=ready["awsEndpoint"],
        AWS_REGION=ready["region"],
        AWS_DEFAULT_REGION=ready["region"],
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        SIGNING_QUEUE_URL=ready["signingQueueUrl"],
        REQUESTS_TABLE=ready["requestsTable"],
        OUTCOME_TOPIC_ARN=ready["outcomeTopicArn"],
        SIGNPOST_CONFIG=ready["configFile"],
        PATH=f"{binary().parent}{os.pathsep}{os.environ['PATH']}",
    )


def run(stack: Stack, *command: str, cwd: Path = ROOT) -> str:
    result = subprocess.run(command, env=variables(stack), cwd=cwd, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_python_three_steps_type_check_and_confirm(stack: Stack, tmp_path: Path) -> None:
    tools = Path(sys.executable).parent
    for name in ("outcome", "signing-request"):
        run(
            stack,
            str(tools / "datamodel-codegen"),
            "--input",
            str(ROOT / f"schemas/{name}.v1.json"),
            "--input-file-type",
            "jsonschema",
            "--output-model-type",
            "typing.TypedDict",
            "--output",
            str(tmp_path / f"{name.replace('-', '_')}_v1.py"),
        )
    steps = tmp_path / "three_steps.py"
    steps.write_text(block("python"))
    mypy = [
        str(tools / "mypy"),
        "--strict",
        "--ignore-missing-imports",
        "--cache-dir",
        str(tmp_path / "mypy"),
        str(steps),
    ]
    run(stack, *mypy, cwd=tmp_path)
    printed = run(stack, sys.executable, str(steps), cwd=tmp_path).split()
    assert printed[0] == printed[2] == "confirmed"
    assert re.fullmatch("0x[0-9a-f]{64}", printed[1])
    # The types catch an unknown field.
    steps.write_text(block("python").replace('"gas": 21000', '"gasLimit": 21000'))
    wrong = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode != 0 and "gasLimit" in wrong.stdout


def test_shell_three_steps_confirm(stack: Stack) -> None:
    printed = run(stack, "sh", "-euc", block("sh"))
    assert '"status":"confirmed"' in printed.replace(" ", "")


def test_rust_three_steps_confirm(stack: Stack) -> None:
    source = ROOT / "crates/client/examples/three_steps.rs"
    shown = block("rust no_run", "crates/client/README.md")
    assert shown == source.read_text(), "the client's page shows the built example"
    printed = run(stack, str(binary().parent / "examples/three_steps"))
    assert re.fullmatch("rust-1 confirmed\nconfirmed 0x[0-9a-f]{64}\n", printed), printed


def test_typescript_three_steps_type_check_and_confirm(stack: Stack, tmp_path: Path) -> None:
    packages = Path(os.environ["SIGNPOST_NODE_TOOLS"]) / "node_modules"
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    steps = TYPESCRIPT.read_text()
    (tmp_path / "three-steps.ts").write_text(steps)
    for name in ("outcome.v1", "signing-request.v1"):
        run(
            stack,
            str(packages / ".bin/json2ts"),
            "-i",
            str(ROOT / f"schemas/{name}.json"),
            "-o",
            str(tmp_path / f"{name}.d.ts"),
        )
    strict = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "--types", "node"]
    run(stack, str(packages / ".bin/tsc"), *strict, str(tmp_path / "three-steps.ts"), cwd=tmp_path)
    printed = run(stack, "node", str(tmp_path / "three-steps.js")).split()
    assert printed[0] == printed[2] == "confirmed"
    assert re.fullmatch("0x[0-9a-f]{64}", printed[1])
    # The types catch an unknown field.
    (tmp_path / "three-steps.ts").write_text(steps.replace("gas: 21000", "gasLimit: 21000"))
    wrong = subprocess.run(
        [str(packages / ".bin/tsc"), "--noEmit", *strict, "three-steps.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode != 0 and "gasLimit" in wrong.stdout
