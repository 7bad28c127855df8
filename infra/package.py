#!/usr/bin/env python3
"""Builds the Lambda functions and zips them as Lambda takes them.

    python3 infra/package.py                   # x86_64, into target/lambda
    python3 infra/package.py --arch arm64      # needs the Rust standard library of the target
    python3 infra/package.py --policy policy.toml --out build

Writes signer.zip, broadcaster.zip and sign-direct.zip. Each holds the program as `bootstrap`, which is what the
runtime provided.al2023 starts; those that sign also hold the policy, if one is given. Beside each is what it is made
of (NAME.cdx.json, CycloneDX), and SHA256SUMS has the digests of all of them, for `sha256sum --check`. The same sources,
policy, compiler and linker give the same bytes, wherever the checkout is and whoever builds. Needs Python 3.11 or newer
and nothing besides, and for arm64 the network (PyPI).
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
# cargo-lambda cross-compiles with zig as the linker; both come as wheels, pinned by their digests.
CROSS_TOOLS = ROOT / "infra" / "cross-tools.txt"
# What cargo-lambda compiles for: flags of ours replace its own.
GRAVITON = ["-C", "target-cpu=neoverse-n1"]


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


def metadata(target: str) -> dict[str, Any]:
    """What cargo says about the workspace and all that is built for a target."""
    command = ("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target)
    found: dict[str, Any] = json.loads(output(*command))
    return found


def without_places(workspace: dict[str, Any], more: list[str]) -> dict[str, str]:
    """An environment in which the compiler writes no directory of this machine into a program.

    A panic tells its source file, which would be one in the builder's home. Flags that were set outside
    would make other programs of the same sources, so they do not hold here.
    """
    # Where more than one fits, the last one given holds.
    places = {workspace["target_directory"]: "/target", workspace["workspace_root"]: "/signpost"}
    members = set(workspace["workspace_members"])
    for package in workspace["packages"]:
        if package["id"] not in members:
            # Of a registry's packages, all in one directory.
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


def build_here(wanted: list[Function], workspace: dict[str, Any]) -> dict[str, Path]:
    """Plain cargo, for the machine this runs on.

    One package at a time: built together, each would get the features of both, and the signer would
    link what only the broadcaster may.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        give_up(f"this machine is {sys.platform} {platform.machine()}; build on x86_64 Linux, or with --arch arm64")
    env = without_places(workspace, [])
    for package in sorted({function.package for function in wanted}):
        programs = [f"--bin={function.name}" for function in wanted if function.package == package]
        run("cargo", "build", "--release", "--locked", "--package", package, *programs, env=env)
    built = Path(workspace["target_directory"]) / "release"
    return {function.name: built / function.name for function in wanted}


def install_cross_tools(tools: Path) -> None:
    """Into an environment of their own; only what is on the list and has the digest written there."""
    wanted, stamp = CROSS_TOOLS.read_text(), tools / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    venv.create(tools, with_pip=True, clear=True)
    run(tools / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
        "--only-binary", ":all:", "--no-deps", "-r", CROSS_TOOLS)  # fmt: skip
    stamp.write_text(wanted)


def need_standard_library(target: str) -> None:
    """Before anything is asked of cargo, which would only say that the compiler failed."""
    library = Path(output("rustc", "--print", "target-libdir", "--target", target).strip())
    if not any(library.glob("libstd-*")):
        give_up(
            f"the Rust standard library for {target} is not installed, and nothing can be built for it without that.\n"
            f"  With rustup: rustup target add {target}\n"
            "  Where that cannot be had: package for x86_64, which every AWS region runs as well"
        )


def build_across(wanted: list[Function], workspace: dict[str, Any]) -> dict[str, Path]:
    """cargo-lambda with zig, for Graviton.

    Two of its habits matter. Where the profile is silent it adds `panic=abort`, which would let one bad
    record end the whole batch, and for x86_64 `target-cpu=haswell`: so the profile says `panic = "unwind"`, and
    x86_64 is built by plain cargo. And its --target-dir is broken: what it builds there it does not find
    again, so its own directory, target/lambda, it is.
    """
    target_directory = Path(workspace["target_directory"])
    tools = target_directory / "lambda-tools"
    install_cross_tools(tools)
    env = {**without_places(workspace, GRAVITON), "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
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


def package(function: Function, program: Path, beside: dict[str, bytes], target: str, out: Path) -> list[Path]:
    """One function's zip, and beside it what its program is made of."""
    content = program.read_bytes()
    check_libc(content, function.name)
    entries = [("bootstrap", 0o755, content)]
    if function.signs:
        entries += [(name, 0o644, text) for name, text in sorted(beside.items())]
    path = out / f"{function.name}.zip"
    zipped(entries, path)
    size = path.stat().st_size
    if size > ZIP_BYTES_MAX:
        # Lambda takes it; the tests do not.
        print(f"package.py: {path} has more than {ZIP_BYTES_MAX:,} bytes: cold starts are slow", file=sys.stderr)
    print(f"{path}  {size:,} bytes  sha256 {digest(path)}")
    made_of = path.with_suffix(".cdx.json")
    made_of.write_bytes(sbom.of_program(function.name, function.package, content, target, ROOT))
    return [path, made_of]


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", choices=sorted(TARGETS), default="x86_64", help="as the functions are configured")
    options.add_argument("--only", choices=[name for name, _, _ in FUNCTIONS], help="this function, not all of them")
    options.add_argument("--out", type=Path, help="directory for the zips (default: target/lambda)")
    options.add_argument("--policy", type=Path, help="policy file to put beside the programs that sign")
    options.add_argument("--accounts", type=Path, help="accounts that may be signed for, NAME=0xADDRESS=KMS_KEY a line, to put there too")
    asked = options.parse_args()

    beside = {}
    for name, path in (("policy.toml", asked.policy), ("accounts.txt", asked.accounts)):
        try:
            beside |= {name: path.read_bytes()} if path else {}
        except OSError as problem:
            give_up(f"{name} cannot be read: {problem}")
    if not asked.policy:
        print("package.py: no policy is put into the zips: without the parameter Policy nothing that signs will start",
              file=sys.stderr)  # fmt: skip
    target = TARGETS[asked.arch]
    if asked.arch == "arm64":
        need_standard_library(target)
    workspace = metadata(target)
    out = (asked.out or Path(workspace["target_directory"]) / "lambda").resolve()
    wanted = [function for function in functions(workspace) if asked.only in (None, function.name)]
    programs = (build_across if asked.arch == "arm64" else build_here)(wanted, workspace)
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for function in wanted:
        made += package(function, programs[function.name], beside, target, out)
    sums = [f"{digest(path)}  {path.name}\n" for path in sorted(made)]
    (out / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
