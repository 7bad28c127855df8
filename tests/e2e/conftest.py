"""Fixtures: local stacks, always stopped at the end, with their logs when a test fails; and the seed."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from functions import Deployment, package
from stack import Stack, start_stack

LOG_LINES = 60

StartStack = Callable[..., Stack]
Figure = Callable[[str], None]
FAILED = pytest.StashKey[bool]()
# The property of a test's report for a measured figure or an unchecked item.
FIGURE = "figure"
# The seed of a whole run: the same number gives every test the same messages.
SEED = int(os.environ.get("SIGNPOST_SEED") or secrets.randbelow(2**32))

# The files whose tests need the release build of the functions. Building it takes most of their time.
NEED_PACKAGES = {"test_packages", "test_release", "test_deploy"}

# Tests on a real node need geth. `cargo verify --real` builds it and sets SIGNPOST_GETH.
collect_ignore = [] if os.environ.get("SIGNPOST_GETH") else ["real"]


class Scheduling(LoadFileScheduling):
    """One process runs all tests of a file, and all tests that need packages: it builds them once, and no other process
    waits for cargo's lock."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "packages" if Path(file).stem in NEED_PACKAGES else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests that take longest first."""
    items.sort(key=lambda item: item.path.stem not in NEED_PACKAGES)


def pytest_report_header() -> str:
    return f"SIGNPOST_SEED={SEED} replays the randomness of this run"


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Prints a line at the end of the run, from any test process."""
    return lambda text: record_property(FIGURE, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    figures = [(report.nodeid, text) for report in reports for name, text in report.user_properties if name == FIGURE]
    if figures:
        terminalreporter.section("figures")
    for test, text in figures:
        terminalreporter.write_line(f"{test.rpartition('::')[2]}: {text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def dev(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartStack]:
    """Starts `signpost dev` with the given options; stops it at the end of the test."""
    stacks: list[Stack] = []

    def start(*options: str) -> Stack:
        directory = tmp_path / f"stack-{len(stacks)}"
        directory.mkdir()
        stacks.append(start_stack(directory, *options))
        return stacks[-1]

    yield start
    for stack in stacks:
        show_logs_if_failed(stack, request.node)
        stack.stop()


def show_logs_if_failed(stack: Stack, test: pytest.Item) -> None:
    if test.stash.get(FAILED, False):
        for name, log in stack.logs():
            print(f"--- the end of {name}'s log", *log.splitlines()[-LOG_LINES:], sep="\n")


@pytest.fixture
def seed() -> int:
    """The seed of the run; also printed with a failure."""
    print(f"SIGNPOST_SEED={SEED}")
    return SEED


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running stack for all tests of a module. Each test uses its own ids."""
    stack = start_stack(tmp_path_factory.mktemp("shared"))
    yield stack
    stack.stop()


@pytest.fixture
def stack(shared: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The module's stack. Prints its logs when a test fails."""
    yield shared
    show_logs_if_failed(shared, request.node)


@pytest.fixture(scope="module")
def without_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack without a worker: only the functions process messages."""
    stack = start_stack(
        tmp_path_factory.mktemp("without-worker"), "--no-worker", "--account", "hot", "--account", "cold"
    )
    yield stack
    stack.stop()


@pytest.fixture
def deployment(without_worker: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment of the functions on the stack without a worker."""
    yield Deployment(without_worker, tmp_path)
    show_logs_if_failed(without_worker, request.node)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the functions' real zips, built as in infra/README.md."""
    out = tmp_path_factory.mktemp("packages")
    package(out)
    return out
