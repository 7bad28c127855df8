"""A collector of OpenTelemetry spans on loopback: receives OTLP/HTTP and keeps the spans.

Reads just enough of protobuf's wire format and of `opentelemetry/proto/trace/v1/trace.proto` for a span's name, its
ids and its attributes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fields = dict[int, list[bytes | int]]


@dataclass(frozen=True)
class Span:
    """One span."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    fields: dict[str, str | int | None]


@dataclass
class Collector:
    """The received spans and the paths of the requests."""

    url: str
    spans: list[Span] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def trace(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id == trace_id]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def message(data: bytes) -> Fields:
    """The fields of a message by number."""
    found: Fields = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value: bytes | int
        match key & 7:
            case 0:
                value, at = varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                length, at = varint(data, at)
                value, at = data[at : at + length], at + length
            case 5:
                value, at = data[at : at + 4], at + 4
            case other:
                raise AssertionError(f"wire type {other}")
        found.setdefault(key >> 3, []).append(value)
    return found


def parts(of: Fields, number: int) -> list[bytes]:
    values = of.get(number, [])
    assert all(isinstance(value, bytes) for value in values)
    return [value for value in values if isinstance(value, bytes)]


def one(of: Fields, number: int) -> bytes:
    return next(iter(parts(of, number)), b"")


def attribute(data: bytes) -> tuple[str, str | int | None]:
    pair = message(data)
    value = message(one(pair, 2))
    text, number = value.get(1), value.get(3)
    shown = text[0].decode() if text and isinstance(text[0], bytes) else None
    counted = number[0] if number and isinstance(number[0], int) else None
    return one(pair, 1).decode(), shown if shown is not None else counted


def spans(request: bytes) -> Iterator[Span]:
    """The spans of an ExportTraceServiceRequest."""
    for resource in parts(message(request), 1):
        for scope in parts(message(resource), 2):
            for data in parts(message(scope), 2):
                span = message(data)
                ids = [one(span, number).hex() for number in (1, 2, 4)]
                fields = dict(attribute(part) for part in parts(span, 9))
                yield Span(*ids, name=one(span, 5).decode(), fields=fields)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector until the end of the block."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.add(self.path)
            collector.spans.extend(spans(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
