"""The genuine Claude Code without a terminal: its run ends at a call, and a decision resumes it.

The model is a stub; the gateway, PostgreSQL and the launcher are what people run. A quarter of a minute;
SPANPOST_TEST_DEFERRED=1 also tries a denial, resuming by hand and a gateway that is away.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spanpost.http.tokens import hash_of
from tests.acceptance.coding_agents import ClaudeCode
from tests.acceptance.gateway_process import request
from tests.acceptance.gateways import Gateway, run_gateway
from tests.acceptance.stub_models import run_stub_models
from tests.eventually import eventually, free_port

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "claude-code")]

PERSON = "spt_person"
IS_WHOLE = bool(os.environ.get("SPANPOST_TEST_DEFERRED"))
#: Allowed by the program's own settings: only the hook holds it back.
ALLOWED = ("--allowedTools", "Bash", "--output-format", "json", "-p")


class Place:
    """A gateway, and Claude Code whose calls of the shell are deferred."""

    def __init__(self, gateway: Gateway, agent: ClaudeCode) -> None:
        self.gateway, self.agent = gateway, agent

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run without a terminal; return what it prints."""
        done = subprocess.run(
            self.agent.command(*ALLOWED, *arguments), env=self.agent.environment, cwd=self.agent.repo, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def decide(self, decision: str) -> None:
        """Decide the one open question by the API."""
        headers = {"authorization": f"Bearer {PERSON}", "content-type": "application/json"}
        [question] = json.loads(request(f"{self.gateway.url}/api/approvals?state=open", None, **headers)[1])["items"]
        url = f"{self.gateway.url}/api/approvals/{question['key']}/decision"
        status, said = request(url, json.dumps({"decision": decision}).encode(), **headers)
        assert status == 200, said

    def runs(self) -> int:
        """Return how often the command ran."""
        return len(self.agent.made.read_text().splitlines()) if self.agent.made.exists() else 0


@contextmanager
def place(dsn: str, directory: Path, *, resumes: bool) -> Iterator[Place]:
    """Run a gateway; `resumes`: a launcher resumes runs."""
    port = free_port()
    with run_stub_models("echo ran >> made.txt") as stub:
        agent = ClaudeCode(directory / "agent", f"http://127.0.0.1:{port}", stub, defers="Bash")
        command = ["/usr/bin/env", "-C", "{parameters.cwd}"]
        command += agent.command("--allowedTools", "Bash", "-p", "--resume", "{parameters.session}")
        variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in agent.environment.items())
        launcher = f"""
[hooks]
resume = "claude"

[launchers.named.claude]
kind = "command"
command = {json.dumps(command)}
environment = {{ {variables} }}
background = true
timeout = 120
retry_uncertain = false
"""
        (directory / "spanpost.toml").write_text(
            f'[[interactions.tokens]]\nname = "alice"\nsha256 = ["{hash_of(PERSON)}"]\nroles = ["approver"]\n'
            + launcher * resumes
        )
        with run_gateway(dsn, directory, http=port) as gateway:
            yield Place(gateway, agent)


@pytest.mark.parametrize("decision", ["approve", "deny"] if IS_WHOLE else ["approve"])
async def test_a_run_waits_without_a_process(decision: str, dsn: str, tmp_path: Path) -> None:
    """The run ends at its call, the gateway is killed and restarted, a person decides, and the launcher resumes it.

    Approved, the command ran once; denied, it did not, and the model gets the reason.
    """
    with place(dsn, tmp_path, resumes=True) as at:
        said = await asyncio.to_thread(at.run, "make the file")
        assert (said["stop_reason"], said["deferred_tool_use"]["name"], at.runs()) == ("tool_deferred", "Bash", 0)
        at.gateway.kill()
        at.gateway.start()
        at.decide(decision)
        [result] = await asyncio.to_thread(eventually, lambda: at.agent.stub.results, bool)
        assert at.runs() == (1 if decision == "approve" else 0)
        assert ("denied by alice" in result) is (decision == "deny")


@pytest.mark.skipif(not IS_WHOLE, reason="SPANPOST_TEST_DEFERRED=1 tries it")
async def test_a_run_is_resumed_by_hand(dsn: str, tmp_path: Path) -> None:
    """Without a launcher a run that is resumed too early ends at the same call; a gateway that is away refuses it."""
    with place(dsn, tmp_path, resumes=False) as at:
        session = (await asyncio.to_thread(at.run, "make the file"))["session_id"]
        early = await asyncio.to_thread(at.run, "--resume", session)
        assert (early["stop_reason"], early["session_id"], at.runs()) == ("tool_deferred", session, 0)
        at.decide("approve")
        late = await asyncio.to_thread(at.run, "--resume", session)
        assert (late["stop_reason"], at.runs()) == ("end_turn", 1)
        at.gateway.kill()
        at.agent.stub.results.clear()
        await asyncio.to_thread(at.run, "make it again")
        assert at.runs() == 1
        assert at.agent.stub.results
