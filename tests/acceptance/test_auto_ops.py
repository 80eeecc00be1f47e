"""examples/auto_ops: three agents handle alerts of a real Alertmanager in their threads, each once. About 20 s."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from spanpost.http.tokens import hash_of, new_token
from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.testing.fake_slack import FakeSlack
from tests.acceptance.prometheus import run_alertmanager
from tests.conftest import ROOT
from tests.eventually import eventually_async

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    pytest.mark.needs("postgres", "alertmanager"),
]
#: Alice decides; the example only reads.
ALICE, READS = new_token(), new_token()
EXAMPLE = ROOT / "examples" / "auto_ops"


class OnCall:
    """A gateway with an Alertmanager in front of it and a Slack behind, and the processes beside them."""

    def __init__(self, gateway: Gateway, slack: FakeSlack, alertmanager: str, dsn: str, directory: Path) -> None:
        self.gateway, self.slack, self.dsn, self.directory = gateway, slack, dsn, directory
        self._alertmanager = alertmanager
        self.processes: list[subprocess.Popen[str]] = []

    async def alert(self, name: str, *, is_over: bool = False) -> None:
        """Send Alertmanager an alert, and wait until its message is posted."""
        now = datetime.now(UTC)
        said: dict[str, Any] = {
            "startsAt": (now - timedelta(minutes=1)).isoformat(),
            "labels": {"alertname": name, "severity": "critical"},
            "annotations": {"summary": "db1 is full", "runbook_url": "https://example.org/runbooks/disk"},
        }
        if is_over:
            said["endsAt"] = now.isoformat()
        await self.send(f"http://{self._alertmanager}/api/v2/alerts", [said])
        await eventually_async(
            lambda: any(("Resolved" if is_over else "Critical") + f" · {name}" in m["text"] for m in self.top())
        )

    @staticmethod
    async def send(url: str, body: Any) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {ALICE}"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).close())

    async def ask(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.gateway.http_url}{path}", headers={"authorization": f"Bearer {READS}"})

        def get() -> Any:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        return await asyncio.to_thread(get)

    def run(self, *options: str) -> subprocess.Popen[str]:
        """Start the example, with its scripted model."""
        kept = {
            name: value for name, value in os.environ.items() if not name.upper().startswith(("SPANPOST_", "OTEL_"))
        }
        kept |= {
            "PYTHONPATH": str(ROOT / "src"),
            "SPANPOST_URL": self.gateway.http_url,
            "SPANPOST_TOKEN": READS,
            "DATABASE_URL": self.dsn,
        }
        command = [sys.executable, str(EXAMPLE / "auto_ops.py"), "--stub", "--actions", str(self.actions), *options]
        pipe = subprocess.PIPE
        self.processes.append(
            subprocess.Popen(command, cwd=self.directory, env=kept, stdout=pipe, stderr=pipe, text=True)
        )
        return self.processes[-1]

    async def ended(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """Wait until it has ended with 0; return its output and its log."""
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, err
        return out, err

    @property
    def actions(self) -> Path:
        """Return actions that leave a line in a file."""
        path = self.directory / "actions.toml"
        command = 'echo "$AUTO_OPS_ALERT" >> acted; echo freed 21 GB'
        path.write_text(
            "[restart]\nsays = 'Restart'\nrun = ['false']\n[clean-up]\nsays = 'Delete old logs'\n"
            f"run = ['sh', '-c', '{command}']\n"
        )
        return path

    @property
    def acted(self) -> list[str]:
        path = self.directory / "acted"
        return path.read_text().splitlines() if path.exists() else []

    async def row(self, name: str, such: str) -> None:
        """Wait until the watermark's row of an alert meets the condition."""
        query = f"SELECT 1 FROM auto_ops o JOIN agent_tasks t ON t.task_id = o.alert WHERE t.name = '{name}' AND {such}"
        await eventually_async(lambda: self.rows(query))

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def top(self) -> list[dict[str, Any]]:
        return self.slack.workspace.channel("agents").top()

    def thread(self, name: str) -> str:
        """Return all texts in the thread of an alert's message."""
        [root] = [m for m in self.top() if name in m["text"]]
        return json.dumps([root, *self.slack.workspace.channel("agents").replies(root["ts"])], default=str)

    async def question(self) -> dict[str, Any]:
        """Wait until there is one open question, and for its task, which the batch with the question precedes."""

        async def find_alert() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await self.ask("/api/approvals?state=open"))["items"]
            return found

        [one] = await eventually_async(find_alert, lambda found: found and found[0]["agent_name"] is not None)
        return dict(one)

    async def decide(self, question: dict[str, Any], decision: str) -> None:
        await self.send(f"{self.gateway.http_url}/api/approvals/{question['key']}/decision", {"decision": decision})


