"""The newest model call and tool call of a run, and whether they left something open.

Rules. What begins after a run has ended says nothing about how it ended: a tool that cleans up afterwards
leaves no question open, a summary that fails afterwards fails no run. It may close what was open: a late
answer to a tool call answers it.

Theory. The end may become known before or after what follows it, so the newest few calls are kept with their
starts, and selected as of the end when that is judged. Where all kept calls began after the end, they
conclude nothing.
"""

from __future__ import annotations

import msgspec

from spanpost.model.readings import Finish
from spanpost.readers.asked_tools import CLOSING
from spanpost.tasks.facts import Facts

#: Whether a run left a tool call open: not, probably (a model asked for a tool and none was called), surely (the tool
#: is known to have no result, or to need a person).
NOT_OPEN, MAYBE_OPEN, OPEN = 0, 1, 2


class Called(msgspec.Struct, frozen=True, gc=False):
    """A model call or a tool call that ended."""

    at: int
    has_failed: bool
    #: Of a model call its `Finish`; of a tool its result: unknown (0), nothing (1), something (2), unknown and it
    #: may wait (3).
    outcome: int
    name: str = ""
    #: Of a model call the ids of the tool calls that it asks for, separated by spaces.
    id: str = ""
    #: 0: it is not among the newest calls.
    start: int = 0


class Last(msgspec.Struct, frozen=True, gc=False):
    """The newest model call and the newest tool call."""

    call: Called | None = None
    tool: Called | None = None

    @property
    def has_failed(self) -> bool:
        """True when the newest call is a model call that failed."""
        return self.call is not None and self.call.has_failed and (self.tool is None or self.tool.at <= self.call.at)

    @property
    def open_call(self) -> int:
        """Whether the run closed on a tool call without an answer. A tool that ran and ended asks nobody."""
        call, tool = self.call, self.tool
        if tool is not None and (call is None or tool.at > call.at or _is_within(tool, call)):
            is_open = OPEN if tool.outcome == 1 else MAYBE_OPEN if tool.outcome == 3 else NOT_OPEN
            return is_open if CLOSING.search(tool.name) is None else NOT_OPEN
        if call is None:
            return NOT_OPEN
        return OPEN if call.outcome == Finish.ASKS else MAYBE_OPEN if call.outcome == Finish.TOOLS else NOT_OPEN


def _is_within(tool: Called, call: Called) -> bool:
    """Tell whether a tool ran while the call that asked for it was still streamed, or spans the calls of many turns."""
    return 0 < call.start <= tool.start


def last(facts: Facts) -> Last:
    """Return the newest calls of all that are known."""
    call, tool = facts.call, facts.tool
    return Last(
        Called(
            call.at_ns,
            call.value.has_failed,
            call.value.outcome,
            id=call.value.id,
            start=_start(facts, call.at_ns, is_tool=False),
        )
        if call is not None
        else None,
        Called(
            tool.at_ns,
            tool.value.has_failed,
            tool.value.outcome,
            tool.value.name,
            tool.value.id,
            _start(facts, tool.at_ns, is_tool=True),
        )
        if tool is not None
        else None,
    )


def _start(facts: Facts, at_ns: int, *, is_tool: bool) -> int:
    """Return the start of the newest call of its kind; of several that end together the greatest key counts."""
    for deed in reversed(facts.deeds):
        if deed.is_tool == is_tool:
            return deed.start_ns if deed.at_ns == at_ns else 0
    return 0


def last_by(facts: Facts, end_ns: int) -> Last:
    """Return the newest calls that had begun by then."""
    newest = last(facts)
    call, tool = newest.call, newest.tool
    if call is not None and call.at > end_ns:
        call = _begun(facts, end_ns, is_tool=False)
    if tool is not None and tool.at > end_ns:
        tool = _begun(facts, end_ns, is_tool=True)
    return newest if call is newest.call and tool is newest.tool else Last(call, tool)


def _begun(facts: Facts, end_ns: int, *, is_tool: bool) -> Called | None:
    for deed in reversed(facts.deeds):
        if deed.is_tool == is_tool and deed.start_ns <= end_ns:
            return Called(deed.at_ns, deed.has_failed, deed.outcome, deed.name, deed.id, deed.start_ns)
    return None
