"""A fault of spanpost's own: counted, never raised, and told once to who can mend it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from spanpost.fold import house
from spanpost.fold import read as reader
from spanpost.ledger import faults
from spanpost.ledger.memory import MemoryLedger
from spanpost.testing.builders import a_span

CALL = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1}


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_told", set())
    reader.overlooked()


def broken(*_: Any, **__: Any) -> Any:
    raise NameError("name 'mistyped' is not defined")


@pytest.mark.parametrize(("where", "what"), [(reader, "_as_call"), (house, "absorb")])
def test_a_fault_is_logged_once_with_its_traceback(
    where: Any, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that does not exist, in reading or in folding: each observation is counted as lost, the log has one traceback."""
    monkeypatch.setattr(where, what, broken)
    ledger = MemoryLedger()
    with caplog.at_level(logging.WARNING, "spanpost"):
        lost = [ledger.record_now([a_span(span=n, attributes=CALL)]).lost for n in (1, 2, 3)]
    assert lost == [{"unfoldable": 1}] * 3
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.name == "spanpost.faults"
    assert record.exc_info is not None
    assert record.exc_info[0] is NameError
