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
from typing import Any


class StubModels:
    """The server. `results` has the results of commands that agents report.

    `asked_at` and `reported_at` are the times of the latest command and result (`time.monotonic`).
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.results: list[str] = []
        self.asked_at = self.reported_at = 0.0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                path = self.path.partition("?")[0]
                if path.endswith("/count_tokens"):
                    self.answer("application/json", b'{"input_tokens": 10}')
                elif path.endswith("/messages"):
                    self.answer("text/event-stream", events(stub.message(asked)))
                elif path.endswith("/responses"):
                    self.answer("text/event-stream", events(stub.response(asked)))
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

    def message(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of an Anthropic message."""
        last = asked["messages"][-1]["content"] if asked.get("messages") else ""
        parts = last if isinstance(last, list) else []
        results = [part for part in parts if part.get("type") == "tool_result"]
        if results:
            self.reported_at = time.monotonic()
        self.results += [json.dumps(part.get("content")) for part in results]
        usage = {"input_tokens": 10, "output_tokens": 5}
        begun = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked.get("model"), "content": []}
        start = {
            "type": "message_start",
            "message": begun | {"stop_reason": None, "stop_sequence": None, "usage": usage},
        }
        tools = {tool.get("name") for tool in asked.get("tools") or ()}
        if "Bash" in tools and not results:
            self.asked_at = time.monotonic()
            said = {"command": self.command, "description": "Runs it"}
            block = {"type": "tool_use", "id": f"toolu_{id(asked):x}", "name": "Bash", "input": {}}
            delta, reason = {"type": "input_json_delta", "partial_json": json.dumps(said)}, "tool_use"
        else:
            block, reason = {"type": "text", "text": ""}, "end_turn"
            delta = {"type": "text_delta", "text": "It is done."}
        return [
            start,
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ]

    def response(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of an OpenAI response."""
        results = [item for item in asked.get("input") or () if str(item.get("type", "")).endswith("call_output")]
        self.results += [json.dumps(item.get("output")) for item in results]
        names = {tool.get("name") or tool.get("type") for tool in asked.get("tools") or ()}
        if results or not names & {"exec_command", "shell", "shell_command"}:
            content = [{"type": "output_text", "text": "It is done.", "annotations": []}]
            item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
        else:
            name = next(name for name in ("exec_command", "shell_command", "shell") if name in names)
            said: dict[str, Any] = {"sandbox_permissions": "require_escalated", "justification": "May I make the file?"}
            said |= {"cmd": self.command} if name == "exec_command" else {"command": self.command}
            call = {"call_id": f"call_{id(asked):x}", "name": name, "arguments": json.dumps(said)}
            item = {"type": "function_call", "id": "f1", "status": "completed", **call}
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        whole = {"id": "r1", "object": "response", "status": "completed", "output": [item], "usage": usage}
        return [
            {"type": "response.created", "response": {"id": "r1", "object": "response", "status": "in_progress"}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]


def events(said: list[dict[str, Any]]) -> bytes:
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in said).encode()


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
