"""A fault of spanpost itself: counted, never raised, and logged once for the maintainers."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from spanpost import readers as reader
from spanpost.store import faults
from spanpost.store.memory import MemoryStore
from spanpost.tasks import fold
from spanpost.testing.builders import a_span

CALL = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1}


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_logged", set())
    reader.overlooked()


def broken(*_: Any, **__: Any) -> Any:
    raise NameError("name 'mistyped' is not defined")


@pytest.mark.slow
@pytest.mark.parametrize(("where", "what"), [(reader, "_as_call"), (fold, "absorb")])
def test_a_fault_is_logged_once_with_its_traceback(
    where: Any, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in reading or folding counts each observation as dropped and logs one traceback."""
    monkeypatch.setattr(where, what, broken)
    store = MemoryStore()
    with caplog.at_level(logging.WARNING, "spanpost"):
        dropped = [store.record_now([a_span(span=n, attributes=CALL)]).dropped for n in (1, 2, 3)]
    assert dropped == [{"unfoldable": 1}] * 3
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert record.name == "spanpost.faults"
    assert record.exc_info is not None
    assert record.exc_info[0] is NameError
