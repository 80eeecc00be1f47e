"""The command line: its stdout, its stderr and its exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanpost.cli import main
from spanpost.model.deliveries import RateLimit
from spanpost.model.outcomes import RetryAt
from spanpost.runtime.assembly import open_store
from spanpost.settings import load
from spanpost.store.embedded import EmbeddedPostgres
from spanpost.testing.exercise_pacing import limits
from spanpost.testing.exercise_store import in_seconds, steps
from spanpost.testing.postgres import FAST

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "captures"
Spanpost = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(open_dir: Callable[[], Path]) -> Path:
    """Return an empty home."""
    return open_dir()


def _environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "SPANPOST_DATABASE__DATA_DIR": str(home / "data"),
    }


@pytest.fixture(scope="module")
def process(home: Path) -> Spanpost:
    """Run the command as a process, without a terminal, in an empty home."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spanpost", *arguments],
            cwd=home,
            env=_environment(home) | environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def spanpost(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spanpost:
    """Run the command within this process, in the same home: same output and exit code, but faster."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in list(os.environ):
                if name.upper().startswith(("SPANPOST_", "OTEL_")) or name == "DATABASE_URL":
                    patch.delenv(name)
            for name, value in (_environment(home) | environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["spanpost", *arguments])
            patch.chdir(home)
            capsys.readouterr()
            with pytest.raises(SystemExit) as left:
                main()
        said = capsys.readouterr()
        code = left.value.code
        assert code is None or isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code or 0, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def demo(process: Spanpost, home: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """Return the demo's output; its data and its server stay for other tests."""
    done = process("demo", "--metrics-port", "0")
    server = EmbeddedPostgres(home / "data", options=FAST)
    server.start()
    yield done
    server.stop()


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in says:
        assert word in done.stderr


def test_version(process: Spanpost) -> None:
    """`--version` prints data."""
    done = process("--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "spanpost", "")


def test_a_misspelt_setting_is_one_message(process: Spanpost) -> None:
    """A misspelt setting gives one line with the closest name, and exit 2."""
    done = process("tasks", SPANPOST_DATABSE__URL="x")
    _refused(done, "did you mean SPANPOST_DATABASE__URL?")
    assert len(done.stderr.splitlines()) == 1


def test_a_misspelt_command_or_option_is_explained(spanpost: Spanpost) -> None:
    """A mistake in the command itself exits 2, without a traceback."""
    _refused(spanpost("taks"), "taks")
    _refused(spanpost("tasks", "--limit", "many"), "--limit")
    _refused(spanpost("tasks", "--status", "done"), "--status done", "complete")
    _refused(spanpost("deliveries", "retry"), "--sink")
    _refused(spanpost("quarantine", "discard"), "--reason")


def test_an_unreachable_database_is_one_message(spanpost: Spanpost) -> None:
    """An unreachable database is reported with the next step and without its password."""
    done = spanpost("tasks", DATABASE_URL="postgresql://user:hunter2@127.0.0.1:1/name")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_bad_file_is_one_message(spanpost: Spanpost, tmp_path: Path) -> None:
    """A missing file, and one without telemetry, are named."""
    _refused(spanpost("replay", "nowhere.pb"), "nowhere.pb: there is no such file")
    (tmp_path / "noise.bin").write_bytes(b"\x00\xff not telemetry")
    _refused(spanpost("replay", str(tmp_path / "noise.bin")), "noise.bin")


def test_replay_prints_the_public_format(spanpost: Spanpost) -> None:
    """A recording gives the same object in any order and repetition of its files."""
    files = [str(file) for file in sorted((CAPTURES / "pydantic-ai" / "ok").glob("*.pb"))]
    assert files
    idempotency_key = _json(spanpost("replay", "--json", *files))
    assert list(idempotency_key) == ["tasks", "checkpoints", "dropped"]
    assert idempotency_key["dropped"] == {}
    assert _json(spanpost("replay", "--json", *reversed(files), *files)) == idempotency_key
    truth = json.loads((CAPTURES / "pydantic-ai" / "ok" / "truth.json").read_text())
    assert sum(task["input_tokens"] or 0 for task in idempotency_key["tasks"]) == sum(
        call["input_total"] for call in truth["calls"]
    )


def test_replay_explains(spanpost: Spanpost) -> None:
    """`--explain` names the rule behind each status, in both forms."""
    files = [str(file) for file in (CAPTURES / "pydantic-ai" / "ok").glob("*.pb")]
    rules = [task["rule"] for task in _json(spanpost("replay", "--json", "--explain", *files))["tasks"]]
    assert all(rules)
    table = spanpost("replay", "--explain", *files)
    assert table.returncode == 0
    assert rules[0] in table.stdout


def test_preview_draws_a_recording(spanpost: Spanpost, home: Path) -> None:
    """A recording becomes a page with the task's message and its thread; a file without telemetry is exit 2."""
    files = [str(file) for file in (CAPTURES / "pydantic-ai" / "ok").glob("*.pb")]
    done = spanpost("preview", *files, "--html", "seen.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "seen.html" in done.stdout
    page = (home / "seen.html").read_text()
    [task] = [task for task in _json(spanpost("replay", "--json", *files))["tasks"] if task["parent_task_id"] is None]
    assert task["name"] in page
    assert "complete" in page
    assert spanpost("preview", "nowhere.pb").returncode == 2
    assert spanpost("preview", "--html", "no/such/place.html").returncode == 2


@pytest.mark.needs("chromium")
def test_preview_takes_a_picture(spanpost: Spanpost, home: Path) -> None:
    """The gallery becomes one PNG, as high as the page, light and dark; without a browser the error says
    what to do.
    """
    sizes = []
    for options in ([], ["--dark"]):
        done = spanpost("preview", "--png", "seen.png", *options)
        assert (done.returncode, done.stderr) == (0, "")
        picture = (home / "seen.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        sizes.append((int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")))
    assert sizes[0] == sizes[1]
    assert sizes[0][1] > 3000
    without = spanpost("preview", "--png", "seen.png", PATH="/nowhere")
    assert without.returncode == 2
    assert "--html" in without.stderr


def test_the_demo_shows_the_agent(demo: subprocess.CompletedProcess[str]) -> None:
    """Without a terminal the demo prints the checkpoints, scrapes its own metrics once and exits with 0."""
    assert demo.returncode == 0, demo.stderr
    assert "Make the checkout page fast again" in demo.stdout
    assert "the replica did not answer" in demo.stdout
    assert re.search(r'spanpost_tasks_ended_total\{agent="pilot",[^}]*status="complete"[^}]*\} 1\.0', demo.stderr)
    assert "spanpost.attach()" in demo.stderr


def test_the_demo_is_kept(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """The data of the demo's agent is read by `tasks` afterwards: the tree, the figures, each call once."""
    tasks = {task["agent_name"]: task for task in _json(spanpost("tasks", "--json"))["tasks"]}
    pilot, reviewer = tasks["pilot"], tasks["reviewer"]
    assert reviewer["parent_task_id"] == pilot["task_id"]
    assert (pilot["status"], pilot["llm_calls"], pilot["tool_calls"], pilot["tool_errors"]) == ("complete", 5, 4, 1)
    assert (pilot["input_tokens"], pilot["output_tokens"], reviewer["input_tokens"]) == (79_400, 2_450, 2_100)
    assert pilot["artifacts"] == [
        {"name": "Add an index on orders.customer_id", "uri": "https://git.example.com/shop/pull/1042", "kind": "pr"}
    ]


def test_the_sql_that_the_demo_names_works(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """Each query that the demo suggests runs; the context warning is among the checkpoints; writing is refused."""
    suggested = [line.split('"')[1] for line in demo.stderr.splitlines() if " db query " in line]
    assert len(suggested) == 2
    rows = [_json(spanpost("db", "query", "--json", sql))["rows"] for sql in suggested]
    assert [row["name"] for row in rows[0]] == ["Make the checkout page fast again", "Review the migration"]
    assert [row["kind"] for row in rows[1]].count("context_warning") == 1
    refused = spanpost("db", "query", "DELETE FROM agent_tasks")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "begin it with SELECT" in refused.stderr


def test_quarantine(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """The demo's observations are all recorded: nothing is listed, tried again or discarded."""
    assert _json(spanpost("quarantine", "list", "--json")) == {"quarantine": []}
    assert spanpost("quarantine", "list").stderr == "nothing is in quarantine\n"
    assert _json(spanpost("quarantine", "retry", "1", "--json")) == {"recorded": 0, "kept": 0, "skipped": 0}
    assert _json(spanpost("quarantine", "discard", "--tenant", "acme", "--json")) == {"discarded": 0}


def test_deliveries(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """The demo's deliveries are listed as delivered, none is dead."""
    assert {row["state"] for row in _json(spanpost("deliveries", "list", "--json"))["deliveries"]} == {"delivered"}
    assert _json(spanpost("deliveries", "list", "--state", "dead", "--json")) == {"deliveries": [], "closed_limits": []}
    assert _json(spanpost("deliveries", "retry", "--sink", "console", "--json")) == {"retried": 0}
    assert _json(spanpost("deliveries", "limits", "--json")) == {"limits": []}
    assert spanpost("deliveries", "limits").stderr == "nothing is closed\n"


def test_a_closed_circuit_is_listed_and_opened(
    spanpost: Spanpost, demo: subprocess.CompletedProcess[str], home: Path
) -> None:
    """A closed rate limit is listed with key, time, reason and remedy; after opening it is gone."""
    key = "slack:default"

    async def refused() -> None:
        store = open_store(load(database={"embedded": True, "data_dir": home / "data"}, console={}))
        await store.open()
        await store.record(steps(0, trace=77))
        budgets = limits(post=[RateLimit(key=key, is_breaker=True)])
        [delivery] = await store.outbox.claim(["console"], 1, budgets)
        no = RetryAt(
            at=in_seconds(0), reason="token_revoked", error="revoked: make a new token", closes=(key,), is_refusal=True
        )
        await store.outbox.finish(delivery, no)
        await store.close()

    asyncio.run(refused())
    listed = _json(spanpost("deliveries", "list", "--state", "waiting", "--json"))
    assert {(d["reason"], d["error"]) for d in listed["deliveries"]} >= {("token_revoked", "revoked: make a new token")}
    assert [(b["key"], b["state"], b["why"]) for b in listed["closed_limits"]] == [(key, "closed", "refused")]
    for command in ("list", "limits"):
        [line] = [text for text in spanpost("deliveries", command).stdout.splitlines() if key in text]
        assert line.startswith(f"closed   {key} until ")
        assert line.endswith(": refused, token_revoked, revoked: make a new token")
    assert _json(spanpost("deliveries", "reopen", "nothing", "--json")) == {"reopened": 0}
    assert _json(spanpost("deliveries", "reopen", key, "--json")) == {"reopened": 1}
    assert _json(spanpost("deliveries", "limits", "--json")) == {"limits": []}
    [one] = _json(spanpost("deliveries", "limits", "--all", "--json"))["limits"]
    assert (one["key"], one["state"], one["reason"]) == (key, "open", "")
    assert "unlimited" in spanpost("deliveries", "limits", "--all").stdout
    waiting = [str(d["id"]) for d in listed["deliveries"]]
    assert _json(spanpost("deliveries", "discard", *waiting, "--json")) == {"discarded": len(waiting)}


def test_check(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """A healthy setup is exit 0; a port in use, of the metrics or of the gateway, is exit 1 with a next
    step.
    """
    assert all(finding["ok"] for finding in _json(spanpost("check", "--json"))["findings"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = spanpost("check", "--json", SPANPOST_METRICS__PORT=port)
    assert done.returncode == 1
    [bad] = [finding for finding in json.loads(done.stdout)["findings"] if not finding["ok"]]
    assert bad["name"] == "metrics"
    assert "SPANPOST_METRICS__PORT" in bad["next_step"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = spanpost(
            "check",
            "--json",
            SPANPOST_GATEWAY__HTTP_PORT=port,
            SPANPOST_GATEWAY__GRPC_PORT="-1",
            SPANPOST_GATEWAY__HOST="127.0.0.1",
        )
    [bad] = [finding for finding in json.loads(done.stdout)["findings"] if not finding["ok"]]
    assert (bad["name"], "SPANPOST_GATEWAY__HTTP_PORT" in bad["next_step"]) == ("gateway", True)


def test_upgrade_may_be_repeated(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """`db upgrade` on a current database prints the revision and changes nothing."""
    first = _json(spanpost("db", "upgrade", "--json"))
    assert first["revision"]
    assert _json(spanpost("db", "upgrade", "--json")) == first


def test_recent_rows_are_not_archived(spanpost: Spanpost, demo: subprocess.CompletedProcess[str]) -> None:
    """`archive run` leaves recent rows, with and without --dry-run; an invalid age is exit 2."""
    before = _json(spanpost("db", "query", "SELECT count(*) FROM agent_events", "--json"))
    for more in ("--dry-run",), ():
        done = _json(spanpost("archive", "run", *more, "--json"))
        assert (done["is_done"], done["months"], done["placement"]) == (not more, [], 0)
    assert _json(spanpost("db", "query", "SELECT count(*) FROM agent_events", "--json")) == before
    refused = spanpost("archive", "allow", "soon")
    assert refused.returncode == 2
    assert "90d" in refused.stderr


def test_a_closed_pipe_is_no_error(spanpost: Spanpost, home: Path) -> None:
    """`spanpost ... | head -1` leaves no traceback."""
    files = " ".join(str(file) for file in (CAPTURES / "pydantic-ai" / "ok").glob("*.pb"))
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m spanpost replay --json {files} | head -1"],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_url_that_no_driver_takes_is_one_message(spanpost: Spanpost) -> None:
    """An invalid port in the URL is reported by each command that connects."""
    for command in (("tasks",), ("db", "query", "SELECT 1"), ("db", "upgrade")):
        _refused(spanpost(*command, DATABASE_URL="postgresql://user:hunter2@127.0.0.1:99999/name"), "beyond 65535")


def test_nothing_that_steers_a_terminal_is_printed(capsys):
    """JSON output is ASCII with the same content; column names of a query are stripped as its values are."""
    from rich.console import Console

    from spanpost.cli.options import print_json
    from spanpost.cli.tables import print_rows

    said = {"name": "a\x9b31mb\x7fc\u202ed \uc548\ub155"}
    print_json(said)
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x7f" not in shown
    assert json.loads(shown) == said
    console = Console(width=200, record=True)
    print_rows(["a\x9b31mb\x1b[2Jc"], [["x"]], console)
    assert "abc" in console.export_text()


def test_rows_that_are_too_wide_stand_one_below_the_other() -> None:
    """A table wider than the terminal becomes one line a value; bytes are shown as hex digits."""
    from rich.console import Console

    from spanpost.cli.tables import print_rows

    drawn = {}
    for width in (40, 200):
        console = Console(width=width, record=True, file=io.StringIO())
        print_rows(["trace_id", "text", "none"], [[b"\x08\x55", "x" * 60, None]], console)
        drawn[width] = [line.rstrip() for line in console.export_text().splitlines()]
    assert drawn[200] == ["trace_id  text" + " " * 58 + "none", f"0855      {'x' * 60}"]
    assert drawn[40] == ["row 1", "  trace_id  0855", "  text", "x" * 40, "x" * 20]


@pytest.mark.parametrize("moment", ["at work", "serving"])
def test_ctrl_c_ends_the_demo_quietly(home: Path, moment: str, demo: subprocess.CompletedProcess[str]) -> None:
    """Ctrl-C ends the demo in a terminal, working or serving: exit 0, no traceback, and the data stays."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        environment = _environment(home) | {"TERM": "xterm"}
        command = [
            sys.executable,
            "-m",
            "spanpost",
            "demo",
            "--metrics-port",
            "0",
            *(["--fast"] if moment == "serving" else []),
        ]
        os.execve(sys.executable, command, environment)
    said = b""
    wanted = b"serving until Ctrl-C" if moment == "serving" else b"Started: Make"
    try:
        while wanted not in said:
            said += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        while chunk := os.read(terminal, 65536):
            said += chunk
    except OSError:
        pass  # the other end is closed: Linux reports an error
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()
    assert b"stopped; the records are kept" in said
    assert b"Traceback" not in said
