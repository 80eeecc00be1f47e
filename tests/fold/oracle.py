"""An independent count: a recursive walk over a finished history, with the rules of counting and none of the machinery."""

from __future__ import annotations

from spanpost.domain.observations import Part
from spanpost.domain.readings import Role
from spanpost.fold.batch import Placed

Sum = dict[str, int]


def figures(history: list[Placed]) -> Sum:
    """Return calls, tokens and tool calls over all tasks of a history, calls and input by model too."""
    copies: dict[tuple[bytes, bytes], Placed] = {}
    for p in history:
        o = p.observation
        if o.part in (Part.ENDED, Part.STARTED):
            key = (o.trace_id, o.span_id)
            if key not in copies or _rank(p) > _rank(copies[key]):
                copies[key] = p
    children: dict[tuple[bytes, bytes], list[tuple[bytes, bytes]]] = {}
    for key, p in copies.items():
        parent = p.observation.parent_id
        children.setdefault((key[0], parent), []).append(key)
    winners = _winners(copies)
    total: Sum = {"calls": 0, "input": 0, "output": 0, "tools": 0}
    for key, p in copies.items():
        parent = (key[0], p.observation.parent_id)
        if _is_open(p):
            continue  # what lies below it is counted child by child
        if p.reading.role.is_box or not p.observation.parent_id or parent not in copies or _is_open(copies[parent]):
            _collect(key, copies, children, winners, total)
    return total


def _rank(p: Placed) -> tuple[bool, int, int, bytes]:
    """Return how a copy of a span ranks: ended, newest, most said."""
    o = p.observation
    return o.part is Part.ENDED, o.at_ns, len(o.attributes), p.content_hash


def _is_open(p: Placed) -> bool:
    return p.observation.part is Part.STARTED and p.reading.role in (Role.OTHER, Role.STEP, Role.PLUMBING)


def _collect(key, copies, children, winners, total) -> None:  # type: ignore[no-untyped-def]
    """Count what one top or box holds, down to the next boundary."""
    p = copies[key]
    if p.reading.role.is_box:
        below = [_below(child, copies, children, winners) for child in children.get(key, [])]
    else:
        below = [_below(key, copies, children, winners)]
    for calls, names in below:
        for _, usage in calls:
            total["calls"] += 1
            total["input"] += usage[0]
            total["output"] += usage[1]
            total[f"calls of {usage[2]}"] = total.get(f"calls of {usage[2]}", 0) + 1
            total[f"input of {usage[2]}"] = total.get(f"input of {usage[2]}", 0) + usage[0]
        total["tools"] += sum(names.values())


def _below(key, copies, children, winners):  # type: ignore[no-untyped-def]
    """Return the calls that a span passes up, each with how it may be covered, and tool calls by name."""
    p = copies[key]
    if p.reading.role.is_box or _is_open(p):
        return [], {}
    calls, tools = [], {}
    for child in children.get(key, []):
        inner, names = _below(child, copies, children, winners)
        calls += inner
        for name, n in names.items():
            tools[name] = tools.get(name, 0) + n
    r = p.reading
    if r.role is Role.TOOL:
        tools = {name: n for name, n in tools.items() if name and name != r.tool_name}
        tools[r.tool_name or ""] = 1
        return [("barred", usage) for _, usage in calls], tools
    if r.role is Role.LLM:
        used = (r.usage.input or 0, r.usage.output or 0) if r.usage else (0, 0)
        own = ("slotted" if r.response_id else "plain", (*used, r.model or ""))
        barred = [c for c in calls if c[0] == "barred"]
        if key not in winners and r.response_id:
            return [c for c in calls if c[0] == "slotted"] + barred, tools
        if r.usage is not None or not any(c[0] != "barred" for c in calls):
            return [own, *barred], tools
    return calls, tools


def _winners(copies: dict[tuple[bytes, bytes], Placed]) -> set[tuple[bytes, bytes]]:
    """Of the copies of one response that overlap in time, the one with a parent, with tokens, with the greatest key."""
    by_response: dict[str, list[tuple[bytes, bytes]]] = {}
    for key, p in copies.items():
        if p.reading.response_id and p.reading.role is Role.LLM:
            by_response.setdefault(p.reading.response_id, []).append(key)
    won: set[tuple[bytes, bytes]] = set()
    for keys in by_response.values():

        def rank(key: tuple[bytes, bytes]) -> tuple[int, int, bytes]:
            p = copies[key]
            known = p.reading.usage is not None and p.reading.usage.is_known
            return (1 if p.observation.parent_id else 0, 1 if known else 0, p.domain + b"c" + key[1])

        def span(key: tuple[bytes, bytes]) -> tuple[int, int]:
            o = copies[key].observation
            return o.start_ns or o.at_ns, o.end_ns or o.at_ns

        chosen: list[tuple[bytes, bytes]] = []
        for key in sorted(keys, key=rank, reverse=True):
            start, end = span(key)
            if not any(start <= span(other)[1] and span(other)[0] <= end for other in chosen):
                chosen.append(key)
        won.update(chosen)
    return won
