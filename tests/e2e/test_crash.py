"""`kill -9` of the worker, again and again, while requests come in."""

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
# The shortest a worker may hold messages for: after a kill its lanes wait so long.
VISIBILITY = "visibility_s = 3"
# Some lives end before they have done anything at all.
STILLBORN = 0.25


def impatient(stack: Stack, directory: Path) -> Path:
    """The configuration of a worker whose death is noticed soon."""
    text = stack.config_file.read_text()
    lines = [VISIBILITY if line.startswith("visibility_s") else line for line in text.splitlines()]
    assert VISIBILITY in lines, text
    config = directory / "impatient.toml"
    config.write_text("\n".join(lines))
    return config


def progress(stack: Stack) -> int:
    """Grows with whatever a worker stores."""
    return sum(item["version"] + 1 + ("publishedAt" in item) for item in scan(stack, "requestsTable"))


def start_and_get_on(stack: Stack, config: Path | None = None) -> Program:
    """A worker that has stored something."""
    before = progress(stack)
    worker = stack.start_worker(config=config)
    wait_for("the worker gets on", lambda: progress(stack) > before, 60, every_s=0.05)
    return worker


def live_and_die(stack: Stack, config: Path, rng: random.Random) -> Counter[str]:
    """A worker's life: it begins, mostly gets something done, and is killed in the middle of the next.
    What it leaves unfinished, by status."""
    stillborn = rng.random() < STILLBORN
    worker = stack.start_worker(config=config) if stillborn else start_and_get_on(stack, config)
    time.sleep(rng.uniform(0, 1))  # The random moment.
    assert worker.ended is None, f"{worker.name} ended by itself with {worker.ended}"
    worker.kill()
    return Counter(item["status"] for item in scan(stack, "requestsTable")
                   if not {"publishedAt", "saidAs"} & set(item))  # fmt: skip


def test_killed_workers_lose_and_duplicate_nothing(dev: StartStack, rng: random.Random, tmp_path: Path) -> None:
    stack = dev("--no-worker", "--account", "hot", "--account", "cold", "--account", "spare")
    subscribers = [Subscriber(stack, "executed", ON_CHAIN), Subscriber(stack, "refused", ["rejected"])]
    backend = Backend(rng, stack.addresses, "crash")
    config = impatient(stack, tmp_path)
    asks = [(backend.new_id(), backend.transfer()) for _ in range(REQUESTS)]
    requests: list[Message] = [backend.request(id, ask) for id, ask in asks]
    sqs = stack.aws("sqs")
    sent = []
    left: Counter[str] = Counter()
    for life in range(KILLS):
        # New requests in every life, so that each kill meets some in every phase.
        sent += send(sqs, stack.signing_queue, requests[life * REQUESTS // KILLS : (life + 1) * REQUESTS // KILLS])
        left += live_and_die(stack, config, rng)
    # Asking again is harmless, and some backends do.
    again = rng.sample(asks, REQUESTS // 10)
    sent += send(sqs, stack.signing_queue, [backend.request(id, ask) for id, ask in again])
    stack.start_worker(config=config)
    took = settle(stack, sent, subscribers, within_s=120)
    print(f"{KILLS} workers left behind {dict(left)}; the last one finished in {took:.1f} s")
    Audit(stack, sent, subscribers, in_order=True, crashed=True).run()
