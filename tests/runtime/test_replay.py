"""Recordings replayed into a database: what is recorded, and that nothing is delivered without --deliver."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from spanpost.model.errors import ConfigError
from spanpost.runtime.pipeline import Pipeline
from spanpost.runtime.replay import replay, replay_into
from spanpost.settings import Settings, load
from tests.conftest import ROOT, Database

pytestmark = [pytest.mark.slow, pytest.mark.needs("postgres"), pytest.mark.usefixtures("clean_environment")]
RECORDING = sorted((ROOT / "tests" / "captures" / "pydantic-ai" / "ok").glob("*-traces.pb"))


def settings(database: Database, tmp_path: Path, **sections: Any) -> Settings:
    return load(database={"url": database.dsn}, console={"form": "plain"}, **sections)


def test_a_recording_is_recorded_once_and_not_delivered(database: Database, tmp_path: Path) -> None:
    """Recording twice adds nothing, and no delivery or timer remains that another process could send."""
    first = replay_into(RECORDING, settings(database, tmp_path), deliver=False)
    again = replay_into(RECORDING, settings(database, tmp_path), deliver=False)
    printed = replay(RECORDING)
    assert first.events > 0
    assert (again.events, again.tasks) == (0, 0)
    assert again.duplicates == first.events + first.ignored
    rows = database.fetch("SELECT task_id, status, input_tokens FROM agent_tasks ORDER BY task_id")
    assert rows == sorted((t.task_id, t.status, t.input_tokens) for t in printed.tasks)
    assert database.fetch("SELECT count(*) FROM deliveries") == [(0,)]
    assert database.fetch("SELECT count(*) FROM timers") == [(0,)]


def test_those_who_live_there_are_not_disturbed(database: Database, tmp_path: Path) -> None:
    """The stall timeouts of a process on that database stay unchanged."""
    pipeline = Pipeline(settings(database, tmp_path, stall={"stall_after": 77}))
    pipeline.start()
    try:
        replay_into(RECORDING, settings(database, tmp_path), deliver=False)
    finally:
        pipeline.shutdown()
    assert database.fetch("SELECT extract(epoch FROM stall)::int FROM heartbeats") == [(77,)]


def test_with_deliver_it_is_posted(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --deliver a run of a minute ago is delivered to the enabled sinks, completely."""
    now = time.time_ns()
    span = {
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "name": "invoke_agent gardener",
        "startTimeUnixNano": str(now - 60 * 10**9),
        "endTimeUnixNano": str(now - 30 * 10**9),
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}],
    }
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    replayed = replay_into([file], settings(database, tmp_path), deliver=True)
    assert replayed.is_delivered
    assert replayed.deliveries > 0
    assert database.fetch("SELECT DISTINCT state FROM deliveries") == [("delivered",)]
    assert "gardener" in capsys.readouterr().out


def test_a_bad_file_records_nothing(database: Database, tmp_path: Path) -> None:
    """One file without telemetry, and nothing of the others is recorded."""
    (tmp_path / "noise.bin").write_bytes(b"\x00\xff not telemetry")
    with pytest.raises(ConfigError, match=r"noise\.bin"):
        replay_into([*RECORDING, tmp_path / "noise.bin"], settings(database, tmp_path), deliver=False)
    assert database.fetch("SELECT count(*) FROM agent_events") == [(0,)]


def test_without_a_database_it_is_refused(tmp_path: Path) -> None:
    """Without a database the replay is refused, because its rows would vanish with the process."""
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        replay_into(RECORDING, load(), deliver=False)
