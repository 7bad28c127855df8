"""The functions' zips, as `infra/package.py` builds them: their contents, their size and their cold start."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import Figure
from functions import Deployment, package
from runtime_api import Function, batch, failures
from stack import ROOT

ZIP_BYTES_MAX = 4 << 20
COLD_STARTS = 15
PEAK_RSS_MIB_MAX = 20
# A text of each protocol that every program with a client contains: KMS's name in its requests, and the method that
# sends a transaction to a node.
KMS, NODE = b"TrentService", b"eth_sendRawTransaction"


def programs(packages: Path) -> dict[str, bytes]:
    """The programs in the zips, by zip name."""
    return {path.stem: zipfile.ZipFile(path).read("bootstrap") for path in sorted(packages.glob("*.zip"))}


def test_signers_cannot_call_nodes_and_broadcaster_cannot_call_kms(packages: Path) -> None:
    found = programs(packages)
    assert {"signer", "broadcaster"} <= set(found)
    for name, program in found.items():
        clients = (KMS in program, NODE in program)
        assert clients == ((False, True) if name == "broadcaster" else (True, False)), f"{name}: {clients}"


def test_each_zip_is_small_and_holds_one_executable(packages: Path, figure: Figure) -> None:
    for path in sorted(packages.glob("*.zip")):
        figure(f"{path.name}: {path.stat().st_size:,} bytes")
        assert path.stat().st_size <= ZIP_BYTES_MAX, path
        with zipfile.ZipFile(path) as archive:
            (entry,) = archive.infolist()
            assert entry.filename == "bootstrap" and entry.external_attr >> 16 == 0o100755
            assert archive.read(entry)[:4] == b"\x7fELF"


def test_the_same_sources_and_policy_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[account.hot]\nmax_gas_price_wei = "1"\n')
    accounts = tmp_path / "listed"
    accounts.write_text("# one a line\nhot=0x55d398326f99059fF775485246999027B3197955=key\n")
    digests = []
    for name in ("one", "other"):
        made = package(tmp_path / name, "--policy", str(policy), "--accounts", str(accounts))
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made})
        for path in made:
            entries = set(zipfile.ZipFile(path).namelist())
            assert entries == (
                {"bootstrap"} if path.stem == "broadcaster" else {"bootstrap", "policy.toml", "accounts.txt"}
            ), path
    assert digests[0] == digests[1]
    without_policy = hashlib.sha256((packages / "broadcaster.zip").read_bytes()).hexdigest()
    assert digests[0]["broadcaster.zip"] == without_policy, "a policy does not change the broadcaster's zip"


ARM64 = "aarch64-unknown-linux-gnu"


def package_for_arm64(out: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "infra" / "package.py"), "--arch", "arm64", "--out", str(out)]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_arm64_package_without_standard_library_fails_with_a_hint(tmp_path: Path) -> None:
    # A compiler without the library for the target, independent of this machine's compiler.
    compiler = tmp_path / "bin" / "rustc"
    compiler.parent.mkdir()
    compiler.write_text(f'#!/bin/sh\necho "{tmp_path}/no-such-directory"\n')
    compiler.chmod(0o755)
    out = tmp_path / "out"
    done = package_for_arm64(out, f"{compiler.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert f"rustup target add {ARM64}" in done.stderr
    assert not out.exists()


def test_arm64_is_packaged_if_its_standard_library_is_installed(tmp_path: Path, figure: Figure) -> None:
    asked = ["rustc", "--print", "target-libdir", "--target", ARM64]
    library = Path(subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip())
    done = package_for_arm64(tmp_path, os.environ["PATH"])
    if not any(library.glob("libstd-*")):
        # rustup cannot download it in every network. Then report that arm64 was not checked.
        figure(f"NOT CHECKED: packages for arm64, because Rust's standard library for {ARM64} is not installed")
        assert done.returncode == 1, done.stdout
        return
    assert done.returncode == 0, done.stderr
    made = programs(tmp_path)
    assert {"signer", "broadcaster"} <= made.keys()
    # ELF's e_machine: EM_AARCH64 is 183.
    assert {int.from_bytes(program[18:20], "little") for program in made.values()} == {183}


def peak_rss_mib(function: Function) -> float:
    """The peak memory of a running process."""
    status = Path(f"/proc/{function.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def test_cold_signer_answers_its_first_record_within_memory_limit(
    deployment: Deployment, packages: Path, figure: Figure
) -> None:
    """Also reports the time, without a limit, since it depends on the machine. tests/README.md has the times of an
    idle one."""
    program = deployment.directory / "bootstrap"
    program.write_bytes(programs(packages)["signer"])
    program.chmod(0o755)
    times_ms, peaks_mib = [], []
    for start in range(COLD_STARTS):
        with deployment.signer(program) as signer:
            # The event waits in the emulator until the function requests it, as in Lambda.
            answer = signer.invoke(batch(deployment.ask(f"cold-{start}")))
            times_ms.append(signer.first_answer_ms())
            peaks_mib.append(peak_rss_mib(signer))
        assert answer == failures()
        assert deployment.item(f"cold-{start}")["status"] == "signed"
    best, median, worst = min(times_ms), statistics.median(times_ms), max(times_ms)
    figure(
        f"process start to first answer: best {best:.1f}, median {median:.1f}, worst {worst:.1f} ms of {COLD_STARTS}"
    )
    figure(f"peak RSS: {max(peaks_mib):.1f} MiB")
    assert max(peaks_mib) <= PEAK_RSS_MIB_MAX, peaks_mib
