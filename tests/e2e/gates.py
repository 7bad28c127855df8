"""The gates of `signpost dev --gate`, told what to do wrong and asked what they did, and the stack as it
is behind them: an auditor must not be lied to.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import Any

from stack import Stack

Json = Any


def ask(url: str, path: str, body: Json = None) -> Json:
    """One of a gate's own paths: GET, or POST with a body."""
    contents = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_gate/{path}", contents), timeout=30) as response:
        return json.load(response)


class Gates:
    """The gates of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.nodes: list[str] = stack.ready["gate"]["rpcUrls"]
        self.aws: str = stack.ready["awsEndpoint"]

    def node(self, at: int, script: Json) -> None:
        """A new script for one node."""
        ask(self.nodes[at], "script", script)

    def cloud(self, script: Json) -> None:
        """A new script for AWS."""
        ask(self.aws, "script", script)

    def calm(self) -> None:
        """No faults, and the price validators ask for is nothing."""
        for at in range(len(self.nodes)):
            self.node(at, [])
        self.cloud([])
        self.price(0)

    def price(self, wei: int) -> None:
        """What validators ask for at least: what is cheaper stays pending."""
        ask(self.nodes[0], "chain", {"miningFloorWei": str(wei)})

    def faults(self, *urls: str) -> Counter[str]:
        """How often each fault was injected."""
        injected: Counter[str] = Counter()
        for url in urls or (*self.nodes, self.aws):
            injected.update(ask(url, "stats")["faults"])
        return injected


def behind(stack: Stack) -> Stack:
    """The same stack, with clients that go past the gates."""
    gate = stack.ready["gate"]
    return Stack(stack.program, {**stack.ready, "awsEndpoint": gate["awsUpstream"], "rpcUrl": gate["rpcUpstream"]})
