"""A task's segments: its runs, each with its beginning and its end."""

from __future__ import annotations

from spanpost.fold.records import Group, Segment, Unit
from spanpost.fold.work import Key

#: Segments kept of a task, the newest; older ones are settled and only counted.
SEGMENT_CAP = 16


def is_loose(root: Key) -> bool:
    """Tell by its key whether a segment is no run but what lies below no known box."""
    return root[16:17] == b"g"


def runs(group: Group) -> dict[Key, Segment]:
    """Return the segments of a task; what lies below no box is one only where there is no box at all."""
    segments = group.segments
    if len(segments) <= 1 or not any(map(is_loose, segments)):
        return segments
    return {root: segment for root, segment in segments.items() if not is_loose(root)}


def newest_segment(group: Group) -> Segment | None:
    """Return the segment that started last."""
    newest = newest_run(group)
    return newest[1] if newest is not None else None


def newest_run(group: Group) -> tuple[Key, Segment] | None:
    """Return the segment that started last, with the key of its root."""
    segments = runs(group)
    if len(segments) <= 1:
        return next(iter(segments.items()), None)
    return max(segments.items(), key=lambda item: (item[1].start_ns, item[0]))


def enter_segment(group: Group, unit: Unit, own: Key, span_id: bytes) -> None:
    """Enter what a unit knows of its segment's beginning and end."""
    segment = group.segments.get(unit.root)
    if segment is None:
        segment = group.segments[unit.root] = Segment()
    is_root = unit.root == own or not group.has_box
    if is_root:
        begins = unit.start_ns if unit.is_box else min((f.first_ns for f in unit.all_facts if f.first_ns), default=0)
        is_earliest = not segment.start_ns or (begins, unit.trace_id) < (segment.start_ns, group.trace_id)
        if begins and not group.has_box and is_earliest:
            group.trace_id = unit.trace_id  # of several in which nothing but its id is known
        if begins and (not segment.start_ns or begins < segment.start_ns):
            segment.start_ns = begins
        for facts in unit.all_facts:
            segment.ending.merge(facts.ending)
        if unit.root == own:
            segment.trace_id, segment.span_id = unit.trace_id, span_id
            segment.goes_on = bool(unit.joined) and unit.group == unit.joined  # below another box it is that one's part
    else:
        for facts in unit.all_facts:
            segment.inner.merge(facts.ending)
    if len(group.segments) > SEGMENT_CAP:
        oldest = min(group.segments, key=lambda k: (group.segments[k].start_ns, k))
        del group.segments[oldest]