@asynccontextmanager
async def on_call(dsn: str, directory: Path) -> AsyncIterator[OnCall]:
    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(FakeSlack())
        settings = load(
            database={"url": dsn}, slack={"token": slack.token, "base_url": slack.url, "channel": "#agents"},
            gateway={"http_port": 0, "grpc_port": -1}, metrics={"enabled": False},
            interactions={"tokens": [
                {"name": "alice", "sha256": [hash_of(ALICE)], "roles": ["approver"]},
                {"name": "auto_ops", "sha256": [hash_of(READS)], "roles": ["viewer"]},
            ]},
        )  # fmt: skip
        gateway = Gateway(settings)
        await asyncio.to_thread(gateway.start)
        try:
            hook = {"url": f"{gateway.http_url}/alerts/alertmanager", "send_resolved": True}
            route = {"receiver": "spanpost", "group_wait": "0s", "group_interval": "1s", "group_by": ["..."]}
            config = {"route": route, "receivers": [{"name": "spanpost", "webhook_configs": [hook]}]}
            alertmanager = stack.enter_context(run_alertmanager(directory, yaml.safe_dump(config)))
            opened = OnCall(gateway, slack, alertmanager, dsn, directory)
            try:
                yield opened
            finally:
                for process in opened.processes:
                    if process.poll() is None:
                        process.kill()
                    process.communicate()
        finally:
            await asyncio.to_thread(gateway.stop)


async def test_an_alert_is_handled_in_its_thread_once(dsn: str, tmp_path: Path) -> None:
    """The alert's thread shows verdict, plans, reviews and question, and the approved command runs once.

    A dry run shows what the agents would say and does nothing. After a kill during the question the next process
    continues under the same question. Two processes at once run the command once. After the alert is over nothing
    runs, whether approved or not.
    """
    async with on_call(dsn, tmp_path) as there:
        await there.alert("DiskFull")
        out, _ = await there.ended(there.run("--dry-run"))
        first, *thread = out.splitlines()
        assert re.fullmatch(r"alert-\w+-\d+  [-\d]+ [:\d]+  DiskFull: db1 is full", first)
        assert [text.strip().split(":")[0] for text in thread] == [
            "Verdict", "Causes", "Diagnostics", "Plan 1", "Review 1", "Plan 2", "Review 2", "Question", "Runs",
        ]  # fmt: skip
        assert not any("old logs fill the disk" in json.dumps(message) for message in there.top())
        assert await there.rows("SELECT to_regclass('auto_ops')") == [(None,)]

        killed = there.run("--once")
        asked = await there.question()
        assert (asked["question"], asked["agent_name"]) == ("Delete old logs, because of DiskFull?", "fix")
        assert "old logs fill the disk" in asked["detail"]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        left = (
            "INSERT INTO auto_ops (alert, fired_at, taken_at) "
            "VALUES ('gone', now() - interval '3h', now() - interval '2h')"
        )
        await there.rows(left)

        daemon = there.run("--every", "0.5")
        await there.row("DiskFull", "tries = 2")
        await there.ended(there.run("--once", "--since", "2h"))  # the daemon works on it
        assert (await there.question())["key"] == asked["key"]
        assert there.acted == []
        await there.decide(asked, "approve")
        await there.row("DiskFull", "outcome = 'done' AND tries = 2")
        assert there.acted == ["DiskFull: db1 is full"]

        await there.alert("Slow")
        asked = await there.question()
        await there.alert("Slow", is_over=True)
        await there.decide(asked, "approve")
        await there.row("Slow", "outcome = 'the alert was over'")
        daemon.terminate()
        await there.ended(daemon)
        assert await there.rows("SELECT outcome FROM auto_ops WHERE alert = 'gone'") == [("over before it was done",)]
        assert (await there.ended(there.run("--dry-run")))[0] == ""
        assert there.acted == ["DiskFull: db1 is full"]

        said = (
            "DiskFull: old logs fill the disk",
            "Restart the service (restart)",
            "refused: A restart frees nothing",
            "Delete what is older than a week, and leave the service alone (clean-up)",
            "accepted: It removes the cause",
            "Delete old logs, because of DiskFull?",
            "Approved",
            "freed 21 GB",
        )
        missing = lambda: [one for one in said if one not in there.thread("DiskFull")]  # noqa: E731
        await eventually_async(missing, lambda left: not left)
        assert len(there.top()) == 2


async def test_after_three_refusals_a_person_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that review refuses are neither asked about nor run; after three it ends."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    agents = importlib.import_module("agents")
    asked: list[str] = []
    facts_of: list[dict[str, Any]] = []

    class Refuses:
        async def ask(self, role: str, facts: dict[str, Any], *wanted: str, maybe: str = "") -> dict[str, str]:
            asked.append(role)
            facts_of.append(facts["alert"])
            return {
                "causes": "none",
                "diagnostics": "none",
                "validation": "none",
                "verdict": "accept, but",
                "plan": f"plan with {len(facts.get('objections', ()))}",
                "action": "restart",
                "why": "no",
            }

    async def never() -> bool:
        raise AssertionError

    alert = agents.Alert("a", "DiskFull", "", f"00-{1:032x}-{1:016x}-01")
    actions = {"restart": agents.Action("restart", "Restart", ("false",))}
    outcome = await agents.handle(alert, Refuses(), actions, wait=1, is_over=never, acting=never)
    assert outcome == "no plan was accepted"
    assert asked == [agents.ANALYSIS, *[agents.FIX, agents.REVIEW] * 3]
    asked.clear()
    said = await agents.rehearse(alert, Refuses(), actions, rounds=1)
    assert said[-1] == "No plan was accepted in 1 rounds: a person is needed"
    assert asked == [agents.ANALYSIS, agents.FIX, agents.REVIEW]
    assert facts_of[-1] == {"name": "DiskFull"}


