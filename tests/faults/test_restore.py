"""A backup is restored for real, by the commands of its page: a dump beside a gateway, then a new database."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.gateway_process import query
from tests.acceptance.gateways import Gateway
from tests.conftest import ROOT, fresh_database
from tests.eventually import eventually
from tests.faults.posted import Slack, final_states, settings
from tests.faults.rollout import alone, body, held, send, stream

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.needs("psql")]

PAGE = ROOT / "docs" / "how-to" / "upgrade-and-backup.md"
RUNS = 6
SEALING = {
    "SPANPOST_SEALING__ENABLED": "true",
    "SPANPOST_SEALING__INTERVAL": "PT0.1S",
    "SPANPOST_SEALING__SIGN_EVERY": "PT0S",
    "SPANPOST_SEALING__PUBLISH_EVERY": "PT1S",
}


def commands(about: str) -> str:
    """Return the block of the page that this test runs, by its mark."""
    found = re.search(rf"^```bash no-run: test_restore, {about}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found, about
    return found[1]


def run(script: str, home: Path, dsn: str, **more: str) -> tuple[int, str]:
    """Run commands in that directory; return the exit code and the output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SPANPOST_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "HOME": str(home), "DATABASE_URL": dsn}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=home, env={**kept, **own, **more}, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def sealed(dsn: str, count: int, outside: Path) -> bool:
    """Return whether all rows are sealed and a checkpoint of them has left."""
    rows = query(dsn, "SELECT size FROM seal_logs WHERE tenant = 'default'")
    return bool(rows) and rows[0][0] >= count and outside.exists() and f"\n{rows[0][0]}\n" in outside.read_text()


def test_a_dump_is_restored_and_the_gateway_goes_on(server: str, tmp_path: Path) -> None:
    """What was recorded after the dump is lost until its senders repeat it; then every row, figure and checkpoint is
    there once, the log is valid, and Slack has the tasks of the lost stretch twice, the others once.
    """
    whole, outside = stream(RUNS, time.time_ns()), tmp_path / "checkpoints.txt"
    traces = list(dict.fromkeys(span.context.trace_id for span in whole))
    cut = [span.context.trace_id for span in whole].index(traces[RUNS // 2])  # after half of the plain tasks
    with ExitStack() as stack:
        slack = Slack(tmp_path / "slack.json")
        stack.callback(slack.close)
        lost, restored = (stack.enter_context(fresh_database(server)) for _ in range(2))
        query(restored, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

        def start(dsn: str) -> Gateway:
            file = {"SPANPOST_SEALING__FILE": str(outside)}
            gateway = Gateway(dsn, tmp_path, **(settings(slack.url) | SEALING | file))
            stack.callback(gateway.stop)
            return gateway

        first = start(lost)
        send([first], [body(whole[:cut])])
        assert set(asyncio.run(final_states(lost, 60))) == {"delivered"}
        eventually(lambda: sealed(lost, query(lost, "SELECT count(*) FROM agent_events")[0][0], outside))
        assert run(commands("backup"), tmp_path, lost) == (0, "")
        send([first], [body(whole[cut:])])
        assert set(asyncio.run(final_states(lost, 60))) == {"delivered"}
        rows = query(lost, "SELECT count(*) FROM agent_events")[0][0]
        eventually(lambda: sealed(lost, rows, outside))
        first.kill()

        code, said = run(commands("restore"), tmp_path, lost, RESTORED_URL=restored)
        assert (code, "valid; " in said) == (0, True), said
        later = run(f"spanpost audit verify --checkpoint {outside}", tmp_path, restored)
        assert (later[0], "its end was cut off" in later[1]) == (1, True), later
        assert held(restored) == alone(whole[:cut])
        known = {name for (name,) in query(restored, "SELECT name FROM agent_tasks")}

        again = start(restored)
        send([again], [body(whole)])
        assert set(asyncio.run(final_states(restored, 60))) == {"delivered"}
        assert held(restored) == alone(whole)
        eventually(lambda: sealed(restored, rows, outside))
        assert again.stop() == 0
        code, said = run("spanpost audit verify", tmp_path, restored)
        assert (code, "valid; " in said) == (0, True), said
        plain = [f"Job {number}" for number in range(RUNS)]
        assert 0 < len(known.intersection(plain)) < RUNS
        assert messages(slack.end()) == {name: 1 if name in known else 2 for name in plain}


def test_a_copy_of_the_embedded_database_is_restored(open_dir: Callable[[], Path]) -> None:
    """The directory, packed with the keys beside it while nothing uses it and unpacked elsewhere, has its rows."""
    home, elsewhere = open_dir(), open_dir()
    data = {"DATA_DIR": str(home / "pg"), "SPANPOST_DATABASE__DATA_DIR": str(home / "pg")}
    code, said = run("unset DATABASE_URL; spanpost db upgrade", home, "", **data)
    assert code == 0, said
    (home / "pg-journal-key").write_text("a key beside it")
    assert run(commands("embedded"), home, "", **data) == (0, "")
    unpacked = run(f"tar -xzf {home}/spanpost.tar.gz", elsewhere, "")
    assert (unpacked[0], (elsewhere / "pg-journal-key").read_text()) == (0, "a key beside it"), unpacked
    code, said = run(f"unset DATABASE_URL; spanpost audit who --data-dir {elsewhere}/pg", elsewhere, "")
    assert (code, "upgrade_schema" in said) == (0, True), said


def messages(posted: dict[str, Any]) -> Counter[str]:
    """Return the number of messages of each plain task."""
    everything = [m for channel in posted["channels"].values() for m in channel]
    texts = [m["text"] for m in everything if m.get("thread_ts", m["ts"]) == m["ts"]]
    return Counter(found[1] for text in texts if (found := re.match(r"\S+ (Job \d+): complete", text)))
