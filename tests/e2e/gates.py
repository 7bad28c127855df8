"""The gates of `signpost dev --gate`: sets their faults and reads their counters. Also gives the stack without the
gates, since an audit must see true data.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from typing import Any

from stack import Stack

Json = Any


def ask(url: str, path: str, body: Json = None) -> Json:
    """Requests one of a gate's own paths: GET, or POST with a body."""
    contents = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/_gate/{path}", contents), timeout=30) as response:
        return json.load(response)


class Gates:
    """The gates of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.nodes: list[str] = stack.ready["gate"]["rpcUrls"]
        self.aws: str = stack.ready["awsEndpoint"]

    def set_node_faults(self, at: int, script: Json) -> None:
        """Sets the fault script of one node."""
        ask(self.nodes[at], "script", script)

    def set_aws_faults(self, script: Json) -> None:
        """Sets the fault script of AWS."""
        ask(self.aws, "script", script)

    def clear_faults(self) -> None:
        """Removes all faults and the validators' minimum price."""
        for at in range(len(self.nodes)):
            self.set_node_faults(at, [])
        self.set_aws_faults([])
        self.set_minimum_price(0)

    def set_minimum_price(self, wei: int) -> None:
        """Sets the validators' minimum price. Transactions below it stay pending."""
        ask(self.nodes[0], "chain", {"miningFloorWei": str(wei)})

    def faults(self, *urls: str) -> Counter[str]:
        """How often each fault was injected."""
        injected: Counter[str] = Counter()
        for url in urls or (*self.nodes, self.aws):
            injected.update(ask(url, "stats")["faults"])
        return injected


def without_gates(stack: Stack) -> Stack:
    """The same stack with clients that bypass the gates."""
    gate = stack.ready["gate"]
    return Stack(stack.program, {**stack.ready, "awsEndpoint": gate["awsUpstream"], "rpcUrl": gate["rpcUpstream"]})
