"""The console, in a browser and by HTTP requests."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from conftest import StartStack
from stack import READY_WITHIN_S, Program, Stack, run, wait_for

HERE = Path(__file__).resolve().parent
TO = "0x55d398326f99059fF775485246999027B3197955"
TOKEN = "0123456789abcdef0123"
SETTLED_WITHIN_S = 60.0
PICTURES = "SIGNPOST_PICTURES"


@contextmanager
def console(stack: Stack, directory: Path, *options: str) -> Iterator[str]:
    """Runs `signpost console` with a stack. Yields its URL."""
    arguments = ["console", "--listen", "127.0.0.1:0", "--config", str(stack.config_file), *options]
    program = Program(directory, "console", arguments)
    try:
        yield wait_for("the console is ready", lambda: program.out.read_text().strip(), READY_WITHIN_S)
    finally:
        code = program.stop()
        print(program.log())
        assert code == 0


def submit(stack: Stack, request_id: str, **fields: Any) -> None:
    body = {"requestId": request_id, "account": "hot", "to": TO, "value": "1", "gas": 21000, **fields}
    sent = stack.aws("sqs").send_message(
        QueueUrl=stack.signing_queue,
        MessageGroupId="hot",
        MessageBody=json.dumps(body),
        MessageDeduplicationId=request_id,
    )
    assert sent["MessageId"]


def status(stack: Stack, request_id: str) -> dict[str, Any]:
    result = run("status", request_id, "--json", "--config", str(stack.config_file))
    found: dict[str, Any] = result.line() if result.code == 0 else {}
    return found


def published(stack: Stack, request_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = status(stack, request_id)
        return found if "publishedAt" in found else None

    return wait_for(f"{request_id} is published", look, SETTLED_WITHIN_S)


def ask(
    url: str, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_console_shows_accounts_requests_and_outcomes(dev: StartStack, tmp_path: Path) -> None:
    stack = dev()
    hostile = "<img src=x onerror='window.hostile=1'></script><script>window.hostile=1</script>"
    submit(stack, "console-1", metadata={"order": 17})
    submit(stack, "console-hostile", metadata={"note": hostile})
    submit(stack, "console-refused", gas=20_999)
    first = published(stack, "console-1")
    published(stack, "console-hostile")
    refused = published(stack, "console-refused")
    ids = {
        "confirmed": "console-1",
        "txHash": first["txHash"],
        "hostile": "console-hostile",
        "hostileText": hostile,
        "refused": "console-refused",
        "refusedCode": refused["reason"]["code"],
        "later": "console-later",
        "stuck": "console-stuck",
    }
    pictures = Path(os.environ.get(PICTURES, tmp_path))
    with console(stack, tmp_path) as url:
        browser = subprocess.Popen(
            ["node", str(HERE / "console.mjs"), url, str(pictures), json.dumps(ids)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert browser.stdout is not None
        if browser.stdout.readline() == "watching\n":
            submit(stack, "console-later")
            published(stack, "console-later")
            # Without funds no more transactions are mined: the lane gets stuck.
            stack.rpc.call("anvil_setBalance", stack.addresses["hot"], "0x0")
            submit(stack, "console-stuck")
        out, err = browser.communicate(timeout=240)
        assert browser.returncode == 0, out + err


def test_login_lasts_as_long_as_its_session(dev: StartStack, tmp_path: Path) -> None:
    stack = dev("--no-worker")
    pictures = Path(os.environ.get(PICTURES, tmp_path))
    with console(stack, tmp_path, "--token", TOKEN) as url:
        command = ["node", str(HERE / "login.mjs"), url, str(pictures), TOKEN]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_console_is_read_only_and_checks_host_and_token(dev: StartStack, tmp_path: Path) -> None:
    stack = dev("--no-worker")
    with console(stack, tmp_path) as url:
        code, page, headers = ask(url, "/")
        assert code == 200 and "<title>Signpost console</title>" in page
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        code, snapshot, _ = ask(url, "/api/snapshot")
        assert code == 200 and [account["name"] for account in json.loads(snapshot)["accounts"]] == ["hot"]
        for method in ("POST", "PUT", "DELETE"):
            assert ask(url, "/api/snapshot", method)[0] == 405
        assert ask(url, "/", Host="rebound.example")[0] == 421
        assert ask(url, "/api/requests/nobody")[0] == 404
    with console(stack, tmp_path, "--token", TOKEN) as url:
        for path in ("/", "/api/snapshot", "/api/live", "/api/search?q=x", "/console.js"):
            assert ask(url, path)[0] == 401, path
            assert ask(url, path, Authorization="Bearer " + TOKEN[:-1])[0] == 401, path
        assert ask(url, "/api/snapshot", Authorization="Bearer " + TOKEN)[0] == 200
        code, _, headers = ask(url, "/login", "POST", f"token={TOKEN}")
        assert code == 303 and "HttpOnly; SameSite=Strict" in headers["set-cookie"]
        assert "Max-Age=" in headers["set-cookie"] and TOKEN not in headers["set-cookie"]
        assert ask(url, "/", Cookie=headers["set-cookie"].split(";")[0])[0] == 200
        assert ask(url, "/", Cookie=f"signpost_console={TOKEN}")[0] == 401
    for options in (["--listen", "0.0.0.0:0"], ["--listen", "127.0.0.1:0", "--behind-tls"]):
        refused = run("console", *options, "--config", str(stack.config_file))
        assert refused.code == 2 and "--token" in refused.err


def test_token_guesses_are_rate_limited_and_logged(dev: StartStack, tmp_path: Path) -> None:
    stack = dev("--no-worker")
    with console(stack, tmp_path, "--token", TOKEN, "--behind-tls") as url:
        code, _, headers = ask(url, "/login", "POST", f"token={TOKEN}")
        assert code == 303 and headers["set-cookie"].startswith("__Host-signpost_console=")
        assert headers["set-cookie"].endswith("; Secure")
        session = headers["set-cookie"].split(";")[0]
        code, page, _ = ask(url, "/login", "POST", "token=wrong", X_Forwarded_For="10.1.1.1, 10.2.2.2")
        assert code == 401 and "The token is wrong" in page and 'name="token"' in page
        for _ in range(9):
            assert ask(url, "/api/snapshot", Authorization="Bearer wrong")[0] == 401
        for tried in (ask(url, "/login", "POST", f"token={TOKEN}"), ask(url, "/", Authorization=f"Bearer {TOKEN}")):
            code, page, headers = tried
            assert code == 429 and 1 <= int(headers["retry-after"]) <= 61 and "Too many wrong tokens" in page
        assert ask(url, "/api/snapshot", Cookie=session)[0] == 200, "a session stays valid"
        logged = [line for line in (tmp_path / "console.err").read_text().splitlines() if "login refused" in line]
        assert len(logged) == 10, logged
        assert "from 10.2.2.2 via 127.0.0.1" in logged[0] and "from 127.0.0.1" in logged[1], logged
        assert TOKEN not in "".join(logged) and "wrong token" in logged[0]
