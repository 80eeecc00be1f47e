"""Computation of rows before they are written."""

from __future__ import annotations

import base64
from datetime import UTC
from decimal import Decimal
from itertools import product
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.readings import Failure
from spanpost.model.tasks import Step, Task
from spanpost.semconv import STATUSES
from spanpost.store.rows import final_moves, task_of, task_rows
from spanpost.tasks.folded import Move

SUBTREES = st.sampled_from([b"a", b"b", b"c", b"d"])
MOVES = st.lists(
    st.builds(
        Move,
        st.sampled_from("ab"),
        st.sampled_from([b"1", b"2"]),
        SUBTREES,
        SUBTREES,
        st.integers(0, 3).map(lambda n: UUID(int=n)),
    ),
    max_size=12,
)


@pytest.mark.proves("any-order")
@given(MOVES)
def test_moves_at_once_come_to_what_they_do_one_by_one(moves: list[Move]) -> None:
    """Rows below the moved spans of two tenants' traces end where the moves, one after another, take them."""
    rows = product("ab", (b"1", b"2"), (b"a", b"b", b"c", b"d"))
    before = {(tenant, trace, subtree): (subtree, None) for tenant, trace, subtree in rows}
    one_by_one: dict[tuple[str, bytes, bytes], tuple[bytes, UUID | None]] = dict(before)
    for m in moves:
        for row, (subtree, _) in one_by_one.items():
            if row[:2] == (m.tenant, m.trace_id) and subtree == m.subtree_from:
                one_by_one[row] = (m.subtree_to, m.task_uid)
    assert {**before, **final_moves(moves)} == one_by_one


_TEXTS = st.none() | st.text(max_size=3)
_COUNTS = st.none() | st.integers(0, 3)
TASKS = st.builds(
    Task,
    uid=st.uuids(),
    tenant=st.text(max_size=3),
    task_id=st.text(max_size=3),
    aliases=st.lists(st.text(max_size=2), max_size=2).map(tuple),
    parent_uid=st.none() | st.uuids(),
    trace_id=st.binary(max_size=2),
    name=st.text(max_size=3),
    agent_name=_TEXTS,
    session_id=_TEXTS,
    status=st.sampled_from(STATUSES),
    is_inferred=st.booleans(),
    is_announced=st.booleans(),
    progress=st.none() | st.sampled_from([0.0, 12.5]),
    step_index=_COUNTS,
    started_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    runs=st.integers(0, 2),
    input_tokens=_COUNTS,
    cost_usd=st.none() | st.sampled_from([Decimal(0), Decimal("0.25")]),
    unpriced_calls=st.integers(0, 2),
    steps=st.lists(st.builds(Step, name=st.text(max_size=2), index=_COUNTS), max_size=2).map(tuple),
    is_muted=st.booleans(),
    paused_by=st.text(max_size=2),
    links=st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=1),
    results=st.dictionaries(st.text(max_size=2), st.none() | st.integers(0, 1), max_size=1),
    error=st.none() | st.builds(Failure, type=st.text(max_size=2), message=st.text(max_size=2)),
)


@given(st.lists(TASKS, max_size=3))
def test_what_a_row_leaves_unsaid_is_read_back(tasks: list[Task]) -> None:
    """Empty fields are in no row and in no document, and both give the whole task."""
    rows = msgspec.json.decode(task_rows(tasks))
    documents = [task_of(base64.b64decode(row.pop("doc"))) for row in rows]
    assert documents == tasks
    assert msgspec.convert(rows, list[Task], strict=False) == tasks
