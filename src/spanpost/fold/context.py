"""Context windows: how full, and when to warn.

Rules. Use is a model call's input tokens, cache included, per lane (task and model). A threshold is told once per climb; a
lane is re-armed by a compaction (a drop of 30 % or more that the next call confirms) or a new conversation. A call older
than its lane's newest never tells.

Theory. The climb's number, not a time, is part of a warning's id: whatever subset of a history is seen in order, the n-th
climb's warnings have the same ids, so no order tells one twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from spanpost.fold.records import Lane

#: A drop to this share of the former use, or below, may be a compaction.
DROP = 0.7

_DATE = re.compile(r"[-@:](?:\d{4}-?\d{2}-?\d{2}|\d{4,8}|latest|preview|v\d+(?::\d+)?)$")


class Judged(msgspec.Struct, frozen=True):
    """What a call made us conclude: a threshold crossed (per mille), or a compaction (0)."""

    threshold: int
    climb: int
    used: int
    window: int
    before: int = 0


def canonical_model(model: str) -> str:
    """Return the model's name without provider prefixes, dates and suffixes, lower case."""
    name = model.strip().lower().rsplit("/", 1)[-1]
    for _ in range(3):
        shorter = _DATE.sub("", name)
        if shorter == name or not shorter:
            break
        name = shorter
    return name


def window_of(model: str | None, table: Mapping[str, int]) -> int | None:
    """Return the context window of a model from a table of canonical names; None when unknown."""
    if not model:
        return None
    exact = table.get(model)
    if exact is not None:
        return exact
    name = canonical_model(model)
    known = table.get(name)
    if known is None and "." in name:  # Bedrock: anthropic.claude-…, us.anthropic.claude-…
        known = table.get(name.rsplit(".", 1)[-1])
    return known


def judge(
    lane: Lane, at_ns: int, key: bytes, used: int, window: int | None, conversation: str, warn_at: tuple[int, ...]
) -> list[Judged]:
    """Take a call into its lane, in place, and return what is to be told. `warn_at` is in per mille, ascending."""
    if (at_ns, key) <= (lane.newest_ns, lane.newest_key):
        return []
    out: list[Judged] = []
    if conversation and lane.conversation and conversation != lane.conversation:
        _rearm(lane)
    if conversation:
        lane.conversation = conversation
    if lane.drop is not None:
        before, after = lane.drop
        lane.drop = None
        if used <= before * DROP:
            _rearm(lane)
            out.append(Judged(threshold=0, climb=lane.climb, used=after, window=window or 0, before=before))
    if lane.used and used <= lane.used * DROP and not out:
        lane.drop = (lane.used, used)
    lane.newest_ns, lane.newest_key, lane.used = at_ns, key, used
    if window and lane.drop is None:
        share = used * 1000 // window
        for threshold in warn_at:
            if share >= threshold and threshold not in lane.warned:
                lane.warned.append(threshold)
                out.append(Judged(threshold=threshold, climb=lane.climb, used=used, window=window))
    return out


def _rearm(lane: Lane) -> None:
    lane.climb += 1
    lane.warned = []
    lane.drop = None
