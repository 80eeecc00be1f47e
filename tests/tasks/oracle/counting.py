"""Model calls and tool calls, each once.

A model call that knows its tokens covers the model calls below it; a tool call between them ends the cover.
A tool call inside one of the same name, or without a name, is the same call.
Of the spans that report one call and overlap in time one counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from spanpost.model.readings import Role
from tests.tasks.oracle.tree import Span, Trace

#: Most copies of one call.
CALL_COPIES = 16
#: The name of a tool call that is a part of the one above it.
SAME = "\0"


@dataclass
class Amount:
    """What lies below a span: calls that an outer call covers, other calls, tool calls by name with failures."""

    covered: list[Span] = field(default_factory=list)
    barred: list[Span] = field(default_factory=list)
    #: Calls, failures, and calls that stopped to ask a person.
    tools: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, other: Amount) -> None:
        self.covered += other.covered
        self.barred += other.barred
        for name, (calls, failed, asked) in other.tools.items():
            known = self.tools.get(name, (0, 0, 0))
            self.tools[name] = (known[0] + calls, known[1] + failed, known[2] + asked)

    @property
    def calls(self) -> list[Span]:
        return self.covered + self.barred

    @property
    def tool_calls(self) -> tuple[int, int]:
        """Tool calls, and how many of them failed; one that asked a person and was made again is one."""
        found = [count for name, count in self.tools.items() if name != SAME]
        return sum(n - min(asked, n - asked) for n, _, asked in found), sum(failed for _, failed, _ in found)


def count(traces: list[Trace]) -> None:
    """Set the sums below each owner (`Span.amount`)."""
    _choose([span for trace in traces for span in trace.order if span.best is not None and span.best.call_name])
    for trace in traces:
        below: dict[bytes, Amount] = defaultdict(Amount)
        for span in reversed(trace.order):
            if span.is_root_span or span.is_open:
                span.amount = below[span.id]
                continue
            passed = _passed(span, below[span.id])
            if span.parent is None:
                span.amount = passed
            else:
                below[span.parent.id].add(passed)


def _passed(span: Span, below: Amount) -> Amount:
    """Return the sums of a span with all below it."""
    n = span.best
    assert n is not None
    if span.role is Role.TOOL and span.wins:
        name = SAME if n.r.is_same_call else n.r.tool_name or ""
        same = {name, "", SAME}
        has_failed = (n.r.failure is not None and not n.r.is_interrupt) or any(
            below.tools[s][1] for s in same if s in below.tools
        )
        tools = {other: many for other, many in below.tools.items() if other not in same}
        asks = n.r.is_interrupt and name != ""
        return Amount(barred=below.calls, tools={**tools, name: (1, int(has_failed and not asks), int(asks))})
    if span.role is Role.LLM and not span.wins:
        # It does not count and still covers those below it, but not the copies of named calls: one may count.
        return Amount(
            [call for call in below.covered if call.best is not None and call.best.call_name], below.barred, below.tools
        )
    if span.role is Role.LLM:
        is_known = n.r.usage is not None and n.r.usage.is_known
        if is_known or not any(counts(call) for call in below.covered):
            return Amount([span], below.barred, below.tools)
    return below


def counts(call: Span) -> bool:
    """Return whether a span is one call: data points are of many, and a part of a call is counted with the whole."""
    assert call.best is not None
    return not (call.best.r.is_metered or call.best.r.is_same_call)


def _choose(call_copies: list[Span]) -> None:
    """Choose the span that counts for each call among those that overlap; it may take its cost from the others."""
    by_name: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in call_copies:
        assert span.best is not None
        by_name[span.trace.tenant, span.best.call_name].append(span)
    for of_call in by_name.values():
        ranked = sorted(of_call, key=_rank, reverse=True)[:CALL_COPIES]
        won: list[Span] = []
        for span in ranked:
            span.wins = not any(_overlap(span, other) for other in won)
            if span.wins:
                won.append(span)
        for span in won:
            if cost_of(span) is None and span.role is Role.LLM:
                span.lent = max(
                    (cost for other in ranked if _overlap(span, other) and (cost := cost_of(other))), default=0
                )


def cost_of(span: Span) -> int | None:
    """Return the reported cost of a call, in nano-dollars."""
    usage = span.best.r.usage if span.best is not None and span.role is Role.LLM else None
    return min(round(usage.cost_usd * 10**9), 10**15) if usage is not None and usage.cost_usd is not None else None


def _rank(span: Span) -> tuple[int, int, bytes]:
    """Return how a copy of a call ranks: a span with a parent first, then one that knows more of its tokens."""
    assert span.best is not None
    r = span.best.r
    place = -1 if r.stands_for is not None else 1 if span.parent_id else 0
    known = [r.usage.input, r.usage.output] if r.usage is not None else []
    return place, sum(count is not None for count in known), span.trace.domain + b"c" + span.id


def _overlap(a: Span, b: Span) -> bool:
    (start, end), (other_start, other_end) = _time(a), _time(b)
    return start <= other_end and other_start <= end


def _time(span: Span) -> tuple[int, int]:
    assert span.best is not None
    o = span.best.o
    return o.start_ns or o.at_ns, o.end_ns or o.at_ns
