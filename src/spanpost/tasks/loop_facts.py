"""What is known of an agent run's calls, as far as loops are judged by it: the newest of each sort.

Rules. A tool call is known by its span: of its copies the greatest stands. Of calls, of model calls and of
reports a fixed number is kept, the newest. So the facts merge in any order and any number of times to the
same, and their size is bounded whatever is sent.
"""

from __future__ import annotations

from bisect import insort
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from zlib import crc32

import msgspec

from spanpost.model.interventions import Verb
from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import EventReport, Reading, Role
from spanpost.readers.call_hashes import CallHash

#: Tool calls, model calls and reports kept of one agent run.
CALL_CAP, TURN_CAP, MARK_CAP = 64, 64, 16
#: Characters kept of a tool's name.
_NAME = 64

_ENDED, _INTERVENTION = Part.ENDED, Part.INTERVENTION
_LLM, _TOOL = Role.LLM, Role.TOOL
_NOTHING = EventReport.NOTHING
_PROGRESS = (EventReport.CHECKPOINT, EventReport.ARTIFACT, EventReport.APPROVAL_RESOLVED)
_tuple = tuple.__new__


class ToolCall(NamedTuple):
    """A tool call that ended. The order of fields is its rank."""

    at_ns: int
    span: bytes
    #: Number of attributes: of two copies the one that says more stands.
    size: int
    start_ns: int
    tool: str
    #: What it showed, as a hash: the same arguments with the same result, or the same error. Empty: unknown.
    shown: bytes
    #: The arguments alone; empty: unknown.
    arguments: bytes
    #: The call's own id, where it has one.
    call: int
    has_failed: bool
    #: Its result says that something is not ready yet.
    is_waiting: bool = False


class Turn(NamedTuple):
    """A model call that ended, and its input tokens; 0: unknown."""

    at_ns: int
    span: bytes
    start_ns: int
    tokens: int


class Mark(NamedTuple):
    """Something that was reported: progress, when it says what was not said before."""

    at_ns: int
    said: bytes


T = TypeVar("T", Turn, Mark)


class LoopFacts(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """The newest calls and reports of an agent run, each list in order of time."""

    calls: list[ToolCall] = []
    turns: list[Turn] = []
    marks: list[Mark] = []

    def add_call(self, call: ToolCall) -> None:
        """Keep a tool call if it is among the newest."""
        calls = self.calls
        if calls and call <= calls[-1]:
            known = next((one for one in calls if one.span == call.span), None)
            if known is not None:
                if known >= call:
                    return
                calls.remove(known)
            insort(calls, call)
        else:
            if calls:
                self.calls = calls = [one for one in calls if one.span != call.span]
            calls.append(call)
        if len(calls) > CALL_CAP:
            del calls[0]

    def add_turn(self, turn: Turn) -> None:
        """Keep a model call if it is among the newest."""
        _keep(self.turns, turn, TURN_CAP)

    def add_mark(self, mark: Mark) -> None:
        """Keep a report if it is among the newest."""
        _keep(self.marks, mark, MARK_CAP)

    def merge(self, other: LoopFacts) -> None:
        """Add what the other knows."""
        if other.calls != self.calls:
            for call in other.calls:
                self.add_call(call)
        if other.turns != self.turns:
            self.turns = sorted({*self.turns, *other.turns})[-TURN_CAP:]
        if other.marks != self.marks:
            self.marks = sorted({*self.marks, *other.marks})[-MARK_CAP:]


def _keep(kept: list[T], one: T, cap: int) -> None:
    if not kept or one > kept[-1]:
        kept.append(one)
    elif one in kept:
        return
    else:
        insort(kept, one)
    if len(kept) > cap:
        del kept[0]


def call_of(o: Observation, r: Reading, hashed: CallHash) -> ToolCall:
    """Return a tool call that ended, as it is kept."""
    tool = (r.tool_name or o.name)[:_NAME]
    arguments, outcome, is_conclusive, is_waiting = hashed
    is_error = has_failed(o, r)
    # An error or a long result counts whatever the arguments were.
    shown = outcome if is_error or is_conclusive else _mixed(arguments, outcome) if arguments else b""
    return _tuple(
        ToolCall,
        (
            o.end_ns or o.at_ns,
            o.span_id,
            len(o.attributes) + o.unread,
            o.start_ns or o.at_ns,
            tool,
            shown,
            arguments,
            _number(r.call_key or r.tool_call_id or ""),
            is_error,
            is_waiting,
        ),
    )


def has_failed(o: Observation, r: Reading) -> bool:
    """Tell whether a tool call failed."""
    return not (r.is_interrupt or r.is_handoff) and (r.failure is not None or o.status is Status.ERROR)


def turn_of(o: Observation, r: Reading) -> Turn:
    """Return a model call that ended, as it is kept."""
    tokens = r.usage.input if r.usage is not None else None
    at_ns = o.end_ns or o.at_ns
    return _tuple(Turn, (at_ns, o.span_id[:4], o.start_ns or at_ns, min(tokens or 0, 2**62)))


def mark_of(o: Observation, r: Reading) -> Mark | None:
    """Return what an observation reports of progress; None where it reports none.

    A person's act is progress: the agent has something new to go by.
    """
    if o.part is _INTERVENTION:
        has_more_to_go_by = r.act is not None and r.act.verb in (Verb.MESSAGE, Verb.RESUME)
        if not has_more_to_go_by and (r.approval is None or not r.approval.decision):
            return None
        return Mark(o.at_ns, o.index.to_bytes(16, "big")[:8])
    if r.reports in _PROGRESS:
        what: tuple[object, ...] = (
            r.message,
            r.action,
            r.step_name,
            r.artifact and r.artifact.key,
            r.approval and (r.approval.id, r.approval.decision),
            r.progress,
            r.locale_message and sorted(r.locale_message.values.items(), key=str),
        )
    elif r.progress is not None or r.step_index is not None or r.step_name:
        what = (r.step_name, r.step_index, r.progress)
    else:
        return None
    return Mark(o.at_ns, blake2b(repr(what).encode("utf-8", "replace"), digest_size=8).digest())


def _mixed(arguments: bytes, outcome: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(arguments, outcome, strict=True)) if outcome else arguments


def _number(id: str) -> int:
    """Return a number that differs between calls; 0 without an id."""
    return crc32(id.encode("utf-8", "replace")) or 1 if id else 0
