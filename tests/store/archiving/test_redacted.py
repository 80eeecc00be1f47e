"""A word that a rule hides is in no archive: neither in the bytes of a file nor in a value that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanpost.model.observations import Observation
from spanpost.readers.redaction import Redaction, RedactionRules
from spanpost.store.postgres import PostgresStore
from spanpost.testing.exercise_store import ROUTED_RULES
from spanpost.testing.observed import an_event, ended, started
from spanpost.text.rules import RedactionAction, RedactionRule
from tests.store.archiving.aged import age, back, deliver, retain, rules
from tests.store.contents import columns

pytestmark = pytest.mark.acceptance
pq = pytest.importorskip("pyarrow.parquet")

WORD = "wombatmarker"


def telemetry() -> list[Observation]:
    """Return an ended run with the word in each kind of text."""
    root = {
        "agent.task.id": "t-1", "agent.task.name": f"work on {WORD}", "agent.result.note": WORD, f"own.{WORD}": "x",
        "agent.requested_by": f"{WORD}@example.com", "agent.repo": f"{WORD}/shop", "list": [WORD, "b"],
    }  # fmt: skip
    artifact = {"agent.artifact.name": WORD, "agent.artifact.uri": f"https://git.example/{WORD}"}
    failure = {"exception.type": WORD, "exception.message": f"no {WORD}", "agent.error.log_tail": WORD}
    asked = {"agent.approval.id": "q", "agent.approval.question": f"Is {WORD} right?", "agent.approval.detail": WORD}
    decided = {"agent.approval.id": "q", "agent.approval.decision": "deny", "agent.approval.by": "ann"}
    score = {"gen_ai.evaluation.name": "helpful", "gen_ai.evaluation.explanation": WORD}
    score |= {"gen_ai.evaluation.score.label": WORD}
    events = ("agent.artifact", artifact), ("agent.error", failure), ("agent.approval.requested", asked)
    return [
        started(trace=1, span=1, name="agent", attributes=root),
        *(
            an_event(trace=1, span=1, name=name, attributes=values, index=number)
            for number, (name, values) in enumerate(
                (*events, ("agent.approval.resolved", decided), ("gen_ai.evaluation.result", score))
            )
        ),
        ended(trace=1, span=2, parent=1, name=f"chat {WORD}", attributes={"gen_ai.prompt": WORD}),
        ended(trace=1, span=1, name="agent", attributes=root, seconds=9),
    ]


def in_files(directory: Path) -> tuple[int, list[str]]:
    """Return the number of files, and where the word stands in their bytes and values."""
    found, files = [], [path for path in directory.rglob("*") if path.is_file()]
    for path in files:
        if WORD.encode() in path.read_bytes() or WORD in path.name:
            found.append(f"bytes of {path.name}")
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
            found += [f"{path.name}: {name}" for row in rows for name, value in row.items() if WORD in repr(value)]
    return len(files), sorted(set(found))


@pytest.mark.parametrize("action", ["hash", "drop", "keep"])
async def test_a_hidden_word_is_in_no_archive(postgres_dsn: str, database: Any, tmp_path: Path, action: str) -> None:
    """Of an archived run no table and no file has the word under `hash` and `drop`; under `keep` many do."""
    rule = RedactionRule(action=RedactionAction(action), pattern=WORD)
    redaction = Redaction(RedactionRules(rules=(rule,)), key=b"k" * 32)
    store = PostgresStore(postgres_dsn, rules=msgspec.structs.replace(ROUTED_RULES, redaction=redaction), pool_size=4)
    await store.open()
    await store.record(back(telemetry()))
    await deliver(store)
    await store.close()
    in_tables = [column async for column, text in columns(database) if WORD in text]
    await age(database)
    done = await retain(database, rules(tmp_path / "archive"))
    assert done.rows > 10
    files, found = in_files(tmp_path / "archive")
    assert files > 4
    assert (bool(in_tables), len(found) > 5) == ((True, True) if action == "keep" else (False, False)), found