async def test_a_patch_is_shown_and_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan may have a patch, which stands in the thread and in the facts of the review; most plans have none."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    agents, models = (importlib.import_module(name) for name in ("agents", "model"))
    reviewed: list[dict[str, Any]] = []
    patch = "--- a/x\n+++ b/x"

    class Model(models.Model):  # type: ignore[misc, name-defined]
        def _post(self, asked: dict[str, Any]) -> dict[str, Any]:
            role, facts = asked["messages"][0]["content"], json.loads(asked["messages"][1]["content"])
            said = {"verdict": "accept", "causes": "c", "diagnostics": "d", "why": "good"}
            said |= {"plan": "Rotate", "action": "rotate", "validation": "v"}
            if role.startswith(agents.FIX):
                said["patch"] = given
            if role.startswith(agents.REVIEW):
                reviewed.append(facts)
            return {"choices": [{"message": {"content": json.dumps(said)}}]}

    alert = agents.Alert("a", "DiskFull", "", f"00-{1:032x}-{1:016x}-01")
    actions = {"rotate": agents.Action("rotate", "Rotate the logs", ("false",))}
    for given in (patch, " "):
        said = await agents.rehearse(alert, Model("http://model/v1", "m"), actions)
        shown = [line for line in said if patch in line]
        assert shown == (["Proposed patch, which is not applied:\n" + patch] if given == patch else [])
    assert [facts.get("patch") for facts in reviewed] == [patch, None]


def test_every_option_has_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each option can come from the environment, is named in the help and in the README, and is checked there, too."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    read = importlib.import_module("command_options").read
    actions = tmp_path / "mine.toml"
    actions.write_text('[mine]\nsays = "Do it"\nrun = ["true"]\n')
    given = {
        "AUTO_OPS_ONCE": "1", "AUTO_OPS_DRY_RUN": "true", "AUTO_OPS_SINCE": "2026-03-01T12:00Z", "AUTO_OPS_WAIT": "7",
        "AUTO_OPS_ACTIONS": str(actions), "AUTO_OPS_STUB": "yes", "POLL_INTERVAL": "3", "MAX_ITERATIONS": "2",
        "REPOSITORY_ROOT": str(tmp_path), "RUNBOOKS": str(tmp_path), "LOG_LEVEL": "debug", "SPANPOST_URL": "http://g:1",
        "DATABASE_URL": "postgresql://x",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = vars(read([]))
    assert (found["once"], found["dry_run"], found["stub"], found["wait"], found["every"]) == (True, True, True, 7, 3)
    assert (found["since"].year, [*found["actions"]], found["rounds"]) == (2026, ["mine"], 2)
    readme, source = (EXAMPLE / "README.md").read_text(), (EXAMPLE / "command_options.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', source))
    assert {f"--{name.replace('_', '-')}" for name in found if name != "token"} == options
    assert len(options) == len(given)
    for option in options:
        assert option in readme, option
    for name in given:
        assert name in readme, name
    monkeypatch.setenv("AUTO_OPS_WAIT", "soon")
    with pytest.raises(SystemExit):
        read([])


def test_models_receive_the_runbook_and_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The text of a runbook is found by the last part of its link, and nothing outside the directory is read."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    agents, program = (importlib.import_module(name) for name in ("agents", "auto_ops"))
    books = tmp_path / "books"
    books.mkdir()
    (books / "disk.md").write_text("Free some space.")
    (tmp_path / "secret.md").write_text("canary")
    hints = program.Hints(books, tmp_path)

    def fields_of(url: str) -> dict[str, Any]:
        alert = agents.Alert("a", "DiskFull", "", "", description="db1", labels={"host": "db1"}, runbook_url=url)
        return dict(hints.with_hints(alert).fields())

    found = fields_of("https://example.org/runbooks/disk?x=1")
    assert (found["runbook"], found["repository"]) == ("Free some space.", ["books", "secret.md"])
    assert (found["description"], found["labels"]) == ("db1", {"host": "db1"})
    for url in ("https://example.org/../secret", "https://example.org/..%2Fsecret", "", "https://example.org/none"):
        assert "runbook" not in fields_of(url)
    options = ["--database", "postgresql://x", "--rounds", "2", "--repository", str(tmp_path), "--log-level", "debug"]
    monkeypatch.setenv("MAX_ITERATIONS", "7")
    assert (program.read(options).rounds, program.read(options[:2]).rounds) == (2, 7)
    monkeypatch.setenv("MAX_ITERATIONS", "many")
    with pytest.raises(SystemExit):
        program.read(options[:2])
