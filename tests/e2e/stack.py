"""The product as a user runs it: `signpost dev` and `signpost worker` as processes, with plain AWS clients and a
JSON-RPC client.

Knows nothing about requests. Read next: scenario.py (the messages), audit.py (the checks of their results).
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
CHAIN_ID = 97
# For a busy machine. The first start also installs everything, but `cargo verify` does that before.
READY_WITHIN_S = 120.0
ENDED_WITHIN_S = 20.0
POLL_S = 0.1

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], within_s: float, every_s: float = POLL_S) -> T:
    """Calls `look` until it returns something true. Fails after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s:g} s")
        time.sleep(every_s)


# Below the ephemeral ports of Linux (from 32768), macOS and Windows (from 49152): the system assigns none of these.
PORTS = range(20_000, 30_000)
PORTS_EACH = 100
_offsets = itertools.count(os.getpid() * PORTS_EACH)


def free_port() -> int:
    """A free loopback port that this process has not returned before. Each test process starts in its own part of the
    range, so that two processes do not collide."""
    for _ in PORTS:
        port = PORTS[next(_offsets) % len(PORTS)]
        with socket.socket() as probe:
            # As servers do: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"every port from {PORTS.start} to {PORTS.stop} is taken")


def binary() -> Path:
    """The program under test: SIGNPOST_BIN, or the debug build of `cargo verify`."""
    named = os.environ.get("SIGNPOST_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(named) if named else target / "debug" / "signpost"
    assert path.is_file(), f"{path} is missing; run `cargo verify --e2e-only`, or `cargo build -p signpost` first"
    return path


def anvil_program() -> Path:
    """The anvil of the local stack's tools."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    tools = Path(os.environ.get("SIGNPOST_TOOLS", target / "local-stack"))
    found = sorted(tools.glob("node/node_modules/@foundry-rs/anvil-*/bin/anvil"))
    assert found, f"no anvil in {tools}; run `cargo verify --e2e-only`"
    return found[0]


def environment(**more: str) -> dict[str, str]:
    """The environment without variables that point to a real AWS account or to another local stack."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and k != "SIGNPOST_CONFIG"}
    return {**ours, **more}


class Program:
    """A running `signpost`, with its output in files."""

    def __init__(self, directory: Path, name: str, arguments: Iterable[str], **more: str) -> None:
        self.name = name
        self.out, self.err = directory / f"{name}.out", directory / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(binary()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(**more),
                cwd=directory,
                # Ctrl-C goes to pytest only; its fixtures then stop the program.
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        return self.process.poll()

    def log(self) -> str:
        return self.err.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = ENDED_WITHIN_S) -> int:
        return self.process.wait(timeout=within_s)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Sends SIGTERM, and kills the program if it does not exit in time."""
        if self.ended is None:
            self.send(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@dataclass
class Stack:
    """A ready local stack, and clients for it."""

    program: Program
    ready: dict[str, Any]
    workers: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rpc = Rpc(self.ready["rpcUrl"])
        self.config_file = Path(self.ready["configFile"])
        self.signing_queue: str = self.ready["signingQueueUrl"]
        self.addresses: dict[str, str] = {entry["name"]: entry["address"] for entry in self.ready["accounts"]}

    def aws(self, service: str) -> Any:
        """A plain AWS client, as a backend uses it."""
        return boto3.client(
            service,
            endpoint_url=self.ready["awsEndpoint"],
            region_name=self.ready["region"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"mode": "standard"}, max_pool_connections=4),
        )

    def start_worker(self, *options: str, config: Path | None = None) -> Program:
        """Starts `signpost worker` as a separate process."""
        name = f"worker-{len(self.workers)}"
        arguments = ["worker", "--config", str(config or self.config_file), *options]
        worker = Program(self.program.out.parent, name, arguments)
        self.workers.append(worker)
        return worker

    def kms_signatures(self) -> int:
        """The number of signatures in the log of the emulated KMS."""
        log = self.config_file.with_name("ministack.log").read_text(errors="replace")
        return sum("Signed " in line for line in log.splitlines() if "kms" in line)

    def stop(self) -> None:
        for worker in self.workers:
            if worker.ended is None:
                worker.stop()
        if self.program.ended is None:
            self.program.stop()

    def logs(self) -> Iterator[tuple[str, str]]:
        """Every log by name."""
        for program in [self.program, *self.workers]:
            yield program.name, program.log()
        for part in ("worker", "anvil", "geth", "ministack"):
            log = self.config_file.with_name(f"{part}.log")
            if log.is_file():
                yield f"dev's {part}", log.read_text(errors="replace")


def start_stack(directory: Path, *options: str) -> Stack:
    """Starts `signpost dev --json` and waits until it is ready. It uses the default ports, or free ones."""
    program = Program(directory, "dev", ["dev", "--json", *options])
    try:
        return Stack(program, wait_for("dev is ready", lambda: ready_line(program), READY_WITHIN_S))
    except BaseException:
        print(program.log())
        if program.ended is None:
            program.stop()
        raise


def ready_line(program: Program) -> dict[str, Any] | None:
    """The one JSON line on stdout, once it is complete."""
    line, newline, _ = program.out.read_text().partition("\n")
    if newline:
        ready: dict[str, Any] = json.loads(line)
        return ready
    assert program.ended is None, f"dev ended with {program.ended}"
    return None


@dataclass(frozen=True)
class CommandResult:
    """The result of a command."""

    code: int
    out: str
    err: str

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def line(self) -> Any:
        (only,) = self.lines()
        return only


def run(*arguments: str, stdin: str | None = None, within_s: float = 60.0, **more: str) -> CommandResult:
    """Runs a `signpost` command to its end."""
    done = subprocess.run(
        [str(binary()), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=within_s,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


class Rpc:
    """A JSON-RPC client of a node."""

    BATCH = 100

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, *params: Any) -> Any:
        (answer,) = self.calls([(method, list(params))])
        return answer

    def calls(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        """Makes many calls in few requests. Returns the results in order."""
        answers = self.answers(calls)
        for call, answer in zip(calls, answers, strict=True):
            assert "result" in answer, f"{call}: {answer}"
        return [answer["result"] for answer in answers]

    def answers(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        """Like `calls`, but returns whole answers, including errors."""
        answers: list[Any] = []
        for start in range(0, len(calls), self.BATCH):
            part = calls[start : start + self.BATCH]
            batch = [{"jsonrpc": "2.0", "id": at, "method": m, "params": p} for at, (m, p) in enumerate(part)]
            request = urllib.request.Request(self.url, json.dumps(batch).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as response:
                found = {answer["id"]: answer for answer in json.load(response)}
            answers += [found[at] for at in range(len(part))]
        return answers

    def blocks(self) -> list[dict[str, Any]]:
        """Every block with its transactions, from the first to the newest."""
        newest = int(self.call("eth_blockNumber"), 16)
        return self.calls([("eth_getBlockByNumber", [hex(number), True]) for number in range(newest + 1)])


def processes() -> dict[int, tuple[int, str]]:
    """Every process of this machine except zombies: id, parent's id and command."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if not state.startswith("Z"):
            found[int(pid)] = (int(parent), command)
    return found


def family(of: int) -> dict[int, str]:
    """A process and its descendants, with their commands."""
    everyone = processes()
    members = {of: everyone[of][1]}
    while True:
        more = {pid: command for pid, (parent, command) in everyone.items() if parent in members and pid not in members}
        if not more:
            return members
        members.update(more)


@contextmanager
def external_anvil(directory: Path, port: int, chain_id: int = CHAIN_ID) -> Iterator[str]:
    """Starts a node outside of the stack. Yields its URL."""
    arguments = ["--port", str(port), "--chain-id", str(chain_id), "--accounts", "0", "--base-fee", "0", "-q"]
    arguments += ["--block-time", "0.45", "--slots-in-an-epoch", "1", "--cache-path", str(directory)]
    node = subprocess.Popen([str(anvil_program()), *arguments], stdin=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("the external anvil answers", lambda: answers(url), READY_WITHIN_S)
        yield url
        assert node.poll() is None, "the external anvil was stopped by another process"
    finally:
        node.kill()
        node.wait()


def answers(url: str) -> bool:
    try:
        Rpc(url).call("eth_blockNumber")
    except OSError:
        return False
    return True
