"""Asks the resolver about three people, with a small identity provider on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

from spanpost.interactions.protocols import Question
from spanpost.model.interventions import Actor
from spanpost.model.tasks import Task

sys.path.insert(0, str(Path(__file__).parent / "src"))
from spanpost_scim import member

PEOPLE = [
    {"userName": "ada@example.com", "active": True, "groups": [{"display": "on-call"}]},
    {"userName": "bob@example.com", "active": True, "groups": [{"display": "sales"}]},
    {"userName": "eve@example.com", "active": False, "groups": [{"display": "on-call"}]},
]


class Provider(BaseHTTPRequestHandler):
    """``GET /scim/v2/Users?filter=...``."""

    def do_GET(self) -> None:
        """Answer with the people of a filter."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        is_known = self.headers["authorization"] == "Bearer a-token"
        found = [one for one in PEOPLE if f'"{one["userName"]}"' in query["filter"][0]]
        body = json.dumps({"Resources": found}).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


async def ask() -> None:
    """Ask about each person, and about one whose address Slack has not confirmed."""
    task = Task(uid=uuid4(), tenant="default", task_id="deploy-77", name="Deploy")
    for email in [*(str(one["userName"]) for one in PEOPLE), ""]:
        question = Question(action="approve", actor=Actor(provider="slack", id="U1", email=email), task=task)
        answer = await member(question)
        print(f"{email or 'no address'}: {'may approve' if answer.is_allowed else answer.reason}")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "SCIM_URL": f"http://127.0.0.1:{server.server_port}/scim/v2", "SCIM_TOKEN": "a-token", "SCIM_GROUP": "on-call",
    }  # fmt: skip
    asyncio.run(ask())
    server.shutdown()
