"""A scripted model: an OpenAI-compatible endpoint with fixed answers.

``python stub_model.py`` serves port 8765.

Its review refuses the first plan and accepts the second, so that there is a second round.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def answer(role: str, facts: dict[str, Any]) -> dict[str, str]:
    """Return the answer of the agent with that role; the same for the same question."""
    alert = facts.get("alert", {}).get("name", "alert")
    if role == "analysis":
        return {
            "verdict": f"{alert}: old logs fill the disk; the service itself is well",
            "causes": "a rotation that no longer runs, or a log level that was raised",
            "diagnostics": "df -h, and du -sh /var/log/*",
        }
    if role == "fix":
        actions = list(facts["actions"])
        if not facts["objections"]:
            return {"plan": "Restart the service", "action": actions[0], "validation": "The alert ends"}
        plan = "Delete what is older than a week, and leave the service alone"
        return {"plan": plan, "action": actions[-1], "validation": "The disk has a fifth of its space free"}
    if "Restart" in facts["plan"]:
        return {"verdict": "refuse", "why": "A restart frees nothing"}
    return {"verdict": "accept", "why": "It removes the cause and can be repeated"}


class Handler(BaseHTTPRequestHandler):
    """``POST /v1/chat/completions``."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a chat."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        system, user = (message["content"] for message in asked["messages"])
        text = json.dumps(answer(system.split()[3].lower(), json.loads(user)))
        used = {"prompt_tokens": len((system + user).split()), "completion_tokens": len(text.split())}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        body = json.dumps({"id": "chatcmpl-stub", "model": asked["model"], "choices": [choice], "usage": used}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """Serve in a thread; yield the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serving(8765) as endpoint:
        print(f"OPENAI_BASE_URL={endpoint}", flush=True)
        threading.Event().wait()
