"""Lambda's recursive loop detection, as its developer guide describes it: a chain of invocations through SQS is
counted in the trace header (`Lineage=`), and the invocation after the sixteenth of one function is not made, unless
the function says `RecursiveLoop: Allow`.

Between a function and SQS stands a proxy that keeps the trace header of what the function sends, as SQS does in the
attribute `AWSTraceHeader`. What Lambda writes after `Lineage=` is its own affair: here it is the count.
Read next: test_lineage.py.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runtime_api import Function
from stack import ROOT

sys.path.append(str(ROOT / "tests/infra"))

import template  # noqa: E402

ROUNDS_MAX = 16
HEADER = "X-Amzn-Trace-Id"


class Stopped(Exception):
    """Lambda takes the chain for a mistake; the message goes to the dead-letter queue in the end."""


def shipped(function: str) -> str:
    """What the template says of a function's loops; Lambda's default where it says nothing."""
    found: str = template.properties(template.load(), function).get("RecursiveLoop", "Terminate")
    return found


class Sent(ThreadingHTTPServer):
    """What a function sent to SQS, and the trace header it came with."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.headers: dict[str, str | None] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def rounds(self, body: str) -> int:
        """How many invocations lie behind a message."""
        lineage = re.search(r"Lineage=(\d+)", self.headers[body] or "")
        return int(lineage[1]) if lineage else 0

    def invoke(self, function: Function, configured: str, event: Any, behind: int, timeout_s: float) -> Any:
        """One more invocation of a chain, as Lambda makes it, or not."""
        if behind >= ROUNDS_MAX and configured != "Allow":
            raise Stopped(f"after {behind} invocations")
        return function.invoke(event, timeout_s, trace=f"Root=1-0-0;Sampled=0;Lineage={behind + 1}")


class Handler(BaseHTTPRequestHandler):
    """Passes everything on."""

    protocol_version = "HTTP/1.1"
    server: Sent

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("X-Amz-Target") == "AmazonSQS.SendMessageBatch":
            for entry in json.loads(body)["Entries"]:
                self.server.headers[entry["MessageBody"]] = self.headers.get(HEADER)
        passed = urllib.request.Request(self.server.upstream + self.path, body, dict(self.headers), method="POST")
        try:
            with urllib.request.urlopen(passed, timeout=30) as answer:
                status, headers, content = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            status, headers, content = refused.code, refused.headers, refused.read()
        self.send_response(status)
        self.send_header("Content-Type", headers.get("Content-Type", "application/x-amz-json-1.0"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def sent_through(upstream: str) -> Iterator[Sent]:
    proxy = Sent(upstream)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
