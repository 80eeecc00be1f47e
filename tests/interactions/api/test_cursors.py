"""Cursors and answers: written ones are read back, and nothing else is accepted or breaks an answer."""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanpost.http.errors import HttpError
from spanpost.interactions.api.cursors import position_of, position_text, read, written
from spanpost.interactions.api.responses import dumped, plain
from spanpost.model.queries import ApprovalKey, Position, TaskKey, TimelineKey
from spanpost.text.sanitise import strip
from tests.thorough import thorough

KINDS = (TaskKey, ApprovalKey, TimelineKey)
times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
keys = st.one_of(
    st.builds(TaskKey, times | st.none(), st.uuids()),
    st.builds(ApprovalKey, times, st.uuids()),
    st.builds(TimelineKey, times, st.integers(0, 2), st.uuids()),
)
positions = st.builds(Position, st.integers(0, 2**63 - 1), times, st.uuids())


def as_cursor(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@thorough(100)
@given(keys)
def test_a_cursor_comes_back(key: Any) -> None:
    """A cursor's key is read as it was written, and needs no quoting in a URL."""
    text = written(key)
    assert text is not None
    assert text.isascii()
    assert not set(text) & set("/+=&?# ")
    assert read(text, type(key)) == key


@thorough(100)
@given(positions)
def test_a_position_comes_back(position: Position) -> None:
    """An event's id is one word that names its position."""
    text = position_text(position)
    assert position_of(text) == position
    assert not set(text) & set("\r\n ")


def refused(take: Any, text: str) -> bool:
    """Return whether a text is refused as the client's mistake; other errors are raised."""
    try:
        take(text)
    except HttpError as error:
        return error.status_code == 422
    return False


@thorough(300)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: urlsafe_b64encode(b).decode()))
@example("=" * 401)
@example("é")
def test_no_text_breaks_a_cursor(text: str) -> None:
    """Any text as a cursor is a key, is empty, or is refused: never an error of ours."""
    for kind in KINDS:
        assert refused(lambda said, kind=kind: read(said, kind), text) or text == ""
    assert refused(position_of, text)


AT, ID = "2026-01-01T00:00:00Z", "0" * 32
FORGED = {
    "of another list": (ApprovalKey, {"started_at": AT, "uid": ID}),
    "no object": (TaskKey, [AT, ID]),
    "nothing": (TaskKey, None),
    "without an id": (ApprovalKey, {"requested_at": AT}),
    "an id that is none": (ApprovalKey, {"requested_at": AT, "key": "x"}),
    "a time without a zone": (ApprovalKey, {"requested_at": "2026-01-01T00:00:00", "key": ID}),
    "a time before the calendar": (ApprovalKey, {"requested_at": "0001-01-01T00:00:00+23:59", "key": ID}),
    "a time after the calendar": (TaskKey, {"started_at": "9999-12-31T23:59:59-23:59", "uid": ID}),
    "a source that is a text": (TimelineKey, {"at": AT, "source": "1", "id": ID}),
    "very deep": (TaskKey, {"started_at": [[[[[]]]]], "uid": ID}),
}


@pytest.mark.parametrize(("kind", "value"), FORGED.values(), ids=FORGED)
def test_a_forged_cursor_is_refused(kind: type, value: Any) -> None:
    """A forged cursor is refused unless it names a valid position."""
    assert refused(lambda text: read(text, kind), as_cursor(value))


@pytest.mark.parametrize(
    "text",
    [
        "1.2",
        f"1.2.{ID}.4",
        f"-1.2.{ID}",
        f"x.2.{ID}",
        f"1.x.{ID}",
        "1.2.x",
        f"٣.2.{ID}",
        f"{'9' * 20}.2.{ID}",
        f"1.{'9' * 19}.{ID}",
        f"1.-{'9' * 18}.{ID}",
        f"1.2.{'g' * 32}",
    ],
)
def test_a_forged_position_is_refused(text: str) -> None:
    """A forged event id is refused: numbers beyond the calendar, other digits, other parts."""
    assert refused(position_of, text)


#: Values that a task may hold, and others that an agent sent all the same.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.decimals()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=8)
    | times
    | st.uuids()
    | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@thorough(200)
@given(values)
@example({"\ud800": ["\x1b[2J", float("nan"), Decimal("sNaN"), Decimal("-Infinity")]})
@example({"content": "\u202eevil", "text": "\u202eevil"})
def test_writing_an_answer_cannot_fail(value: Any) -> None:
    """Any task is one line of ASCII JSON, without terminal sequences and invalid numbers."""
    text = dumped(value)
    assert text.isascii()
    assert text.isprintable()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_money_and_times_are_text() -> None:
    """Money keeps its digits and times their zone, NaN is null, and ids and content are exact."""
    hostile = "a\x00\u202eb"
    assert plain(
        {
            "cost": Decimal("0.10"),
            "tiny": Decimal("1E-7"),
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "none": math.inf,
            "trace": b"\x01\xff",
            "uid": UUID(int=1),
            "took": timedelta(seconds=1),
            "task_id": hostile,
            "name": hostile,
            "aliases": [hostile],
        }
    ) == {
        "cost": "0.10",
        "tiny": "0.0000001",
        "at": "2026-01-01T00:00:00Z",
        "none": None,
        "trace": "01ff",
        "uid": str(UUID(int=1)),
        "took": "0:00:01",
        "task_id": hostile,
        "name": strip(hostile),
        "aliases": [hostile],
    }
