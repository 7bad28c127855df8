#!/usr/bin/env python3
"""Builds the Lambda functions and packages them as zips for Lambda.

    python3 infra/package.py                   # x86_64, into target/lambda
    python3 infra/package.py --arch arm64      # needs the Rust standard library of the target
    python3 infra/package.py --policy policy.toml --out build

Writes signer.zip, broadcaster.zip and sign-direct.zip. Each contains the program as `bootstrap`, which the runtime
provided.al2023 starts. The zips of signing programs also contain the policy, if one is given. Beside each zip is its
bill of materials (NAME.cdx.json, CycloneDX). SHA256SUMS has the digests of all files, for `sha256sum --check`. Builds
are reproducible: the same sources, policy, compiler and linker give the same bytes for every user and directory. Needs
Python 3.11 or newer and nothing else, and for arm64 the network (PyPI).
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

import sbom

ROOT = Path(__file__).resolve().parents[1]
# The program, its package, and whether it signs and so needs the policy.
FUNCTIONS = (
    ("signer", "signpost-signer", True),
    ("broadcaster", "signpost-broadcaster", False),
    ("sign-direct", "signpost-signer", True),
)
# A cold start reads the zip first. Lambda's own limit is 50 MB.
ZIP_BYTES_MAX = 4_000_000
# The C library of provided.al2023. A program that needs a newer one does not start there.
GLIBC_MAX = (2, 34)
# The oldest date of the zip format, so that the time of the build does not change the bytes.
DATE = (1980, 1, 1, 0, 0, 0)
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
# cargo-lambda cross-compiles with zig as the linker; both are wheels, pinned by their digests.
CROSS_TOOLS = ROOT / "infra" / "cross-tools.txt"
# The default target of cargo-lambda. Our flags replace its own, so it is repeated here.
GRAVITON = ["-C", "target-cpu=neoverse-n1"]


@dataclass(frozen=True)
class Function:
    """One Lambda function: a program of the workspace."""

    name: str
    package: str
    signs: bool


def fail(problem: str) -> NoReturn:
    """Exits with an error message and a hint."""
    sys.exit(f"package.py: {problem}")


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Runs a command to its end and shows its output."""
    try:
        done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    if done.returncode:
        fail(f"`{' '.join(str(part) for part in command)}` ended with {done.returncode}")


def output(*command: str) -> str:
    """The output of a command."""
    try:
        return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    except subprocess.CalledProcessError as failed:
        fail(f"`{' '.join(command)}` ended with {failed.returncode}")


