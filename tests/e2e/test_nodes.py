"""Every kind of odd node in front of a worker: alone, and beside sound nodes.

All kinds are tried at once, a few at a time, by the first test; each test then reads what came of its own kind. So a
request that has to wait half a minute costs the others nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodes import Nodes, Signpost, Told, head, play
from oddities import ALL, Oddity
from stack import Stack, start_stack

AT_ONCE = 16
# Each kind has a node of its own; these are everybody's.
SOUND = 2
CONFIRMED_WITHIN_S = 28.0
# A request that has not moved for 30 s says so.
SAID_WITHIN_S = 40.0
WELL_WITHIN_S = 30.0
BESIDE_WITHIN_S = 10.0


@dataclass
class Trial:
    """What came of one kind."""

    alone: Told | None
    beside: Told
    # Transactions that were mined.
    uses: int


def slug(oddity: Oddity) -> str:
    return re.sub(r"\W+", "-", oddity.name)


@dataclass
class Field:
    """Where the kinds are tried."""

    stack: Stack
    nodes: Nodes
    directory: Path

    def trial(self, at: int, oddity: Oddity) -> Trial:
        sound, node = self.nodes.urls[:SOUND], self.nodes.urls[SOUND + at]
        signpost = Signpost(self.stack, self.directory, slug(oddity), sound[0])
        here = head(self.stack.rpc)
        rules = [{**rule, "height": here} if rule["fault"] == "frozen" else rule for rule in oddity.rules]
        play(node, rules)
        alone = self.alone(signpost, node, oddity) if oddity.alone else None
        play(node, rules)
        beside = self.beside(signpost, [node, *sound[: oddity.sound]])
        return Trial(alone, beside, signpost.uses())

    def alone(self, signpost: Signpost, node: str, oddity: Oddity) -> Told:
        id = f"{signpost.name}-alone"
        worker = signpost.worker([node], "alone")
        try:
            since = signpost.submit(id)
            if not oddity.waits:
                return signpost.outcome(id, since, worker, CONFIRMED_WITHIN_S)
            waits = signpost.waiting(id, worker, SAID_WITHIN_S)
            play(node, [])
            return signpost.outcome(id, since, worker, WELL_WITHIN_S, waits)
        finally:
            worker.stop()

    def beside(self, signpost: Signpost, nodes: list[str]) -> Told:
        id = f"{signpost.name}-beside"
        worker = signpost.worker(nodes, "beside")
        try:
            since = signpost.submit(id)
            return signpost.outcome(id, since, worker, CONFIRMED_WITHIN_S)
        finally:
            worker.stop()


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Trial]]]:
    """The kinds whose tests are to run, under way."""
    chosen = {item.callspec.params["oddity"].name for item in request.session.items if hasattr(item, "callspec")
              and "oddity" in item.callspec.params}  # fmt: skip
    directory = tmp_path_factory.mktemp("nodes")
    stack = start_stack(directory, "--no-worker")
    nodes = Nodes(stack, SOUND + len(ALL))
    field = Field(stack, nodes, directory)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Those that wait long begin first.
        order = sorted((at for at, each in enumerate(ALL) if each.name in chosen), key=lambda at: not ALL[at].waits)
        yield {ALL[at].name: pool.submit(field.trial, at, ALL[at]) for at in order}
        pool.shutdown(cancel_futures=True)
    nodes.stop()
    stack.stop()


@pytest.mark.parametrize("oddity", ALL, ids=slug)
def test_a_request_gets_through_in_front_of(oddity: Oddity, trials: dict[str, Future[Trial]]) -> None:
    trial = trials[oddity.name].result()
    print(f"{oddity.name}: beside {trial.beside.took_s:.1f} s, {trial.beside.attempts} attempt(s)")
    requests = 1
    if trial.alone:
        requests += 1
        print(f"alone {trial.alone.took_s:.1f} s, {trial.alone.attempts} attempt(s), waited for {trial.alone.waits}")
        judge_alone(oddity, trial.alone)
    item = trial.beside.item
    assert item["status"] == "confirmed" and trial.beside.attempts == 1, (item, trial.beside.log)
    took_s = (item["publishedAt"] - item["createdAt"]) / 1_000
    assert took_s <= BESIDE_WITHIN_S, f"{took_s} s\n{trial.beside.log}"
    assert trial.uses == requests, "each was executed once"


def judge_alone(oddity: Oddity, alone: Told) -> None:
    assert alone.item["status"] == "confirmed", (alone.item, alone.log)
    assert oddity.again or alone.attempts == 1, (alone.item, alone.log)
    if oddity.waits:
        assert alone.waits in oddity.waits, (alone.waits, alone.log)
        assert "the request does not move" in alone.log and "WARN" in alone.log, alone.log
