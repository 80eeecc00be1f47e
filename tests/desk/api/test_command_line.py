"""The command line asks a gateway as it asks the database: tasks, approvals, watch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.desk.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres"), pytest.mark.timeout(180)]


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SPANPOST_", "OTEL_")) and name != "DATABASE_URL"
    }
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def run(directory: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "spanpost", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment(**more), capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout, done.stderr


def test_tasks_of_a_gateway_and_of_its_database(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """Both list the same tasks for the same filters; a gateway's refusal is told with what to set, and never the token."""
    for n in range(3):
        served.task(f"listed {n}", agent__topic="listing")
    asked = ("tasks", "--topic", "listing", "--search", "LISTED", "--since", "1d", "--roots", "--status", "starting", "--json")
    at_gateway = run(tmp_path, *asked, SPANPOST_URL=served.url, SPANPOST_TOKEN="spt_viewer")
    in_database = run(tmp_path, *asked, DATABASE_URL=api_dsn)
    names = [[task["name"] for task in json.loads(told[1])["tasks"]] for told in (at_gateway, in_database)]
    assert names[0] == names[1]
    assert sorted(names[0]) == ["listed 0", "listed 1", "listed 2"]
    table = run(tmp_path, "tasks", "--url", served.url, "--topic", "listing", SPANPOST_TOKEN="spt_viewer")
    assert "listed 1" in table[1]
    code, told, why = run(tmp_path, "tasks", "--url", served.url, SPANPOST_TOKEN="spt_wrong")
    assert (code, told) == (1, "")
    assert "SPANPOST_TOKEN" in why
    assert "spt_wrong" not in why


def test_approvals_are_listed_and_answered(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """At a gateway its rules hold and the name is the token's; in the database a name must be said; the first decision stands."""
    served.question("cli-1")
    served.question("cli-2")
    code, _, why = run(tmp_path, "approvals", "approve", "cli-1", "--url", served.url, SPANPOST_TOKEN="spt_viewer")
    assert (code, "may not approve" in why) == (1, True)
    code, told, _ = run(tmp_path, "approvals", "approve", "cli-1", "--url", served.url, "--json", SPANPOST_TOKEN="spt_approver")
    assert (code, json.loads(told)["by"]) == (0, "approver")
    code, _, why = run(tmp_path, "approvals", "deny", "cli-2", DATABASE_URL=api_dsn)
    assert (code, "--as" in why) == (2, True)
    assert run(tmp_path, "approvals", "deny", "cli-2", "--as", "alice", DATABASE_URL=api_dsn)[0] == 0
    code, _, why = run(tmp_path, "approvals", "approve", "cli-2", "--url", served.url, SPANPOST_TOKEN="spt_approver")
    assert (code, "deny by alice" in why) == (1, True)
    told = run(tmp_path, "approvals", "list", "--state", "decided", "--json", DATABASE_URL=api_dsn)[1]
    found = {one["id"]: one["decision"] for one in json.loads(told)["approvals"]}
    assert (found["cli-1"], found["cli-2"]) == ("approve", "deny")


def test_work_is_started(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """At a gateway its rules hold; in the database a name must be said, and a launcher of the settings. Each is one order."""
    at = {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_operator"}
    code, told, _ = run(tmp_path, "start", "fix", "Fix the till", "-p", "repo=acme/till", "-p", "note=a=b", "--json", **at)
    assert (code, json.loads(told)["launcher"]) == (0, "fix")
    code, _, why = run(tmp_path, "start", "locked", "x", **at)
    assert (code, "may not start" in why) == (1, True)
    (tmp_path / "spanpost.toml").write_text('[launchers.named.fix]\nkind = "command"\ncommand = ["/bin/true"]\n')
    for more, says in ((("fix",), "--as"), (("nothere", "--as", "alice"), "there: fix"), (("fix", "-p", "x"), "NAME=VALUE")):
        code, _, why = run(tmp_path, "start", *more, DATABASE_URL=api_dsn)
        assert (code, says in why) == (2, True), why
    code, told, _ = run(tmp_path, "start", "fix", "Sweep", "--as", "alice", DATABASE_URL=api_dsn)
    assert (code, "order " in told) == (0, True)
    rows = run(tmp_path, "db", "query", "--json", "SELECT text, parameters, by, source FROM launch_orders", DATABASE_URL=api_dsn)[1]
    found = {row["text"]: (row["by"], row["source"]) for row in json.loads(rows)["rows"]}
    assert (found["Fix the till"], found["Sweep"]) == (("operator", "api"), ("alice", "cli"))


@pytest.mark.parametrize("where", ["gateway", "database"])
def test_watching(served: Served, api_dsn: str, tmp_path: Path, where: str) -> None:
    """What is told from now on is printed as it happens, a JSON object a line, as the filter says."""
    more = {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_viewer"} if where == "gateway" else {"DATABASE_URL": api_dsn}
    command = [sys.executable, "-m", "spanpost", "watch", "--json", "--count", "2", "--topic", f"watch {where}"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(**more), **pipes) as process:
        assert "watching" in process.stderr.readline()  # type: ignore[union-attr]
        served.task("unwatched")
        task = served.task("watched", agent__topic=f"watch {where}")
        served.record(served.checkpoint(task, 1, "one"))
        told, _ = process.communicate(timeout=60)
    assert [json.loads(line)["text"] for line in told.splitlines()] == ["Started: watched", "one"]
    assert process.returncode == 0
