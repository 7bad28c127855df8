"""`signpost dev` as a process: it leaves nothing behind however it is stopped, and it reports what keeps it from
starting."""

from __future__ import annotations

import signal
import socket
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit import published
from conftest import Figure, StartStack
from stack import Rpc, Stack, family, free_port, external_anvil, processes, run, wait_for


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def is_open(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def servers(stack: Stack) -> list[str]:
    return [stack.ready["awsEndpoint"], stack.ready["rpcUrl"]]


def still_running(members: dict[int, str]) -> dict[int, str]:
    """The processes that still run."""
    now = processes()
    return {pid: command for pid, command in members.items() if now.get(pid, (0, ""))[1] == command}


def remains(members: dict[int, str], urls: list[str]) -> list[str]:
    """Processes that still run and ports that are still open."""
    return [*still_running(members).values(), *(url for url in urls if is_open(url))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_leaves_no_process_and_no_open_port(dev: StartStack, number: signal.Signals) -> None:
    # Free ports, since another stack that starts now would use the default ones.
    stack = dev("--aws-port", str(free_port()), "--rpc-port", str(free_port()))
    members = family(stack.program.process.pid)
    assert len(members) >= 3, f"anvil and ministack are not among {members}"
    assert all(is_open(url) for url in servers(stack))
    stack.program.send(number)
    code = stack.program.wait()
    if number != signal.SIGKILL:
        assert code == 0, f"after a signal to stop it exited with {code}"
        # The servers stop first. The shell that watches them may sleep a little longer.
        assert not any(is_open(url) for url in servers(stack))
    try:
        wait_for("every process and port is gone", lambda: not remains(members, servers(stack)), 20)
    except AssertionError as late:
        pytest.fail(f"{late}; remaining: {remains(members, servers(stack))}")


def test_second_start_installs_nothing_and_has_empty_tables(dev: StartStack, figure: Figure) -> None:
    first = dev()
    first.stop()
    begun = time.monotonic()
    second = dev()
    # Two or three seconds on two idle cores. It depends on the machine, so it is reported and not checked.
    figure(f"the second start took {time.monotonic() - begun:.1f} s")
    log = second.program.log()
    assert "installing" not in log and "Setting up" not in log, log
    assert second.aws("dynamodb").scan(TableName=second.ready["requestsTable"])["Items"] == []


def test_two_stacks_run_side_by_side(dev: StartStack) -> None:
    one, two = dev("--no-worker"), dev("--no-worker", "--account", "a", "--account", "b")
    assert not set(servers(one)) & set(servers(two))
    assert sorted(two.addresses) == ["a", "b"]
    one.stop()
    assert all(is_open(url) for url in servers(two))


def test_external_node_is_used_and_left_running(dev: StartStack, tmp_path: Path) -> None:
    with external_anvil(tmp_path, free_port()) as url:
        stack = dev("--rpc-url", url)
        assert stack.ready["rpcUrl"] == url
        assert not any("anvil" in command for command in family(stack.program.process.pid).values())
        sent = run("submit", "--id", "own-1", "--to", "0x" + "aa" * 20, "--value", "7", "--gas", "21000",
                   "--config", str(stack.config_file))  # fmt: skip
        assert sent.code == 0, sent.err
        item = published(stack, "own-1")
        assert item["status"] == "confirmed"
        assert Rpc(url).call("eth_getTransactionByHash", item["txHash"])["value"] == "0x7"
        stack.stop()
        assert is_open(url)


@pytest.mark.parametrize("option", ["--aws-port", "--rpc-port"])
def test_occupied_port_is_reported_with_a_hint(option: str) -> None:
    with taken_port() as port:
        ended = run("dev", "--no-worker", option, str(port))
    assert ended.code == 1
    assert f"port {port}" in ended.err and "taken" in ended.err and option in ended.err, ended.err


def test_unreachable_node_is_reported() -> None:
    url, aws_port = f"http://127.0.0.1:{free_port()}", free_port()
    ended = run("dev", "--no-worker", "--rpc-url", url, "--aws-port", str(aws_port))
    assert ended.code == 1
    assert url in ended.err, ended.err
    wait_for("ministack is gone", lambda: not is_open(f"http://127.0.0.1:{aws_port}"), 20)
