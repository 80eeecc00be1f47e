"""Duplicate calls: several spans report one model call under one response id, and one of them counts."""

from __future__ import annotations

from spanpost.tasks.records import CallCopy, DuplicateCalls
from spanpost.tasks.work import Key, RecordSet

#: Copies kept of one response id. Honest telemetry has fewer; those that rank last are counted by
#: themselves.
CALL_COPY_CAP = 16


def claim(
    duplicates_of: RecordSet[DuplicateCalls], duplicates_key: Key, node_key: Key, call_copy: CallCopy | None
) -> Key:
    """Enter, change or remove (None) a copy of a call. Return the copy beyond the cap; empty for none."""
    duplicates = duplicates_of.get(duplicates_key) or DuplicateCalls()
    out = b""
    if call_copy is None:
        duplicates.call_copies.pop(node_key, None)
    else:
        duplicates.call_copies[node_key] = call_copy
        if len(duplicates.call_copies) > CALL_COPY_CAP:
            out = min(duplicates.call_copies, key=lambda key: duplicates.call_copies[key].rank)
            del duplicates.call_copies[out]
    if out != node_key:
        duplicates_of.put(duplicates_key, duplicates)
    return out


def winners(duplicates: DuplicateCalls) -> set[Key]:
    """Return the nodes that count: of copies that overlap in time the greatest; others are separate calls."""
    if len(duplicates.call_copies) <= 1:
        return set(duplicates.call_copies)
    won: list[tuple[Key, CallCopy]] = []
    for key, c in sorted(duplicates.call_copies.items(), key=lambda item: item[1].rank, reverse=True):
        if not any(c.start_ns <= w.end_ns and w.start_ns <= c.end_ns for _, w in won):
            won.append((key, c))
    return {key for key, _ in won}


def borrowed(duplicates: DuplicateCalls, holder: Key) -> int:
    """Return the cost that a duplicate of the call knows and the holder does not; 0 for none."""
    own = duplicates.call_copies[holder]
    if own.cost >= 0:
        return 0
    costs = [c.cost for c in duplicates.call_copies.values() if c.start_ns <= own.end_ns and own.start_ns <= c.end_ns]
    return max(0, *costs)
