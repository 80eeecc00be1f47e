"""Facts of the notes of a task: of several values the greatest is kept, by priority, time and content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from spanpost.model.observations import Status
from spanpost.model.readings import EventReport, Failure, Finish, Role
from spanpost.readers.values import doing, is_of_framework, name_of_span
from spanpost.readers.values import name as clean_name
from spanpost.semconv import FINAL_STATUSES
from spanpost.text.locales import ENGLISH
from spanpost.text.sanitise import paragraph
from tests.tasks.oracle.notes import Note
from tests.tasks.oracle.tree import Span

#: Longest texts that are kept, and entries of each kind.
TEXT, LOG, ENTRIES, ACTS = 2000, 8192, 100, 20
#: Most calls that are kept with their starts, and most model calls that are kept with their use.
DEEDS, POINTS = 4, 10
#: Closing on one of these tools is an end, not a question.
_CLOSING = (
    "final_answer",
    "final_result",
    "final_output",
    "final_response",
    "finish",
    "handoff",
    "hand_off",
    "transfer",
)
_CLOSING += ("submit", "return_", "complete_task", "attempt_completion", "structured_output", "structuredoutput")
_CLOSING += ("output_tool", "structured_response", "set_model_response", "exit_loop")

TOOLS_WANTED, PERSON_WANTED = 2, 6  # `Finish.TOOLS`, `Finish.ASKS`

#: How something ended: time, content hash, outcome, type and message of the failure, and why its model stopped.
Closed = tuple[int, bytes, str, str, str, int]


class Said(NamedTuple):
    """One reported value; the greatest is kept."""

    priority: int
    at: int
    key: bytes
    value: Any = None


class Call(NamedTuple):
    """A model call or a tool call that ended. The outcome of a tool is 0 (unknown), 1 (nothing), 2 (something) or
    3 (unknown, and it may wait).
    """

    at: int
    key: bytes
    start: int
    is_tool: bool
    has_failed: bool
    outcome: int
    name: str
    id: str


class Placed(NamedTuple):
    """A note with a role: a copy of a span has its own role, an event has the role of its span."""

    n: Note
    role: Role
    is_ending: bool


class Facts:
    """The facts that the notes of some owners give."""

    def __init__(self, notes: Iterable[tuple[Note, Span]]) -> None:
        everything = [Placed(n, n.r.role if n.is_span else s.role, n.is_ending) for n, s in notes]
        self.all = [p.n for p in everything]
        #: Acts of people, and telemetry. A record that a process stalled adds nothing but its time.
        self.acts = [p.n for p in everything if p.n.is_act]
        self.reported = [p for p in everything if not p.n.is_act and not p.n.r.is_stalled]
        self.stalled = max(((p.n.at, p.n.key) for p in everything if p.n.r.is_stalled and not p.n.is_act), default=None)
        self.spans = [p for p in self.reported if p.n.is_span]
        self.ended = [p for p in self.reported if p.n.is_end]
        #: The role and the current action of a started call come from the note itself.
        self.started = [p for p in self.reported if p.n.is_span and not p.n.is_end]

    # --- times --------------------------------------------------------------------------------------------------------

    @cached_property
    def first_ns(self) -> int:
        return min((n.begins for n, *_ in self.reported if n.begins), default=0)

    @cached_property
    def last_ns(self) -> int:
        return max((n.at for n, *_ in self.reported), default=0)

    @cached_property
    def active_ns(self) -> int:
        """The newest sign of work: a call, something being done, an event that is not quiet."""
        found = [n.begins for n, role, _ in self.started if role in (Role.LLM, Role.TOOL) or _is_doing(n)]
        found += [n.at for n, role, _ in self.ended if role in (Role.LLM, Role.TOOL) and not _is_beside(n, role)]
        found += [n.at for n, *_ in self.reported if not n.is_span and not n.r.is_quiet and n.r.is_of_agent]
        return max(found, default=0)

    # --- who is at work -----------------------------------------------------------------------------------------------

    def earliest(self, field: str, *, of_root_span: bool | None = None) -> Any:
        """Return the value of a field in the earliest span; `of_root_span`: only root spans, or only others."""
        return _value(
            Said(0, *_earliest(n), value)
            for n, role, _ in self.spans
            if (value := getattr(n.r, field)) and (of_root_span is None or of_root_span == role.is_root_span)
        )

    @cached_property
    def own_name(self) -> str | None:
        """The name of the root span: the task's, the agent's, or what its span is called."""
        return self.own_said.value if self.own_said is not None else None

    @cached_property
    def own_said(self) -> Said | None:
        found = [said for n, role, _ in self.spans if role.is_root_span and (said := _name(n, role)) is not None]
        return max(found, key=lambda s: s[:3], default=None)

    @cached_property
    def agent_label(self) -> str | None:
        return self.earliest("agent_label", of_root_span=False)  # type: ignore[no-any-return]

    @cached_property
    def conversation(self) -> str | None:
        return _value(
            Said(int(role.is_root_span), *_earliest(n), n.r.conversation_id)
            for n, role, _ in self.spans
            if n.r.conversation_id
        )  # type: ignore[no-any-return]

    @cached_property
    def is_session(self) -> bool:
        return any(n.r.is_session for n, *_ in self.spans) and not any(n.r.is_unattended for n, *_ in self.spans)

    @cached_property
    def is_beside(self) -> bool:
        return any(n.r.is_aside and not n.is_span for n, *_ in self.reported)

    @cached_property
    def aggregate(self) -> tuple[int | None, int | None] | None:
        """Input and output that a root span reports for all its calls."""
        return _value(
            Said(0, n.o.at_ns, _earliest(n)[1], (n.r.aggregate.input, n.r.aggregate.output))
            for n, role, _ in self.ended
            if role.is_root_span and n.r.aggregate is not None
        )  # type: ignore[no-any-return]

    @cached_property
    def totals_of(self) -> str | None:
        return _value(
            Said(0, n.o.at_ns, _earliest(n)[1], n.r.totals_of)
            for n, role, _ in self.ended
            if role.is_root_span and n.r.aggregate is not None and n.r.totals_of
        )  # type: ignore[no-any-return]

    # --- calls --------------------------------------------------------------------------------------------------------

    @cached_property
    def deeds(self) -> list[Call]:
        """All model calls and tool calls that ended."""
        found = []
        for n, role, _ in self.ended:
            r, failed = n.r, has_failed(n, role)
            if _is_beside(n, role):
                continue
            if role is Role.LLM:
                found.append(
                    Call(n.at, n.key, n.o.start_ns or n.at, False, failed, int(r.finish), "", " ".join(r.asked_ids))
                )
            elif role is Role.TOOL and not r.is_same_call:
                gave = 1 if r.has_no_result or r.is_interrupt else 2 if r.has_result else 3 if r.may_wait else 0
                found.append(
                    Call(n.at, n.key, n.o.start_ns or n.at, True, failed, gave, r.tool_name or "", r.tool_call_id or "")
                )
            elif role is Role.HANDOFF:
                found.append(Call(n.at, n.key, n.o.start_ns or n.at, True, failed, 0, "handoff", ""))
        return sorted(found)

    def last(self, *, is_tool: bool, by: int | None = None) -> Call | None:
        """Return the last model or tool call, of those that had begun by `by`."""
        of_kind = [call for call in self.deeds if call.is_tool == is_tool]
        newest = of_kind[-1] if of_kind else None
        if newest is None or by is None or newest.at <= by:
            return newest
        return next(
            (call for call in reversed(self.deeds[-DEEDS:]) if call.is_tool == is_tool and call.start <= by), None
        )

    def has_failed_last(self, by: int | None = None) -> bool:
        """Return whether the last thing done was a model call, and it failed."""
        call, tool = self.last(is_tool=False, by=by), self.last(is_tool=True, by=by)
        return call is not None and call.has_failed and (tool is None or tool.at <= call.at)

    def open_call(self, by: int | None = None) -> int:
        """Return whether it closed on a tool call without an answer: 0 no, 1 probably, 2 surely."""
        call, tool = self.last(is_tool=False, by=by), self.last(is_tool=True, by=by)
        is_within = (
            tool is not None
            and call is not None
            and {tool, call} <= set(self.deeds[-DEEDS:])
            and call.start <= tool.start
        )
        if tool is None or (call is not None and tool.at <= call.at and not is_within):
            return {TOOLS_WANTED: 1, PERSON_WANTED: 2}.get(call.outcome, 0) if call is not None else 0
        if any(closing in tool.name.lower() for closing in _CLOSING):
            return 0
        return {1: 2, 3: 1}.get(tool.outcome, 0)

    @cached_property
    def begun_ns(self) -> int:
        """The start of the last tool call whose start was reported (ns)."""
        found = [n.begins for n, role, _ in self.started if role is Role.TOOL and not n.r.is_same_call]
        return max([*found, *(n.at for n, *_ in self.reported if n.r.begins_tool)], default=0)

    @cached_property
    def first_call(self) -> tuple[str, str, str] | None:
        """The call with which it began: a model call, or a tool call with its name and id."""
        return _value(
            Said(
                0,
                -n.begins,
                _ended_first(n) + n.key,
                ("tool", n.r.tool_name or "", n.r.tool_call_id or "") if role is Role.TOOL else ("model", "", ""),
            )
            for n, role, _ in self.spans
            if role in (Role.LLM, Role.TOOL) and n.begins and not n.r.is_same_call
        )  # type: ignore[no-any-return]

    @cached_property
    def answered(self) -> tuple[str, ...]:
        """The ids of the tool calls whose results the first model call has got."""
        found = _value(
            Said(0, -n.begins, _ended_first(n) + n.key, n.r.answered_ids)
            for n, role, _ in self.spans
            if role is Role.LLM and n.begins and not n.r.is_same_call
        )
        return found or ()

    @cached_property
    def model(self) -> str | None:
        """The newest model; one of data points, or of a call beside the conversation, only where no other is known."""
        return _value(
            Said(-int(n.r.is_metered or n.r.is_aside), n.at, n.key, n.r.model)
            for n, role, _ in self.ended
            if role is Role.LLM and n.r.model
        )  # type: ignore[no-any-return]

    @cached_property
    def metered_ns(self) -> int:
        return max((n.at for n, role, _ in self.ended if role is Role.LLM and n.r.is_metered), default=0)

    @cached_property
    def failed_turn_ns(self) -> int:
        return max(
            (n.at for n, role, is_ending in self.ended if role is Role.STEP and not is_ending and has_failed(n, role)),
            default=0,
        )

    # --- failures -----------------------------------------------------------------------------------------------------

    @cached_property
    def failure(self) -> Said | None:
        return max(self._failures(), key=lambda said: said[:3], default=None)

    def _failures(self) -> Iterator[Said]:
        for n, role, is_ending in self.reported:
            r = n.r
            if (
                n.is_end
                and not _is_beside(n, role)
                and has_failed(n, role)
                and (r.failure is not None or n.o.status is Status.ERROR)
            ):
                words = _words(r.failure, n)
                yield Said(int(is_ending) if any(words) else -1, n.at, n.key, words)
            if r.failure is not None and r.status in FINAL_STATUSES:
                yield Said(1, n.at, n.key, _words(r.failure, n))
            if r.failure is not None and r.reports is EventReport.ERROR:
                yield Said(0, n.at, n.key, _words(r.failure, n))

    @cached_property
    def failure_words(self) -> tuple[str, str, str] | None:
        return self.failure.value if self.failure is not None else None

    @cached_property
    def exception_ns(self) -> int:
        """When the top of a trace or a root span ended well over an exception."""
        found = [
            n.at
            for n, role, is_ending in self.ended
            if is_ending
            and n.o.exceptions
            and role is not Role.TASK
            and _outcome(n, role) in ("ok", "unset")
            and not _is_beside(n, role)
        ]
        return max(found, default=0)

    @cached_property
    def interrupt_ns(self) -> int:
        return max((n.at for n, *_ in self.reported if n.r.is_interrupt), default=0)

    # --- ends ---------------------------------------------------------------------------------------------------------

    @cached_property
    def closed(self) -> Closed | None:
        return max(
            (
                (
                    n.at,
                    n.key,
                    _outcome(n, role),
                    *(_words(n.r.failure, n)[:2] if has_failed(n, role) else ("", "")),
                    int(n.r.finish) if role is not Role.LLM else 0,
                )
                for n, role, is_ending in self.ended
                if is_ending and not _is_beside(n, role)
            ),
            default=None,
        )

    @cached_property
    def final(self) -> tuple[int, bytes, str] | None:
        """The final status that was said first: its negative time, content hash, status."""
        return max(
            ((-n.at, n.key, n.r.status) for n, *_ in self.reported if n.r.status in FINAL_STATUSES), default=None
        )

    @cached_property
    def gone(self) -> tuple[int, bytes] | None:
        return max(((n.at, n.key) for n, *_ in self.reported if n.r.is_gone), default=None)

    @cached_property
    def rested(self) -> tuple[int, bytes] | None:
        return max(((n.at, n.key) for n, *_ in self.reported if n.r.rests), default=None)

    @cached_property
    def is_limited(self) -> bool:
        """Whether an event says that it stopped at its maximum of steps."""
        return any(n.r.finish is Finish.STEPS and not n.is_span for n, *_ in self.reported)

    @cached_property
    def idle_ns(self) -> int:
        return max((n.at for n, *_ in self.reported if n.r.is_idle), default=0)

    # --- progress -----------------------------------------------------------------------------------------------------

    @cached_property
    def status(self) -> Said | None:
        """The newest status that ends nothing."""
        said = [
            Said(0, n.at, n.key, n.r.status)
            for n, *_ in self.reported
            if n.r.status and n.r.status not in FINAL_STATUSES
        ]
        return max(said, key=lambda s: s[:3], default=None)

    def newest(self, field: str) -> Any:
        """Return the newest value of a field."""
        return _value(
            Said(0, n.at, n.key, value) for n, *_ in self.reported if (value := getattr(n.r, field)) is not None
        )

    @cached_property
    def action(self) -> str | None:
        """The current action as the agent reports it."""
        return _value(Said(0, n.at, n.key, n.r.action[:TEXT]) for n, *_ in self.reported if n.r.action)  # type: ignore[no-any-return]

    @cached_property
    def doing(self) -> str | None:
        """The call that began last, unless it has ended; else the newest open tool of those that are kept."""
        said = [Said(0, n.begins, b"0" + n.key, words) for n, *_ in self.started if (words := _doing(n)) is not None]
        said += [
            Said(0, n.begins, b"1" + n.key, None)
            for n, *_ in self.ended
            if n.o.parent_id and n.r.role in (Role.LLM, Role.TOOL, Role.STEP)
        ]
        found = _value(said)
        if found is not None:
            return found  # type: ignore[no-any-return]
        return self._open_tool

    @cached_property
    def is_asking_model(self) -> bool:
        """True while a model call is the newest thing that began."""
        said = [
            Said(0, n.begins, b"0" + n.key, n.r.role is Role.LLM) for n, *_ in self.started if _doing(n) is not None
        ]
        said += [
            Said(0, n.begins, b"1" + n.key, False)
            for n, *_ in self.ended
            if n.o.parent_id and n.r.role in (Role.LLM, Role.TOOL, Role.STEP)
        ]
        return bool(_value(said))

    @cached_property
    def _open_tool(self) -> str | None:
        is_open = [(s.value[1], s.value[0]) for s in self.tool_steps.values() if not s.value[2]]
        return f"tool: {max(is_open)[1]}" if is_open else None

    @cached_property
    def step_count(self) -> Said | None:
        """The number of steps that was stated last."""
        said = [
            Said(0 if n.r.is_plan or n.r.step_key else 1, n.at, n.key, n.r.step_count)
            for n, *_ in self.reported
            if n.r.step_count is not None
        ]
        return max(said, key=lambda s: s[:3], default=None)

    @cached_property
    def checkpoint(self) -> Said | None:
        """The last checkpoint that the agent reported."""
        said = [
            Said(0, n.at, n.key, (ENGLISH.tell(r.locale_message) if r.locale_message else None) or _reported_words(n))
            for n, *_ in self.reported
            if (r := n.r).reports is EventReport.CHECKPOINT
        ]
        return max(said, key=lambda s: s[:3], default=None)

    def words(self, field: str) -> str | None:
        """Return what was asked first, or answered last: of the whole run rather than of one call."""
        said = [
            Said(int(n.r.is_of_run), -n.begins if field == "ask" else n.at, n.key, text)
            for n, *_ in self.reported
            if (text := getattr(n.r, field)) is not None and not n.r.is_aside
        ]
        return _value(said) or None

    @cached_property
    def step(self) -> tuple[str | None, int | None, int | None] | None:
        """Name, index and count of the current step; the agent's own words stand above a plan that it wrote down."""
        return _value(
            Said(
                0 if n.r.is_plan or n.r.step_key else 1,
                n.at,
                n.key,
                (None if n.r.is_plan and not n.r.step_name else _step_name(n), n.r.step_index, n.r.step_count),
            )
            for n, *_ in self.reported
            if n.r.step_name or (n.r.step_index is not None and n.r.says_something)
        )  # type: ignore[no-any-return]

    @cached_property
    def steps(self) -> dict[str, Said]:
        """Steps by their keys: name, index and beginning, from the earliest report."""
        found: dict[str, list[Said]] = defaultdict(list)
        for n, *_ in self.reported:
            r = n.r
            if not (r.step_name or (r.step_index is not None and not r.is_plan and r.says_something)):
                continue
            is_numbered = r.step_index is not None and 0 <= r.step_index < 10**9
            entry = r.step_key or (f"{r.step_index:09d}" if is_numbered else f"~{_step_name(n)}")
            began = n.begins if n.is_span else n.at
            is_sure = not n.is_span or bool(r.step_key and n.is_end)
            found[entry].append(Said(int(is_sure), -began, n.key, (_step_name(n), r.step_index, began)))
        return _entries(found)

    @cached_property
    def tool_steps(self) -> dict[str, Said]:
        """The newest tool calls: name, beginning and end, the span above, and whether it stopped to ask a person."""
        found: dict[str, list[Said]] = defaultdict(list)
        for n, role, _ in self.spans:
            if role is Role.TOOL and n.r.tool_name:
                entry = f"{2**63 - 1 - n.begins:019d}{n.o.span_id.hex()}"
                name = clean_name(n.r.tool_name) or "a tool"
                found[entry].append(
                    Said(int(n.is_end), n.at, n.key, (name, n.begins, n.o.end_ns, n.o.parent_id, n.r.is_interrupt))
                )
        return _entries(found, ACTS)

    def by_name(self, field: str) -> dict[str, Any]:
        """Return the newest value of each name of a field."""
        found: dict[str, list[Said]] = defaultdict(list)
        for n, *_ in self.reported:
            for name, value in getattr(n.r, field).items():
                found[name].append(Said(0, n.at, n.key, value))
        return {name: said.value for name, said in _entries(found).items()}

    @cached_property
    def artifacts(self) -> dict[str, Said]:
        found: dict[str, list[Said]] = defaultdict(list)
        for n, *_ in self.reported:
            if (a := n.r.artifact) is not None:
                found[a.key[:TEXT]].append(Said(0, n.at, n.key, a))
        return _entries(found)

    @cached_property
    def costs(self) -> dict[tuple[bytes, bytes], int]:
        """The costs that root spans report, in nano-dollars, by trace and span."""
        found: dict[str, list[Said]] = defaultdict(list)
        for n, role, _ in self.reported:
            if n.r.cost_usd is not None and role.is_root_span:
                where = (n.o.trace_id, n.o.span_id)
                cost = min(round(n.r.cost_usd * 10**9), 10**15)
                found[f"{where[0].hex()}{where[1].hex()}"].append(Said(0, n.at, n.key, (where, cost)))
        return dict(said.value for said in _entries(found).values())

    def attributes(self, names: Iterable[str]) -> dict[str, str]:
        """Return attributes: the root span's before its process's, then those of spans below it; the earliest."""
        found: dict[str, list[Said]] = defaultdict(list)
        for n in self.all:
            for name in names:
                for rank, source in ((2 if n.r.role.is_root_span else 0, n.o.attributes), (1, n.o.origin.resource)):
                    value = source.get(name)
                    if isinstance(value, (str, int, float)):
                        shown = str(value).lower() if isinstance(value, bool) else str(value)
                        found[name].append(Said(rank, -(n.o.start_ns or n.o.at_ns), n.key, shown[:200]))
        return {name: said.value for name, said in _entries(found).items()}

    @cached_property
    def compacted_ns(self) -> int:
        return max(
            (n.o.start_ns or n.at for n, *_ in self.reported if n.r.reports is EventReport.COMPACTION), default=0
        )

    @cached_property
    def has_questions(self) -> bool:
        return any(n.r.approval is not None for n in [*self.acts, *(p.n for p in self.reported)])

    @cached_property
    def says_more_than_calls(self) -> bool:
        """Return whether there is anything but calls to show."""
        return bool(
            self.steps
            or self.artifacts
            or self.costs
            or self.has_questions
            or any(n.r.links or n.r.results for n, *_ in self.reported)
        )


