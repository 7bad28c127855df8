"""Repeated `kill -9` of the worker while requests arrive."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from audit import ON_CHAIN, Audit, Subscriber, scan, settle
from conftest import StartStack
from scenario import Backend, Message, send
from stack import Program, Stack, wait_for

REQUESTS = 300
KILLS = 20
# The shortest visibility timeout of a worker. After a kill its lanes wait that long.
VISIBILITY = "visibility_s = 3"
# The share of workers that are killed before they do anything.
KILLED_AT_START = 0.25


def short_visibility_config(stack: Stack, directory: Path) -> Path:
    """The configuration with a short visibility timeout."""
    text = stack.config_file.read_text()
    lines = [VISIBILITY if line.startswith("visibility_s") else line for line in text.splitlines()]
    assert VISIBILITY in lines, text
    config = directory / "short_visibility_config.toml"
    config.write_text("\n".join(lines))
    return config


def progress(stack: Stack) -> int:
    """A number that grows with each write of a worker."""
    return sum(item["version"] + 1 + ("publishedAt" in item) for item in scan(stack, "requestsTable"))


def start_and_wait_for_progress(stack: Stack, config: Path | None = None) -> Program:
    """Starts a worker and waits until it has stored something."""
    before = progress(stack)
    worker = stack.start_worker(config=config)
    wait_for("the worker makes progress", lambda: progress(stack) > before, 60, every_s=0.05)
    return worker


def start_and_kill(stack: Stack, config: Path, rng: random.Random) -> Counter[str]:
    """Starts a worker, usually waits for some progress, and kills it at a random moment. Returns the number of
    unfinished requests by status."""
    killed_at_start = rng.random() < KILLED_AT_START
    worker = stack.start_worker(config=config) if killed_at_start else start_and_wait_for_progress(stack, config)
    time.sleep(rng.uniform(0, 1))  # The random moment.
    assert worker.ended is None, f"{worker.name} ended by itself with {worker.ended}"
    worker.kill()
    return Counter(item["status"] for item in scan(stack, "requestsTable")
                   if not {"publishedAt", "saidAs"} & set(item))  # fmt: skip


def test_killed_workers_lose_and_duplicate_nothing(dev: StartStack, rng: random.Random, tmp_path: Path) -> None:
    stack = dev("--no-worker", "--account", "hot", "--account", "cold", "--account", "spare")
    subscribers = [Subscriber(stack, "executed", ON_CHAIN), Subscriber(stack, "refused", ["rejected"])]
    backend = Backend(rng, stack.addresses, "crash")
    config = short_visibility_config(stack, tmp_path)
    asks = [(backend.new_id(), backend.transfer()) for _ in range(REQUESTS)]
    requests: list[Message] = [backend.request(id, ask) for id, ask in asks]
    sqs = stack.aws("sqs")
    sent = []
    unfinished: Counter[str] = Counter()
    for life in range(KILLS):
        # New requests in every life, so that the kills interrupt requests in every phase.
        sent += send(sqs, stack.signing_queue, requests[life * REQUESTS // KILLS : (life + 1) * REQUESTS // KILLS])
        unfinished += start_and_kill(stack, config, rng)
    # Some backends send their requests again. That must have no effect.
    again = rng.sample(asks, REQUESTS // 10)
    sent += send(sqs, stack.signing_queue, [backend.request(id, ask) for id, ask in again])
    stack.start_worker(config=config)
    took = settle(stack, sent, subscribers, within_s=120)
    print(f"{KILLS} workers left behind {dict(unfinished)}; the last one finished in {took:.1f} s")
    Audit(stack, sent, subscribers, in_order=True, crashed=True).run()
