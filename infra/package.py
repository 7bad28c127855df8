#!/usr/bin/env python3
"""Builds the Lambda functions and zips them as Lambda takes them.

    python3 infra/package.py                   # x86_64, into target/lambda
    python3 infra/package.py --arch arm64      # needs the Rust standard library of the target
    python3 infra/package.py --policy policy.toml --out build

Writes signer.zip, broadcaster.zip and sign-direct.zip. Each holds the program as `bootstrap`, which is what the
runtime provided.al2023 starts; those that sign also hold the policy, if one is given. The same sources and policy
give the same bytes. Needs Python 3.10 or newer and nothing besides, and for arm64 the network (PyPI).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
# Program, its package, whether it signs and so needs the policy.
FUNCTIONS = (
    ("signer", "signpost-signer", True),
    ("broadcaster", "signpost-broadcaster", False),
    ("sign-direct", "signpost-signer", True),
)
# A cold start reads the zip first. Lambda itself would take 50 MB.
ZIP_BYTES_MAX = 4_000_000
# The C library of provided.al2023. A program that asks for a newer one does not start there.
GLIBC_MAX = (2, 34)
# A zip's oldest date: the time of a build is no part of its result.
DATE = (1980, 1, 1, 0, 0, 0)
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
# cargo-lambda cross-compiles with zig as the linker; both come as wheels.
CROSS_TOOLS = ("cargo-lambda==1.9.2", "ziglang==0.17.1")


@dataclass(frozen=True)
class Function:
    """One Lambda function: a program of the workspace."""

    name: str
    package: str
    signs: bool


def give_up(problem: str) -> NoReturn:
    """Ends the program with what is wrong and the way out."""
    sys.exit(f"package.py: {problem}")


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Runs a command to its end, its output shown as it comes."""
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    except FileNotFoundError:
        give_up(f"{command[0]} is not installed")
    if done.returncode:
        give_up(f"`{' '.join(str(part) for part in command)}` ended with {done.returncode}")


def output(*command: str) -> str:
    """What a command prints."""
    try:
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    except FileNotFoundError:
        give_up(f"{command[0]} is not installed")
    except subprocess.CalledProcessError as failed:
        give_up(f"`{' '.join(command)}` ended with {failed.returncode}")


def metadata() -> dict[str, Any]:
    """What cargo says about the workspace."""
    found: dict[str, Any] = json.loads(output("cargo", "metadata", "--format-version", "1", "--no-deps"))
    return found


def functions(workspace: dict[str, Any]) -> list[Function]:
    """Those whose program the workspace has."""
    programs = {
        (package["name"], target["name"])
        for package in workspace["packages"]
        for target in package["targets"]
        if "bin" in target["kind"]
    }
    found = [Function(*function) for function in FUNCTIONS if (function[1], function[0]) in programs]
    missing = {"signer", "broadcaster"} - {function.name for function in found}
    if missing:
        give_up(f"the workspace has no program {', '.join(sorted(missing))}")
    return found


def build_here(wanted: list[Function], target_directory: Path) -> dict[str, Path]:
    """Plain cargo, for the machine this runs on.

    One package at a time: built together, each would get the features of both, and the signer would
    link what only the broadcaster may.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        give_up(f"this machine is {sys.platform} {platform.machine()}; build on x86_64 Linux, or with --arch arm64")
    for package in sorted({function.package for function in wanted}):
        run("cargo", "build", "--release", "--locked", "--package", package, "--bins")
    return {function.name: target_directory / "release" / function.name for function in wanted}


def build_across(wanted: list[Function], target_directory: Path) -> dict[str, Path]:
    """cargo-lambda with zig, for Graviton.

    Two of its habits matter. Where the profile is silent it adds `panic=abort`, which would let one bad
    record end the whole batch, and for x86_64 `target-cpu=haswell`: so the profile says `panic = "unwind"`, and
    x86_64 is built by plain cargo. And its --target-dir is broken: what it builds there it does not find
    again, so its own directory, target/lambda, it is.
    """
    target = TARGETS["arm64"]
    library = Path(output("rustc", "--print", "target-libdir", "--target", target).strip())
    if not any(library.glob("libstd-*")):
        give_up(
            f"the Rust standard library for {target} is not installed, and nothing can be built for arm64 without it.\n"
            f"  With rustup: rustup target add {target}\n"
            "  Where that cannot be had: package for x86_64, which every AWS region runs as well"
        )
    tools = target_directory / "lambda-tools"
    if not (tools / "bin" / "cargo-lambda").is_file():
        venv.create(tools, with_pip=True, clear=True)
        run(tools / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *CROSS_TOOLS)
    env = {**os.environ, "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    for package in sorted({function.package for function in wanted}):
        run(tools / "bin" / "cargo-lambda", "lambda", "build", "--release", "--arm64", "--locked",
            "--lambda-dir", target_directory / "lambda", "--package", package, env=env)  # fmt: skip
    return {function.name: target_directory / "lambda" / function.name / "bootstrap" for function in wanted}


def check_libc(program: bytes, name: str) -> None:
    """Lambda's C library is older than that of many build machines."""
    found = {(int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", program)}
    newest = max(found, default=(0, 0))
    if newest > GLIBC_MAX:
        give_up(
            f"{name} was linked with a C library newer than Lambda's "
            f"({newest[0]}.{newest[1]}; provided.al2023 has {GLIBC_MAX[0]}.{GLIBC_MAX[1]}); build on an older Linux"
        )


def zipped(entries: list[tuple[str, int, bytes]], path: Path) -> None:
    """Writes a zip that depends on nothing but its entries."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix, wherever this runs: without it the mode means nothing.
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    part.replace(path)


def package(function: Function, program: Path, policy: bytes | None, out: Path) -> Path:
    """One function's zip."""
    content = program.read_bytes()
    check_libc(content, function.name)
    entries = [("bootstrap", 0o755, content)]
    if policy is not None and function.signs:
        entries.append(("policy.toml", 0o644, policy))
    path = out / f"{function.name}.zip"
    zipped(entries, path)
    size = path.stat().st_size
    if size > ZIP_BYTES_MAX:
        # Lambda takes it; the tests do not.
        print(f"package.py: {path} has more than {ZIP_BYTES_MAX:,} bytes: cold starts are slow", file=sys.stderr)
    print(f"{path}  {size:,} bytes  sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return path


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", choices=sorted(TARGETS), default="x86_64", help="as the functions are configured")
    options.add_argument("--out", type=Path, help="directory for the zips (default: target/lambda)")
    options.add_argument("--policy", type=Path, help="policy file to put beside the programs that sign")
    asked = options.parse_args()

    policy = None
    if asked.policy:
        try:
            policy = asked.policy.read_bytes()
        except OSError as problem:
            give_up(f"the policy cannot be read: {problem}")
    workspace = metadata()
    target_directory = Path(workspace["target_directory"])
    out = (asked.out or target_directory / "lambda").resolve()
    wanted = functions(workspace)
    programs = (build_across if asked.arch == "arm64" else build_here)(wanted, target_directory)
    out.mkdir(parents=True, exist_ok=True)
    for function in wanted:
        package(function, programs[function.name], policy, out)


if __name__ == "__main__":
    main()
