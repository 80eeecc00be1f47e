"""What is worked out before rows are written."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spanpost.fold.batch import Move
from spanpost.ledger.rows import came_to

UNITS = st.sampled_from([b"a", b"b", b"c", b"d"])
MOVES = st.lists(
    st.builds(Move, st.sampled_from([b"1", b"2"]), UNITS, UNITS, st.integers(0, 3).map(lambda n: UUID(int=n))), max_size=12
)


@given(MOVES)
def test_moves_at_once_come_to_what_they_do_one_by_one(moves: list[Move]) -> None:
    """Rows under every unit of two traces end where the moves, each after the other, take them."""
    before = {(trace, unit): (unit, None) for trace in (b"1", b"2") for unit in (b"a", b"b", b"c", b"d")}
    one_by_one: dict[tuple[bytes, bytes], tuple[bytes, UUID | None]] = dict(before)
    for m in moves:
        for row, (unit, _) in one_by_one.items():
            if row[0] == m.trace_id and unit == m.unit_from:
                one_by_one[row] = (m.unit_to, m.task_uid)
    assert {**before, **came_to(moves)} == one_by_one
