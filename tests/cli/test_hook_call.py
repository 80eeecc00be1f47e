"""`spanpost hook <agent>` as a process: whatever goes wrong, it has no opinion, and never hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

ALLOW = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": {"behavior": "allow"}}}


class Gateway:
    """A server that answers every request in one way, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(ALLOW).encode()
        self.asked: list[tuple[str, str, bytes]] = []
        self.began, self.goes_on = threading.Event(), threading.Event()
        self.goes_on.set()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                gateway.asked.append((self.path, self.headers.get("authorization", ""), body))
                gateway.began.set()
                gateway.goes_on.wait(60)
                self.send_response(gateway.status)
                self.send_header("content-length", str(len(gateway.body)))
                self.end_headers()
                self.wfile.write(gateway.body)

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.goes_on.set()
    made.server.shutdown()
    made.server.server_close()


def begin(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "spanpost", "hook", *arguments]
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(*arguments: str, event: bytes = b"{}", **environment: str) -> tuple[int, Any, str]:
    """Return exit code, answer and complaint of a call."""
    process = begin(*arguments, **environment)
    out, err = process.communicate(event, timeout=60)
    return process.returncode, json.loads(out), err.decode()


@pytest.mark.slow
def test_the_gateways_answer_is_printed(gateway: Gateway) -> None:
    """The event goes to the gateway with the token and the wait, and its answer is printed."""
    environment = {"SPANPOST_CONTROL__ENDPOINT": gateway.url, "SPANPOST_CONTROL__TOKEN": "spt_x"}
    assert run("codex", "--wait", "7", event=b'{"a": 1}', **environment) == (0, ALLOW, "")
    assert gateway.asked == [("/control/v1/hooks/codex?wait=7", "Bearer spt_x", b'{"a": 1}')]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (404, b"nothing"), (200, b"no JSON"), (200, b"[]"), (200, b'"allow"'), (401, b'{"message": "no"}')],
)
def test_no_other_answer_is_an_opinion(gateway: Gateway, status: int, body: bytes) -> None:
    """An error, and a body that is no answer, are no opinion; the process exits 0 and says why."""
    gateway.status, gateway.body = status, body
    code, answer, said = run("claude-code", SPANPOST_CONTROL__ENDPOINT=gateway.url)
    assert (code, answer) == (0, {})
    assert said.startswith("spanpost: no opinion: ")


@pytest.mark.slow
def test_without_a_gateway_there_is_no_opinion() -> None:
    """No address, a wrong one, one where nothing listens, and wrong options are no opinion."""
    closed = "http://127.0.0.1:1"
    for arguments, environment in (
        ((), {}),
        ((), {"SPANPOST_CONTROL__ENDPOINT": closed}),
        (("--url", "file:///etc/passwd"), {}),
        (("--wait", "nan"), {"SPANPOST_CONTROL__ENDPOINT": closed}),
        (("--unknown", "1"), {"SPANPOST_CONTROL__ENDPOINT": closed}),
        ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}),
    ):
        code, answer, said = run("codex", *arguments, **environment)
        assert (code, answer, said.count("\n")) == (0, {}, 1)
    code, answer, _ = run("codex", event=b"x" * (1024 * 1024 + 1), SPANPOST_CONTROL__ENDPOINT=closed)
    assert (code, answer) == (0, {})


def test_it_ends_at_once_on_sigterm(gateway: Gateway) -> None:
    """SIGTERM ends a call that waits, without an answer."""
    gateway.goes_on.clear()
    process = begin("codex", SPANPOST_CONTROL__ENDPOINT=gateway.url)
    assert process.stdin is not None
    process.stdin.write(b"{}")
    process.stdin.close()
    assert gateway.began.wait(60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    assert process.stdout is not None
    assert process.stdout.read() == b""


def test_it_imports_little() -> None:
    """A call of a hook imports nothing but the standard library and spanpost's protocol: it runs for every prompt."""
    check = (
        "import sys, spanpost.cli, spanpost.cli.hook_call; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.split()
    assert not {"typer", "pydantic", "opentelemetry", "msgspec", "asyncio", "starlette"} & set(out)


def test_a_start_makes_no_garbage() -> None:
    """While the commands are loaded the collector visits what was made a few times, and not hundreds of times."""
    check = (
        "import atexit, gc, sys, spanpost.cli\n"
        "seen = []\n"
        "gc.callbacks.append(lambda phase, _: seen.append(phase))\n"
        "atexit.register(lambda: print(seen.count('start')))\n"
        "sys.argv = ['spanpost', '--version']\n"
        "spanpost.cli.main()\n"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert int(out.split()[-1]) < 20, out
