"""`spanpost emit approval --wait` in bash and sh, with a gateway and PostgreSQL: no answer is never a yes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from spanpost.http.tokens import hash_of
from tests.acceptance.gateways import Gateway
from tests.conftest import ROOT, find, fresh_database
from tests.eventually import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("postgres", "bash")]

SETTINGS = f"""
[[interactions.tokens]]
name = "ada"
sha256 = ["{hash_of("spt_ada")}"]
roles = ["approver", "viewer"]
"""


class Shell:
    """A gateway, and a directory with the command `spanpost`."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self.gateway, self.directory = gateway, directory
        (directory / "spanpost").write_text(f'#!/bin/sh\nexec {sys.executable} -m spanpost "$@"\n')
        (directory / "spanpost").chmod(0o755)
        self._client = httpx.Client(base_url=gateway.url, headers={"authorization": "Bearer spt_ada"}, timeout=60)

    def start(self, shell: str, script: str) -> subprocess.Popen[str]:
        """Run a script whose task has begun."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_"))}
        path = f"{self.directory}:{kept['PATH']}"
        more = {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "SPANPOST_FORWARD__ENDPOINT": self.gateway.url}
        begun = "eval \"$(spanpost emit start 'Deploy the shop')\"\n"
        return subprocess.Popen(
            [find("bash") if shell == "bash" else "/bin/sh", "-c", begun + script],
            env=kept | more,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def open(self, id: str) -> dict[str, Any]:
        """Wait for an open question."""

        def asked() -> list[dict[str, Any]]:
            try:
                items = self._client.get("/api/approvals", params={"state": "open", "limit": 200}).json()["items"]
            except (httpx.HTTPError, KeyError):
                return []
            return [one for one in items if one["id"] == id]

        return eventually(asked, bool)[0]

    def decide(self, id: str, decision: str, comment: str = "") -> None:
        """Answer a question as soon as it is open."""
        body = {"decision": decision, "comment": comment}
        self._client.post(f"/api/approvals/{self.open(id)['key']}/decision", json=body).raise_for_status()


@pytest.fixture(scope="module")
def shell(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One gateway for all tests; each has questions of its own."""
    gateway_directory, directory = tmp_path_factory.mktemp("gateway"), tmp_path_factory.mktemp("scripts")
    (gateway_directory / "spanpost.toml").write_text(SETTINGS)
    with fresh_database(server) as dsn:
        gateway = Gateway(dsn, gateway_directory)
        try:
            yield Shell(gateway, directory)
        finally:
            gateway.stop()


def in_background(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work)
    thread.start()
    return thread


ASKED = """
ask() { if answer=$(spanpost emit approval "$@" --wait); then echo "0 [$answer]"; else echo "$? [$answer]"; fi; }
"""


def test_a_script_goes_on_only_if_a_person_approved(shell: Shell) -> None:
    """In bash approve is 0, an option is 0 and printed; deny, a deadline, a time-out and no gateway are 1."""
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    script = f"""{ASKED}
ask 'Deploy?' --id approve --timeout 3600
ask 'Deploy?' --id deny
ask 'How?' --id option --option canary --option 'all at once'
ask 'Go?' --id named --option go --option deny
ask 'Deploy?' --id late --timeout 0.5
ask 'Deploy?' --id expired --expires-at {soon}
SPANPOST_FORWARD__ENDPOINT=http://127.0.0.1:9 ask 'Deploy?' --id nowhere
"""
    answers = {"approve": "approve", "deny": "deny", "option": "all at once", "named": "deny"}

    def decide() -> None:
        for id, decision in answers.items():
            shell.decide(id, decision, "as agreed")

    process, person = shell.start("bash", script), in_background(decide)
    out, said = process.communicate(timeout=90)
    person.join()
    assert out.splitlines() == ["0 []", "1 []", "0 [all at once]", "1 []", "1 []", "1 []", "1 []"], said
    assert "approve by ada: as agreed" in said
    assert "not decided in time; the question stays open" in said


def test_sh_goes_on_only_if_a_person_approved(shell: Shell) -> None:
    """The same exit codes reach a POSIX shell."""
    process = shell.start("sh", f"{ASKED}\nask 'Deploy?' --id sh-1\nask 'Deploy?' --id sh-2 --timeout 0.5")
    shell.decide("sh-1", "approve")
    assert process.communicate(timeout=60)[0].splitlines() == ["0 []", "1 []"]


def test_the_answer_is_json(shell: Shell) -> None:
    """With --json the whole answer is printed: who, the comment, and whether it was granted."""
    process = shell.start("sh", "spanpost emit approval 'Deploy?' --id json-1 --detail plan --wait --json")
    shell.decide("json-1", "deny", "not today")
    out, said = process.communicate(timeout=60)
    found = json.loads(out)
    assert process.returncode == 1, said
    assert [found[name] for name in ("decision", "by", "comment", "source", "is_granted")] == [
        "deny", "ada", "not today", "api", False,
    ]  # fmt: skip


def test_it_waits_while_the_gateway_is_away(shell: Shell) -> None:
    """The gateway is killed while a script waits: it waits on, and receives the answer of the next process."""
    process = shell.start("bash", "spanpost emit approval 'Deploy?' --id away-1 --wait && echo deployed")
    shell.open("away-1")
    shell.gateway.kill()
    assert process.poll() is None
    shell.gateway.start()
    shell.decide("away-1", "approve")
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "deployed\n"), said


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_at_once(shell: Shell, sent: signal.Signals, code: int) -> None:
    """SIGINT and SIGTERM end the wait at once, and never with 0."""
    id = f"signal-{sent}"
    process = shell.start("bash", f"exec spanpost emit approval 'Deploy?' --id {id} --wait")
    shell.open(id)
    process.send_signal(sent)
    process.communicate(timeout=60)  # unlike the question, which has no end
    assert process.returncode == code
