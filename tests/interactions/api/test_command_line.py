"""The command line with a gateway and with the database: tasks, approvals, watch."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from spanpost.store.system_user import system_user
from spanpost.testing.exercise_costs import a_family
from spanpost.testing.postgres import as_role
from tests.conftest import ROOT, WRITER, Database
from tests.errors import reason_of
from tests.interactions.api.served import Served

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPANPOST_", "OTEL_")) and name != "DATABASE_URL"
    }
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def run(directory: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "spanpost", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment(**more), capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout, done.stderr


def test_tasks_of_a_gateway_and_of_its_database(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """Gateway and database list the same tasks; a refusal names the setting to change and never the token."""
    for n in range(3):
        served.task(f"listed {n}", agent__topic="listing")
    asked = (
        "tasks",
        "--topic",
        "listing",
        "--search",
        "LISTED",
        "--since",
        "1d",
        "--roots",
        "--status",
        "starting",
        "--json",
    )
    at_gateway = run(tmp_path, *asked, SPANPOST_URL=served.url, SPANPOST_TOKEN="spt_viewer")
    in_database = run(tmp_path, *asked, DATABASE_URL=api_dsn)
    names = [[task["name"] for task in json.loads(out[1])["tasks"]] for out in (at_gateway, in_database)]
    assert names[0] == names[1]
    assert sorted(names[0]) == ["listed 0", "listed 1", "listed 2"]
    table = run(tmp_path, "tasks", "--url", served.url, "--topic", "listing", SPANPOST_TOKEN="spt_viewer")
    assert "listed 1" in table[1]
    code, out, why = run(tmp_path, "tasks", "--url", served.url, SPANPOST_TOKEN="spt_wrong")
    assert (code, out) == (1, "")
    assert "SPANPOST_TOKEN" in why
    assert "spt_wrong" not in why


def test_approvals_are_listed_and_answered(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """The gateway applies its rules and the token's name; in the database a name is required; the first decides."""
    served.question("cli-1")
    served.question("cli-2")
    code, _, why = run(
        tmp_path, "approvals", "approve", "cli-1", "--yes", "--url", served.url, SPANPOST_TOKEN="spt_viewer"
    )
    assert (code, "may not approve" in why) == (1, True)
    code, out, _ = run(
        tmp_path, "approvals", "approve", "cli-1", "--yes", "--url", served.url, "--json", SPANPOST_TOKEN="spt_approver"
    )
    assert (code, json.loads(out)["by"]) == (0, "approver")
    code, _, why = run(tmp_path, "approvals", "deny", "cli-2", "--yes", DATABASE_URL=api_dsn)
    assert (code, "--as" in why) == (2, True)
    assert run(tmp_path, "approvals", "deny", "cli-2", "--yes", "--as", "alice", DATABASE_URL=api_dsn)[0] == 0
    code, _, why = run(
        tmp_path, "approvals", "approve", "cli-2", "--yes", "--url", served.url, SPANPOST_TOKEN="spt_approver"
    )
    assert (code, "deny by alice" in why) == (1, True)
    out = run(tmp_path, "approvals", "list", "--state", "decided", "--json", DATABASE_URL=api_dsn)[1]
    found = {one["id"]: one["decision"] for one in json.loads(out)["approvals"]}
    assert (found["cli-1"], found["cli-2"]) == ("approve", "deny")


