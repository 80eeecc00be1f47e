"""Agents that ask a person: one sends OTLP records in JSON, one waits through `spanpost.agent.control`."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.acceptance.gateway_process import request
from tests.conftest import ROOT


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


class AskingAgent:
    """One task, reported to a gateway. `url` is the gateway's address."""

    def __init__(self, url: str, name: str = "Deploy the shop", token: str = "", **attributes: Any) -> None:
        self.url, self.name, self.token = url, name, token
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self._began = time.time_ns()
        self._attributes = {"agent.task.name": name, "agent.task.id": self.trace[:8], **attributes}

    def _send(self, signal: str, body: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        status, said = request(
            f"{self.url}/v1/{signal}", json.dumps(body).encode(), **{"content-type": "application/json"}, **headers
        )
        assert status == 200, said

    def tell(self, event: str, **attributes: Any) -> None:
        """Send a record of a current event."""
        record = {"timeUnixNano": str(time.time_ns()), "eventName": event, "traceId": self.trace, "spanId": self.span}
        record["attributes"] = [
            {"key": key.replace("__", "."), "value": _value(value)} for key, value in attributes.items()
        ]
        self._send("logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})

    def start(self) -> AskingAgent:
        """Report the start of the task."""
        fields = {key.replace(".", "__"): value for key, value in self._attributes.items()}
        began = {"span__name": "deploy", "span__start_unix_nano": str(self._began)}
        self.tell("agent.span.started", **fields, **began)
        return self

    def ask(self, question: str, approval_id: str = "go", **more: Any) -> AskingAgent:
        """Ask a person."""
        fields = {f"agent__approval__{key}": value for key, value in more.items()}
        self.tell(
            "agent.approval.requested", agent__approval__id=approval_id, agent__approval__question=question, **fields
        )
        return self


_WAITING = """
import sys, spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import approval_sync
spanpost.attach(endpoint=sys.argv[1])
with agent_task("Deploy the shop", agent="deployer"):
    decision = approval_sync("Shall I deploy?", id="go")
    print(decision.decision, decision.by, flush=True)
spanpost.flush(10)
"""


class WaitingAgent:
    """An agent in a process of its own that asks, waits for a person, and goes on.

    `url` takes its telemetry, and answers it where `control` is empty.
    """

    def __init__(self, url: str, directory: Path, control: str = "") -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.upper().startswith(("SPANPOST_", "OTEL_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WAITING, url],
            cwd=directory,
            env={
                **kept,
                "PYTHONPATH": str(ROOT / "src"),
                "SPANPOST_CONTROL__ENDPOINT": control or url,
                "SPANPOST_CONFIG": "",
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    def goes_on(self) -> str:
        """Wait until it has received the decision and ended; return what it received."""
        said, _ = self.process.communicate(timeout=90)
        assert self.process.returncode == 0
        return said.strip()

    def kill(self) -> None:
        """Kill the process at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
