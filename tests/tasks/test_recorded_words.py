"""The words for each recorded run: what is shown of it is what it was, but for what its telemetry does not say."""

from __future__ import annotations

import json

import pytest

from spanpost.runtime import replay
from tests.tasks import recorded_runs as rec

#: By run: the status (and the reason of the end) shown of each task, and what the run was where that differs.
WORDS: dict[str, dict[str, list[str]]] = json.loads((rec.COMMITTED / "words.json").read_text())


@pytest.mark.slow
@pytest.mark.proves("captures")
@pytest.mark.parametrize("run", sorted(WORDS))
def test_no_word_becomes_wrong(run: str, clean_environment: object) -> None:
    """A run's statuses, reasons and number of tasks are those that the published table counts as shown, or right."""
    tasks = sorted(replay.replay(rec.bodies(rec.COMMITTED / run)).tasks, key=lambda t: (t.started_at, t.task_id))
    shown = [t.status + (f" ({t.end_reason})" if t.end_reason not in (None, t.status) else "") for t in tasks]
    assert shown in (WORDS[run]["shown"], WORDS[run].get("was"))
