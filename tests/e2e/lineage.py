"""Lambda's recursive loop detection, after its developer guide: Lambda counts a chain of invocations through SQS in
the trace header (`Lineage=`). It makes at most sixteen invocations of one function, unless the function has
`RecursiveLoop: Allow`.

A proxy between a function and SQS keeps the trace header of each sent message, as SQS does in the attribute
`AWSTraceHeader`. Lambda's format after `Lineage=` is not public: here it is the count.
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


class LoopStopped(Exception):
    """Lambda stopped the chain as a recursive loop. The message ends in the dead-letter queue."""


def shipped(function: str) -> str:
    """The function's RecursiveLoop in the template, or Lambda's default."""
    found: str = template.properties(template.load(), function).get("RecursiveLoop", "Terminate")
    return found


class SqsProxy(ThreadingHTTPServer):
    """A proxy for SQS. Keeps the trace header of each message that a function sends."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.headers: dict[str, str | None] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def rounds(self, body: str) -> int:
        """The number of invocations that led to a message."""
        lineage = re.search(r"Lineage=(\d+)", self.headers[body] or "")
        return int(lineage[1]) if lineage else 0

    def invoke(self, function: Function, configured: str, event: Any, behind: int, timeout_s: float) -> Any:
        """Makes the next invocation of a chain, or refuses it as Lambda does."""
        if behind >= ROUNDS_MAX and configured != "Allow":
            raise LoopStopped(f"after {behind} invocations")
        return function.invoke(event, timeout_s, trace=f"Root=1-0-0;Sampled=0;Lineage={behind + 1}")


class Handler(BaseHTTPRequestHandler):
    """Forwards every request."""

    protocol_version = "HTTP/1.1"
    server: SqsProxy

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs nothing."""

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
def sent_through(upstream: str) -> Iterator[SqsProxy]:
    proxy = SqsProxy(upstream)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
