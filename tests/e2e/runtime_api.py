"""A local AWS Lambda: the Runtime API and the Extensions API on loopback, and the function's process.

Knows nothing about Signpost. Read next: test_functions.py.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NEXT = "/2018-06-01/runtime/invocation/next"
INVOCATION = "/2018-06-01/runtime/invocation/"
INIT_ERROR = "/2018-06-01/runtime/init/error"
REGISTER = "/2020-01-01/extension/register"
EVENT = "/2020-01-01/extension/event/next"
# For a debug build on a busy machine. Only a function that hangs takes longer.
ANSWERED_WITHIN_S = 60.0


class Failed(Exception):
    """The function answered with an error."""


@dataclass
class Invocation:
    """One event and its answer."""

    event: Any
    timeout_s: float
    number: int
    trace: str
    answer: queue.Queue[tuple[bool, Any]] = field(default_factory=queue.Queue)


class Handler(BaseHTTPRequestHandler):
    """Both APIs. One function, one invocation at a time, as in Lambda."""

    protocol_version = "HTTP/1.1"
    server: Api

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Logs nothing."""

    def reply(self, status: int, body: Any = None, **headers: str) -> None:
        content = json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        api = self.server
        if self.path == EVENT:
            api.extension_listens.set()
            api.ended.wait()
            return
        assert self.path == NEXT, self.path
        api.ready.set()
        invocation = api.invocations.get()
        if invocation is None:
            return
        api.current = invocation
        deadline_ms = round((time.time() + invocation.timeout_s) * 1000)
        self.reply(
            200,
            invocation.event,
            Lambda_Runtime_Aws_Request_Id=f"00000000-0000-0000-0000-{invocation.number:012d}",
            Lambda_Runtime_Deadline_Ms=str(deadline_ms),
            Lambda_Runtime_Trace_Id=invocation.trace,
            Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:us-east-1:000000000000:function:signpost",
        )

    def do_POST(self) -> None:
        api = self.server
        length = self.headers.get("Content-Length")
        body = self.chunks() if length is None else self.rfile.read(int(length))
        if self.path == REGISTER:
            api.extension = (self.headers["Lambda-Extension-Name"], json.loads(body))
            self.reply(200, {"functionName": "signpost"}, Lambda_Extension_Identifier="extension-1")
        elif self.path == INIT_ERROR:
            api.init_error.put(json.loads(body))
            self.reply(202)
        elif self.path.startswith(INVOCATION) and api.current is not None:
            current, api.current = api.current, None
            api.first_answer_at = api.first_answer_at or time.perf_counter()
            self.reply(202)
            current.answer.put((self.path.endswith("/response"), json.loads(body)))
        else:
            self.reply(404)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class Api(ThreadingHTTPServer):
    """The server of one function's process."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.invocations: queue.Queue[Invocation | None] = queue.Queue()
        self.current: Invocation | None = None
        self.first_answer_at: float | None = None
        self.init_error: queue.Queue[Any] = queue.Queue()
        self.extension: tuple[str, Any] | None = None
        self.extension_listens = threading.Event()
        self.ready = threading.Event()
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Function:
    """A function's process and its API. A context manager that stops both."""

    def __init__(self, program: Path, environment: dict[str, str], log: Path) -> None:
        self.api = Api()
        self.log_file = log
        self.count = 0
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNPOST_"))}
        lambdas = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "signpost",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        }
        with log.open("wb") as err:
            self.started_at = time.perf_counter()
            self.process = subprocess.Popen(
                [str(program)], env={**ours, **lambdas, **environment}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=err, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.wait()
        self.api.ended.set()
        self.api.invocations.put(None)
        self.api.shutdown()
        self.api.server_close()
        if raised[0] is not None:
            print(f"--- {self.log_file.name}", self.log(), sep="\n")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def first_answer_ms(self) -> float:
        """Milliseconds from the start of the process to its first answer."""
        assert self.api.first_answer_at is not None, "there is no answer yet"
        return (self.api.first_answer_at - self.started_at) * 1000

    def send(self, event: Any, timeout_s: float = 30.0, trace: str = "Root=1-0-0;Sampled=0") -> Invocation:
        """Queues an event. `answer_to` waits for its answer."""
        self.count += 1
        invocation = Invocation(event, timeout_s, self.count, trace)
        self.api.invocations.put(invocation)
        return invocation

    def answer_to(self, invocation: Invocation) -> Any:
        """The function's answer."""
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        while True:
            try:
                good, answer = invocation.answer.get(timeout=0.2)
                break
            except queue.Empty:
                assert self.process.poll() is None, f"the function ended with {self.process.returncode}\n{self.log()}"
                assert time.monotonic() < deadline, f"no answer in {ANSWERED_WITHIN_S:g} s"
        if not good:
            raise Failed(answer["errorMessage"])
        return answer

    def invoke(self, event: Any, timeout_s: float = 30.0, **more: str) -> Any:
        """Queues an event and waits for its answer."""
        return self.answer_to(self.send(event, timeout_s, **more))

    def init_error(self) -> str:
        """The reported reason for a failed start. The process must have exited with an error."""
        message: str = self.api.init_error.get(timeout=ANSWERED_WITHIN_S)["errorMessage"]
        assert self.process.wait(timeout=ANSWERED_WITHIN_S) != 0
        assert not self.api.ready.is_set(), "a function that does not start must not request events"
        return message

    def terminate(self) -> float:
        """Sends SIGTERM, as Lambda does at shutdown. Returns the seconds until the process exits with 0."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=ANSWERED_WITHIN_S) == 0
        return time.monotonic() - begun


def record(body: Any, queue_arn: str, message_id: str, group: str | None = "hot") -> dict[str, Any]:
    """A record of an SQS message, as Lambda's event source makes it."""
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1", "SenderId": "AIDAEXAMPLE"}
    if group is not None:
        attributes["MessageGroupId"] = group
    return {
        "messageId": message_id,
        "receiptHandle": "receipt",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "0" * 32,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": "us-east-1",
    }


def batch(*records: dict[str, Any]) -> dict[str, Any]:
    """An event of these records."""
    return {"Records": list(records)}


def failures(*message_ids: str) -> dict[str, Any]:
    """The answer that reports exactly these as failed."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}