def metadata(target: str) -> dict[str, Any]:
    """cargo's metadata of the workspace and its dependencies for a target."""
    command = ("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target)
    found: dict[str, Any] = json.loads(output(*command))
    return found


def reproducible_environment(workspace: dict[str, Any], more: list[str]) -> dict[str, str]:
    """An environment in which the compiler writes no directory of this machine into a program.

    A panic message names its source file, which would be a path in the builder's home. Compiler flags from outside
    would change the programs, so they are removed.
    """
    # If several prefixes match, the compiler uses the last one.
    places = {workspace["target_directory"]: "/target", workspace["workspace_root"]: "/signpost"}
    members = set(workspace["workspace_members"])
    for package in workspace["packages"]:
        if package["id"] not in members:
            # The directory of all packages of a registry.
            places[str(Path(package["manifest_path"]).parents[1])] = "/packages"
    commit = re.search(r"^commit-hash: (.+)$", output("rustc", "-vV"), re.MULTILINE)
    sources = Path(output("rustc", "--print", "sysroot").strip(), "lib/rustlib/src/rust")
    places[str(sources)] = f"/rustc/{commit[1] if commit else 'unknown'}"
    nearest_last = sorted(places.items(), key=lambda place: len(place[0]))
    flags = [f"--remap-path-prefix={here}={there}" for here, there in nearest_last] + more
    outside = ("RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_INCREMENTAL")
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    kept = {name: value for name, value in kept.items() if not name.startswith("CARGO_PROFILE_RELEASE_")}
    return {**kept, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}


def functions(workspace: dict[str, Any]) -> list[Function]:
    """The functions with a program in the workspace."""
    programs = {
        (package["name"], target["name"])
        for package in workspace["packages"]
        for target in package["targets"]
        if "bin" in target["kind"]
    }
    found = [Function(*function) for function in FUNCTIONS if (function[1], function[0]) in programs]
    missing = {"signer", "broadcaster"} - {function.name for function in found}
    if missing:
        fail(f"the workspace has no program {', '.join(sorted(missing))}")
    return found


def build_here(wanted: list[Function], workspace: dict[str, Any]) -> dict[str, Path]:
    """Builds with plain cargo for this machine.

    One package at a time: built together, each would get the features of both, and the signer would link code of the
    broadcaster only.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        fail(f"this machine is {sys.platform} {platform.machine()}; build on x86_64 Linux, or with --arch arm64")
    env = reproducible_environment(workspace, [])
    for package in sorted({function.package for function in wanted}):
        programs = [f"--bin={function.name}" for function in wanted if function.package == package]
        run("cargo", "build", "--release", "--locked", "--package", package, *programs, env=env)
    built = Path(workspace["target_directory"]) / "release"
    return {function.name: built / function.name for function in wanted}


def install_cross_tools(tools: Path) -> None:
    """Installs the pinned tools into a separate environment, with verified digests."""
    wanted, stamp = CROSS_TOOLS.read_text(), tools / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    venv.create(tools, with_pip=True, clear=True)
    run(tools / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
        "--only-binary", ":all:", "--no-deps", "-r", CROSS_TOOLS)  # fmt: skip
    stamp.write_text(wanted)


def need_standard_library(target: str) -> None:
    """Checks for the target's standard library before the build. cargo would only report that the compiler failed."""
    library = Path(output("rustc", "--print", "target-libdir", "--target", target).strip())
    if not any(library.glob("libstd-*")):
        fail(
            f"the Rust standard library for {target} is not installed, and nothing can be built for it without it.\n"
            f"  With rustup: rustup target add {target}\n"
            "  If that is not possible: package for x86_64, which is available in every AWS region"
        )


def build_across(wanted: list[Function], workspace: dict[str, Any]) -> dict[str, Path]:
    """Builds with cargo-lambda and zig, for Graviton.

    If the profile sets no `panic`, cargo-lambda adds `panic=abort`, so that one bad record would end the whole batch.
    So the profile sets `panic = "unwind"`. For x86_64 it adds `target-cpu=haswell`, so x86_64 is built with plain
    cargo. It does not find its own output with --target-dir, so its default directory, target/lambda, is used.
    """
    target_directory = Path(workspace["target_directory"])
    tools = target_directory / "lambda-tools"
    install_cross_tools(tools)
    env = {
        **reproducible_environment(workspace, GRAVITON),
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    for package in sorted({function.package for function in wanted}):
        run(tools / "bin" / "cargo-lambda", "lambda", "build", "--release", "--arm64", "--locked",
            "--lambda-dir", target_directory / "lambda", "--package", package, env=env)  # fmt: skip
    return {function.name: target_directory / "lambda" / function.name / "bootstrap" for function in wanted}


def check_libc(program: bytes, name: str) -> None:
    """Checks that a program does not need a newer C library than Lambda's, which is older than that of many build
    machines."""
    found = {(int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", program)}
    newest = max(found, default=(0, 0))
    if newest > GLIBC_MAX:
        fail(
            f"{name} was linked with a C library newer than Lambda's "
            f"({newest[0]}.{newest[1]}; provided.al2023 has {GLIBC_MAX[0]}.{GLIBC_MAX[1]}); build on an older Linux"
        )


def zipped(entries: list[tuple[str, int, bytes]], path: Path) -> None:
    """Writes a zip with bytes that depend only on its entries."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix on every system; otherwise the mode has no meaning.
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    part.replace(path)


def package(function: Function, program: Path, beside: dict[str, bytes], target: str, out: Path) -> list[Path]:
    """Writes one function's zip and its bill of materials."""
    content = program.read_bytes()
    check_libc(content, function.name)
    entries = [("bootstrap", 0o755, content)]
    if function.signs:
        entries += [(name, 0o644, text) for name, text in sorted(beside.items())]
    path = out / f"{function.name}.zip"
    zipped(entries, path)
    size = path.stat().st_size
    if size > ZIP_BYTES_MAX:
        # Lambda accepts it; the tests do not.
        print(f"package.py: {path} has more than {ZIP_BYTES_MAX:,} bytes: cold starts are slow", file=sys.stderr)
    print(f"{path}  {size:,} bytes  sha256 {digest(path)}")
    made_of = path.with_suffix(".cdx.json")
    made_of.write_bytes(sbom.of_program(function.name, function.package, content, target, ROOT))
    return [path, made_of]


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Runs the command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", choices=sorted(TARGETS), default="x86_64", help="architecture of the functions")
    options.add_argument("--only", choices=[name for name, _, _ in FUNCTIONS], help="only this function")
    options.add_argument("--out", type=Path, help="directory for the zips (default: target/lambda)")
    options.add_argument("--policy", type=Path, help="policy file for the zips of signing programs")
    options.add_argument(
        "--accounts",
        type=Path,
        help="file with the accounts that may sign, NAME=0xADDRESS=KMS_KEY per line, for the same zips",
    )
    arguments = options.parse_args()

    beside = {}
    for name, path in (("policy.toml", arguments.policy), ("accounts.txt", arguments.accounts)):
        try:
            beside |= {name: path.read_bytes()} if path else {}
        except OSError as problem:
            fail(f"{name} cannot be read: {problem}")
    if not arguments.policy:
        print("package.py: the zips have no policy: without the parameter Policy the signing functions do not start",
              file=sys.stderr)  # fmt: skip
    target = TARGETS[arguments.arch]
    if arguments.arch == "arm64":
        need_standard_library(target)
    workspace = metadata(target)
    out = (arguments.out or Path(workspace["target_directory"]) / "lambda").resolve()
    wanted = [function for function in functions(workspace) if arguments.only in (None, function.name)]
    programs = (build_across if arguments.arch == "arm64" else build_here)(wanted, workspace)
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for function in wanted:
        made += package(function, programs[function.name], beside, target, out)
    sums = [f"{digest(path)}  {path.name}\n" for path in sorted(made)]
    (out / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
