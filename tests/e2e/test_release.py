"""A release: reproducible zips, a list of each program's components, and the digests of all files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stack import ROOT

# The remapped source paths of registry packages (see `package.py`). A panic names its source file.
SOURCE_PATH = re.compile(rb"/packages/([A-Za-z][\w-]*?)-(\d+\.\d+\.\d+[\w.+-]*)/")
# Only one function is built again: all three would take three times as long and prove no more.
BUILT_AGAIN = "sign-direct"


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def programs(packages: Path) -> dict[str, bytes]:
    """The programs in the zips, by zip name."""
    return {path.stem: zipfile.ZipFile(path).read("bootstrap") for path in sorted(packages.glob("*.zip"))}


def bill_of_materials(packages: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((packages / f"{name}.cdx.json").read_text())
    return found


def test_sha256sums_lists_every_file_and_no_other(packages: Path, tmp_path: Path) -> None:
    listed = dict(reversed(line.split("  ", 1)) for line in (packages / "SHA256SUMS").read_text().splitlines())
    here = {path.name for path in packages.iterdir() if path.name != "SHA256SUMS"}
    assert set(listed) == here and {"signer.zip", "signer.cdx.json"} <= here
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=packages, capture_output=True, check=False).returncode == 0
    other = shutil.copytree(packages, tmp_path / "other")
    (other / "signer.zip").write_bytes((other / "signer.zip").read_bytes() + b"\0")
    assert (
        subprocess.run(check, cwd=other, capture_output=True, check=False).returncode == 1
    ), "a changed zip passes the check"


def test_each_zip_has_a_valid_cyclonedx_document(packages: Path) -> None:
    locked = {(one["name"], one["version"]): one for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    for name, program in programs(packages).items():
        contents = (packages / f"{name}.cdx.json").read_text()
        wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(contents)
        assert wrong is None, f"{name}: {wrong}"
        read = Bom.from_json(json.loads(contents))
        # Every reference has its target in the document.
        assert read.validate()
        document = bill_of_materials(packages, name)
        [main] = document["metadata"]["component"]["hashes"]
        assert main == {"alg": "SHA-256", "content": hashlib.sha256(program).hexdigest()}
        for part in document["components"]:
            known = locked.get((part["name"], part["version"]), {})
            digests = [one["content"] for one in part.get("hashes", [])]
            assert digests == [known["checksum"]] if "checksum" in known else digests == [], part
            assert part["licenses"][0]["expression"], part
        without = {part["name"] for part in document["components"] if "hashes" not in part}
        assert all(part == "rust-std" or part.startswith("signpost-") for part in without), without


def test_cyclonedx_document_lists_every_linked_package(packages: Path) -> None:
    for name, program in programs(packages).items():
        document = bill_of_materials(packages, name)
        listed = {(part["name"], part["version"]) for part in document["components"]}
        # Packages named by panics in the program, independent of cargo's list.
        named = {(one.decode(), version.decode()) for one, version in SOURCE_PATH.findall(program)}
        assert len(named) > 20, f"{name}: only {named}"
        assert named <= listed, f"{name}: {named - listed}"
        signs = name != "broadcaster"
        clients = [any(part == other for part, _ in listed) for other in ("aws-sdk-kms", "reqwest")]
        assert clients == [signs, not signs], name
        [std] = [part["version"] for part in document["components"] if part["name"] == "rust-std"]
        assert std in output("rustc", "--version")


def test_programs_contain_no_directory_of_the_build_machine(packages: Path) -> None:
    home = os.environ.get("CARGO_HOME", str(Path.home() / ".cargo"))
    places = {str(ROOT), home, output("rustc", "--print", "sysroot"), str(Path.home()), os.path.join("registry", "src")}
    places.add(json.loads(output("cargo", "metadata", "--format-version=1", "--no-deps"))["target_directory"])
    for name, program in programs(packages).items():
        # A path of up to three characters could be in any program by chance.
        found = {place for place in places if len(place) > 3 and place.encode() in program}
        assert not found, f"{name}: {found}"
        assert b"/packages/" in program and b"crates/txmgr/src/" in program, "panics name their files"


def test_build_by_another_user_elsewhere_is_identical(packages: Path, tmp_path: Path) -> None:
    """Builds with another home, another checkout and another cargo directory."""
    home, checkout = tmp_path / "home" / "somebody", tmp_path / "a longer way" / "to" / "signpost"
    for name in output("git", "ls-files", "-co", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    ours = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    theirs = home / "cargo"
    theirs.mkdir(parents=True)
    # The downloaded packages under another path. The compiler records the path of the link, not its target.
    for name in ("registry", "config.toml"):
        if (ours / name).exists():
            (theirs / name).symlink_to(ours / name)
    toolchain = Path(output("rustc", "--print", "sysroot"), "bin")
    dropped = ("CARGO", "RUST", "GIT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"HOME": str(home), "USER": "somebody", "LOGNAME": "somebody", "CARGO_HOME": str(theirs)}
    environment |= {"CARGO_NET_OFFLINE": "true", "PATH": f"{toolchain}{os.pathsep}{os.environ['PATH']}"}
    out = tmp_path / "out"
    command = [sys.executable, str(checkout / "infra" / "package.py"), "--only", BUILT_AGAIN, "--out", str(out)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment, cwd=home)
    assert (checkout / "target" / "release" / BUILT_AGAIN).is_file(), "the program was built in the other checkout"
    for name in (f"{BUILT_AGAIN}.zip", f"{BUILT_AGAIN}.cdx.json"):
        here, there = (hashlib.sha256((place / name).read_bytes()).hexdigest() for place in (packages, out))
        assert here == there, f"{name} differs"
    shutil.rmtree(checkout)