def _value(said: Iterable[Said]) -> Any:
    """Return the value of the greatest."""
    greatest = max(said, key=lambda s: s[:3], default=None)
    return greatest.value if greatest is not None else None


def _entries(found: dict[str, list[Said]], most: int = ENTRIES) -> dict[str, Said]:
    """Return the greatest of each entry, and the entries that sort first."""
    return {name: max(found[name], key=lambda s: s[:3]) for name in sorted(found)[:most]}


def _ended_first(n: Note) -> bytes:
    return b"\1" if n.is_end else b"\0"


def _earliest(n: Note) -> tuple[int, bytes]:
    """Return the rank of a span: the earlier first; of two at one moment the ended one first."""
    return -n.begins, _ended_first(n) + n.o.span_id + _ended_first(n) + n.key


def _name(n: Note, role: Role) -> Said | None:
    if n.r.task_name:
        return Said(3, *_earliest(n), n.r.task_name[:TEXT])
    if n.r.agent_name:
        return Said(2 if role is Role.AGENT else 1, *_earliest(n), n.r.agent_name[:TEXT])
    called = name_of_span(n.o.name) if n.o.name else None
    if not n.o.name or (called is not None and called == n.r.model):
        return None
    if called is not None and is_of_framework(called):
        return Said(-1, *_earliest(n), called[:TEXT])
    return Said(0 if called is not None else -1, *_earliest(n), n.o.name[:TEXT])


