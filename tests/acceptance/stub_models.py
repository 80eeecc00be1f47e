"""A stub of two model services: each conversation asks for one shell command, then says that it is done.

It answers Anthropic's messages and OpenAI's responses, as events.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from tests.recorders import wire_forms

_DONE = "It is done."
_USED = {"input_total": 10, "cached_read": 0, "output": 5}


class StubModels:
    """The server. `results` has the results of commands that agents report.

    `asked_at` and `reported_at` are the times of the latest command and result (`time.monotonic`).
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.results: list[str] = []
        self.asked_at = self.reported_at = 0.0
        self._numbers = count(1)
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                path = self.path.partition("?")[0]
                if path.endswith("/count_tokens"):
                    self.answer("application/json", b'{"input_tokens": 10}')
                elif path.endswith("/messages"):
                    self.answer(*wire_forms.body("messages", stub.message(asked), is_stream=True))
                elif path.endswith("/responses"):
                    self.answer(*wire_forms.body("responses", stub.response(asked), is_stream=True))
                else:
                    self.answer("application/json", b"{}")

            def do_GET(self) -> None:
                self.answer("application/json", b'{"models": [], "data": []}')

            def do_HEAD(self) -> None:
                self.answer("application/json", b"")

            def answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def message(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return an Anthropic message."""
        last = asked["messages"][-1]["content"] if asked.get("messages") else ""
        parts = last if isinstance(last, list) else []
        results = [part for part in parts if part.get("type") == "tool_result"]
        if results:
            self.reported_at = time.monotonic()
        self.results += [json.dumps(part.get("content")) for part in results]
        tools: wire_forms.Tools = []
        if "Bash" in {tool.get("name") for tool in asked.get("tools") or ()} and not results:
            self.asked_at = time.monotonic()
            tools = [("Bash", {"command": self.command, "description": "Runs it"})]
        return wire_forms.message(next(self._numbers), asked.get("model", ""), _DONE, tools, _USED)

    def response(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return an OpenAI response."""
        results = [item for item in asked.get("input") or () if str(item.get("type", "")).endswith("call_output")]
        self.results += [json.dumps(item.get("output")) for item in results]
        names = {tool.get("name") or tool.get("type") for tool in asked.get("tools") or ()}
        tools: wire_forms.Tools = []
        if not results and names & {"exec_command", "shell", "shell_command"}:
            name = next(name for name in ("exec_command", "shell_command", "shell") if name in names)
            said: dict[str, Any] = {"sandbox_permissions": "require_escalated", "justification": "May I make the file?"}
            tools = [(name, said | {"cmd" if name == "exec_command" else "command": self.command})]
        return wire_forms.response(next(self._numbers), asked.get("model", ""), _DONE, tools, _USED)


@contextmanager
def run_stub_models(command: str) -> Iterator[StubModels]:
    """Run the server."""
    stub = StubModels(command)
    threading.Thread(target=stub.server.serve_forever, daemon=True).start()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        stub.server.server_close()
