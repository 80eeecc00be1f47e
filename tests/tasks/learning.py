"""Facts for tables: built from observations, without spans, readers or a store."""

from __future__ import annotations

from typing import Any, NamedTuple

from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import Reading
from spanpost.tasks.absorb import absorb
from spanpost.tasks.facts import Facts

SECOND = 10**9
TRACE, SPAN = b"t" * 16, b"s" * 8


class Say(NamedTuple):
    """One observation: its reading, when it began and ended (seconds), and the rest of the observation."""

    r: Reading
    begins: int
    ends: int
    #: It is the top of its trace or a root span: its end ends a task or a run.
    is_ending: bool
    more: dict[str, Any]


def ended(r: Reading, begins: int, ends: int, *, is_ending: bool = False, **more: Any) -> Say:
    return Say(r, begins, ends, is_ending, {"part": Part.ENDED, **more})


def root(r: Reading, ends: int, *, begins: int = 1, status: Status = Status.UNSET, **more: Any) -> Say:
    return ended(r, begins, ends, is_ending=True, status=status, **more)


def started(r: Reading, begins: int, **more: Any) -> Say:
    return Say(r, begins, begins, False, {"part": Part.STARTED, **more})


def event(r: Reading, at: int, **more: Any) -> Say:
    return Say(r, 0, at, False, {"part": Part.EVENT, **more})


def learned(*said: Say) -> Facts:
    """Return the facts that observations give, in the order of the arguments."""
    facts = Facts()
    for r, begins, ends, is_ending, more in said:
        is_end = more["part"] is Part.ENDED
        given = {
            "trace_id": TRACE,
            "span_id": SPAN,
            "name": "span",
            "at_ns": ends * SECOND,
            "start_ns": begins * SECOND,
        }
        o = Observation(**{**given, "end_ns": ends * SECOND if is_end else 0, **more})
        absorb(facts, o, r, ends.to_bytes(16, "big"), role=r.role, is_ending=is_ending)
    return facts
