"""Every kind of faulty node in front of a worker: as the only node, and beside sound nodes.

The first test runs all kinds, several in parallel; each test then checks the results of its own kind. So a request
that waits for half a minute does not delay the others. A trial that took too long in parallel is repeated alone: only
then is its time that of the node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from nodes import Nodes, Instance, Result, head, set_faults
from oddities import ALL, Oddity
from stack import Stack, start_stack

AT_ONCE = 16
# The number of sound nodes, shared by all kinds. Each kind has its own faulty nodes.
SOUND = 2
PUBLISHED_WITHIN_S = 60.0
# A request that has not moved for 30 s has `waitingFor`, and a round may take some seconds.
SAID_WITHIN_S = 45.0
BESIDE_WITHIN_S = 10.0
# The limit if Signpost waits for the only second node, which gives no finalized block.
BESIDE_ONE_WITHIN_S = 40.0
ALONE, BESIDE, ONCE_MORE = "alone", "beside", "once-more"


def slug(oddity: Oddity) -> str:
    return re.sub(r"\W+", "-", oddity.name)


@dataclass
class Trials:
    """The shared stack and nodes of the trials."""

    stack: Stack
    nodes: Nodes
    directory: Path

    def trial(self, at: int, oddity: Oddity, place: str) -> Result:
        """Runs one request with a faulty node: as the only node, or as the first of several."""
        is_alone = place == ALONE
        sound, node = self.nodes.urls[:SOUND], self.nodes.urls[SOUND + at]
        signpost = Instance(self.stack, self.directory, f"{slug(oddity)}-{place}", sound[0])
        here = head(self.stack.rpc)
        set_faults(node, [{**rule, "height": here} if rule["fault"] == "frozen" else rule for rule in oddity.rules])
        worker = signpost.worker([node, *(() if is_alone else sound[: oddity.sound])])
        waits = None
        try:
            id = signpost.submit()
            if is_alone and oddity.waits:
                waits = signpost.waiting(id, worker, SAID_WITHIN_S)
                set_faults(node, [])
            item = signpost.outcome(id, worker, PUBLISHED_WITHIN_S)
        finally:
            worker.stop()
        return Result(item, waits, worker.log(), signpost.mined_count())


@dataclass
class Trial:
    """The results of one kind."""

    alone: Future[Result] | None
    beside: Future[Result]
    # Repeats the trial beside sound nodes, alone on the machine.
    once_more: Callable[[], Result]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Trial]]:
    """Runs the trials of all selected tests. Those with a long wait start first."""
    of_items = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = [params["oddity"] for params in of_items if "oddity" in params]
    directory = tmp_path_factory.mktemp("nodes")
    stack = start_stack(directory, "--no-worker")
    nodes = Nodes(stack, SOUND + 2 * len(chosen))
    trial_runner = Trials(stack, nodes, directory)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        alone = {
            each.name: pool.submit(trial_runner.trial, at, each, ALONE)
            for at, each in sorted(enumerate(chosen), key=lambda numbered: not numbered[1].waits)
            if each.alone
        }
        beside = {
            each.name: pool.submit(trial_runner.trial, at, each, BESIDE) for at, each in enumerate(chosen, len(chosen))
        }

        # pytest changes the environment with every test, and the threads read it when they start programs and clients.
        wait([*alone.values(), *beside.values()])
    yield {
        each.name: Trial(alone.get(each.name), beside[each.name], partial(trial_runner.trial, at, each, ONCE_MORE))
        for at, each in enumerate(chosen, len(chosen))
    }
    nodes.stop()
    stack.stop()


@pytest.mark.parametrize("oddity", ALL, ids=slug)
def test_request_is_confirmed_in_front_of_a_faulty_node(oddity: Oddity, trials: dict[str, Trial]) -> None:
    trial = trials[oddity.name]
    if trial.alone:
        check_alone(oddity, trial.alone.result())
    within_s = BESIDE_ONE_WITHIN_S if oddity.long_wait else BESIDE_WITHIN_S
    beside = trial.beside.result()
    check_beside(beside)
    if beside.took_s > within_s:
        beside = trial.once_more()
        check_beside(beside)
    assert beside.took_s <= within_s, beside


def check_beside(beside: Result) -> None:
    print(f"beside: {beside.took_s:.1f} s, {beside.attempts} attempt(s)")
    assert beside.item["status"] == "confirmed" and beside.attempts == 1 and beside.mined_count == 1, beside


def check_alone(oddity: Oddity, alone: Result) -> None:
    print(f"alone: {alone.took_s:.1f} s, {alone.attempts} attempt(s), waited for {alone.waits}")
    assert alone.item["status"] == "confirmed" and alone.mined_count == 1, alone
    assert oddity.again or alone.attempts == 1, alone
    if oddity.waits:
        assert alone.waits in oddity.waits, alone
        assert '"WARN","message":"the request makes no progress' in alone.log, alone