def _reported_words(n: Note) -> str:
    return (n.r.message or n.r.action or n.r.step_name or n.o.name)[:TEXT]


def _step_name(n: Note) -> str:
    return (n.r.step_name or f"Step {n.r.step_index}")[:TEXT]


def _ends_what_is_done(n: Note) -> bool:
    return bool(n.o.parent_id) and n.r.role in (Role.LLM, Role.TOOL, Role.STEP)


def _is_doing(n: Note) -> bool:
    return n.r.role in (Role.LLM, Role.TOOL) or (n.r.role is Role.STEP and bool(n.o.parent_id))


def _doing(n: Note) -> str | None:
    if not _is_doing(n):
        return None
    if n.r.role is Role.LLM:
        return (f"model: {n.r.model}" if n.r.model else "asking the model")[:TEXT]
    name = (clean_name(n.r.tool_name) or "a tool") if n.r.tool_name else doing(n.o.name)
    return None if name is None else (f"tool: {name}" if n.r.role is Role.TOOL else name)[:TEXT]


def _is_beside(n: Note, role: Role) -> bool:
    """Return whether only the use of a call counts: a sum of many calls, or a call beside a session that waits."""
    return (role is Role.LLM and (n.r.is_metered or n.r.is_quiet)) or (role is Role.TOOL and n.r.is_quiet)


def has_failed(n: Note, role: Role) -> bool:
    """Return whether an ended span failed; a call may say OK over an exception."""
    r = n.r
    if r.is_interrupt or r.is_handoff:
        return False
    if r.failure is not None or n.o.status is Status.ERROR:
        return True
    is_unanswered = role is Role.TOOL or (role is Role.LLM and (r.usage is None or not r.usage.is_known))
    return bool(n.o.exceptions) and not r.has_no_result and is_unanswered


def _outcome(n: Note, role: Role) -> str:
    if n.r.is_cancelled:
        return "cancelled"
    if has_failed(n, role):
        return "error"
    return "ok" if n.o.status is Status.OK or n.r.is_handoff else "unset"


def _words(failure: Failure | None, n: Note) -> tuple[str, str, str]:
    """Return type, message and log of a failure."""
    if failure is None:
        return "", n.o.status_message[:TEXT], ""
    return (
        failure.type[:200],
        (failure.message or (n.o.status_message if failure.type else ""))[:TEXT],
        (failure.log_tail if len(failure.log_tail) <= LOG else paragraph(failure.log_tail, LOG, keep="tail")),
    )