def test_a_question_is_read_whole_before_it_is_answered(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """A question is shown whole; a terminal asks for confirmation, and without one `--yes` is required."""
    long = "x" * 7000 + " and then DROP ALL DATABASES"
    served.question("cli-read", detail=long)
    answer = ("approvals", "approve", "cli-read", "--as", "alice")
    code, out, why = run(tmp_path, *answer, DATABASE_URL=api_dsn)
    assert (code, out, "--yes" in why) == (2, "", True)
    for where in ({"DATABASE_URL": api_dsn}, {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_approver"}):
        code, shown = at_a_terminal(tmp_path, "n", *answer, **where)
        assert (code, "DROP ALL DATABASES" in shown, "Answer 'approve'?" in shown) == (1, True, True), shown
    assert served.as_of("viewer").get("/api/approvals/cli-read").json()["state"] == "open"
    code, shown = at_a_terminal(tmp_path, "y", *answer, DATABASE_URL=api_dsn)
    assert (code, "The agent receives it" in shown) == (0, True), shown


def at_a_terminal(directory: Path, says: str, *arguments: str, **more: str) -> tuple[int, str]:
    """Run a command at a terminal with this input; return its exit code and its whole output."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "spanpost", *arguments]
    with subprocess.Popen(
        command, cwd=directory, env=environment(**more), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, f"{says}\n".encode())
        shown = b""
        with contextlib.suppress(OSError):  # it has ended, and the terminal with it
            while part := os.read(ours, 65_536):
                shown += part
        code = process.wait(60)
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def test_the_systems_user_is_kept_beside_the_name_that_is_claimed(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """Beside the name of `--as` the row has the system's user and host and the database role; archives too."""
    served.question("cli-who")
    at = {"DATABASE_URL": api_dsn, "USER": "mallory", "LOGNAME": "mallory"}
    assert run(tmp_path, "approvals", "approve", "cli-who", "--yes", "--as", "the CEO", **at)[0] == 0
    assert run(tmp_path, "deliveries", "retry", "--sink", "nothing", **at)[0] == 0
    assert run(tmp_path, "archive", "allow", "183d", **at)[0] == 0
    asked = "SELECT verb, actor, actor_id, database_role, detail FROM human_interventions WHERE via = 'cli'"
    at["DATABASE_URL"] = as_role(api_dsn, WRITER)  # a superuser's queries are refused
    rows = json.loads(run(tmp_path, "db", "query", "--json", f"{asked} ORDER BY recorded_at", **at)[1])["rows"]
    found = {
        row["verb"]: row
        for row in rows
        if row["actor"] == "the CEO" or row["verb"] in ("retry_deliveries", "allow_archive")
    }
    user = system_user()
    assert (found["approve"]["actor"], found["approve"]["actor_id"]) == ("the CEO", f"cli:{user}")
    assert (found["retry_deliveries"]["actor"], found["retry_deliveries"]["detail"]) == (user, "all of nothing: 0")
    assert found["allow_archive"]["actor_id"] == f"cli:{user}"
    assert {row["database_role"] for row in rows} == {urlsplit(api_dsn).username}


def test_an_id_with_several_wordings_is_answered_by_a_key(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """If another trace has other words under the same id, neither the command line nor the API guesses the
    question.
    """
    mine = served.question("cli-bait", detail="delete all customers")
    other = served.question("cli-bait", detail="print hello")
    code, _, why = run(tmp_path, "approvals", "approve", "cli-bait", "--yes", "--as", "alice", DATABASE_URL=api_dsn)
    assert (code, mine["key"] in why, other["key"] in why) == (2, True, True)
    client = served.as_of("approver")
    refused = client.post("/api/approvals/cli-bait/decision", json={"decision": "approve"})
    assert (refused.status_code, reason_of(refused.json())) == (409, "several")
    assert client.post(f"/api/approvals/{mine['key']}/decision", json={"decision": "deny"}).status_code == 200
    assert client.get(f"/api/approvals/{other['key']}").json()["state"] == "open"


def test_work_is_started(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """The gateway applies its rules; in the database a name and a configured launcher are required."""
    at = {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_operator"}
    code, out, _ = run(
        tmp_path, "start", "fix", "Fix the till", "-p", "repo=acme/till", "-p", "note=a=b", "--json", **at
    )
    assert (code, json.loads(out)["launcher"]) == (0, "fix")
    code, _, why = run(tmp_path, "start", "locked", "x", **at)
    assert (code, "may not start" in why) == (1, True)
    (tmp_path / "spanpost.toml").write_text('[launchers.named.fix]\nkind = "command"\ncommand = ["/bin/true"]\n')
    for more, says in (
        (("fix",), "--as"),
        (("nothere", "--as", "alice"), "(known: fix)"),
        (("fix", "-p", "x"), "NAME=VALUE"),
    ):
        code, _, why = run(tmp_path, "start", *more, DATABASE_URL=api_dsn)
        assert (code, says in why) == (2, True), why
    code, out, _ = run(tmp_path, "start", "fix", "Sweep", "--as", "alice", DATABASE_URL=api_dsn)
    assert (code, "order " in out) == (0, True)
    found = {text: by for text, *by in Database(api_dsn).fetch('SELECT text, "by", source FROM launch_orders')}
    assert (found["Fix the till"], found["Sweep"]) == (["operator", "api"], ["alice", "cli"])


@pytest.mark.parametrize("where", ["gateway", "database"])
def test_watching(served: Served, api_dsn: str, tmp_path: Path, where: str) -> None:
    """New checkpoints are printed as they happen, a JSON object a line, selected by the filter."""
    more = (
        {"SPANPOST_URL": served.url, "SPANPOST_TOKEN": "spt_viewer"}
        if where == "gateway"
        else {"DATABASE_URL": api_dsn}
    )
    command = [sys.executable, "-m", "spanpost", "watch", "--json", "--count", "2", "--topic", f"watch {where}"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(**more), **pipes) as process:
        assert "watching" in process.stderr.readline()  # type: ignore[union-attr]
        served.task("unwatched")
        task = served.task("watched", agent__topic=f"watch {where}")
        served.record(served.checkpoint(task, 1, "one"))
        out, _ = process.communicate(timeout=60)
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["Started: watched", "one"]
    assert process.returncode == 0


def test_ratings_and_costs_at_the_command_line(served: Served, api_dsn: str, tmp_path: Path) -> None:
    """A task is rated at a gateway by its rules, and in the database in a name; both list what pull requests cost."""
    trace = served.trace()
    served.record(*a_family(trace, ["https://x.example/cli/1"], below="https://x.example/cli/2", by="erin", cost="0.5"))
    task = f"root-{trace}"
    code, _, why = run(tmp_path, "rate", task, "up", "--url", served.url, SPANPOST_TOKEN="spt_viewer")
    assert (code, "may not rate" in why) == (1, True)
    code, out, _ = run(tmp_path, "rate", task, "up", "--json", "--url", served.url, SPANPOST_TOKEN="spt_operator")
    assert (code, json.loads(out)) == (
        0,
        {"task": task, "result": "done", "order_id": None, "message": f"Rated up: root {trace}."},
    )
    code, _, why = run(tmp_path, "rate", task, "down", DATABASE_URL=api_dsn)
    assert (code, "--as" in why) == (2, True)
    code, out, _ = run(tmp_path, "rate", task, "down", "--as", "erin", "--comment", "no", DATABASE_URL=api_dsn)
    assert (code, out) == (0, f"Rated down: root {trace}.\n")
    client = served.as_of("viewer")
    given = client.get(f"/api/tasks/{task}").json()["evaluations"]
    assert sorted((one["label"], one["by"]) for one in given) == [("down", "erin"), ("up", "operator")]
    code, out, _ = run(tmp_path, "spending", "--by", "pr", "--since", "1d", "--json", DATABASE_URL=api_dsn)
    costs = {one["key"]: one["cost_usd"] for one in json.loads(out)["costs"]}
    assert [costs[f"https://x.example/cli/{n}"] for n in (1, 2)] == ["0.500000000", "0.500000000"]
    listed = client.get("/api/costs", params={"by": "person"}).json()["items"]
    assert [one for one in listed if one["key"] == "erin"] == [
        {"key": "erin", "cost_usd": "1.000000000", "tasks": 1, "pull_requests": 2, "partial": False}
    ]
    assert client.get("/api/costs", params={"by": "team"}).status_code == 422
    code, out, _ = run(tmp_path, "spending", "--by", "person", DATABASE_URL=api_dsn)
    assert (code, "erin" in out, "$1.00" in out) == (0, True, True)
