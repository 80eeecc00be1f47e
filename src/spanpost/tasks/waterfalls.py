"""What the calls of a task were, for its waterfall: names, tokens, cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from spanpost.model.observations import Observation, Part, Status
from spanpost.model.readings import Reading, Role
from spanpost.model.usage import Usage
from spanpost.model.waterfalls import Bar, Use
from spanpost.readers import read
from spanpost.tasks.folded import PriceSource
from spanpost.tasks.times import moment

_KINDS = {Role.STEP: "step", Role.LLM: "llm", Role.TOOL: "tool", Role.HANDOFF: "handoff"}
_UNKNOWN = Usage()


class OwnedCall(msgspec.Struct, frozen=True):
    """An observation of a call, and its task."""

    task_uid: UUID
    observation: Observation


def bar_of(one: OwnedCall, prices: PriceSource | None) -> Bar | None:
    """Return a call's bar; None for what is no call, and for a part of another call."""
    o, reading = one.observation, read(one.observation)
    began = moment(o.start_ns or o.at_ns)
    if began is None or reading.role not in _KINDS or reading.is_same_call:
        return None
    usage = _usage(o, reading, prices)
    return Bar(
        task_uid=one.task_uid,
        kind=_KINDS[reading.role],
        name=reading.tool_name or reading.step_name or (reading.role is Role.LLM and reading.model) or o.name,
        started_at=began,
        ended_at=moment(o.end_ns) if o.part is Part.ENDED else None,
        errors=int(o.status is Status.ERROR),
        span_id=o.span_id,
        trace_id=o.trace_id,
        model=reading.model,
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cost_usd=usage.cost_usd,
    )


def uses_of(calls: Iterable[OwnedCall], whole: Decimal | None, prices: PriceSource | None) -> list[Use]:
    """Return context and cost after each model call, in order of time.

    A response that several spans report counts once. The line of cost ends at `whole`, the cost of the tasks, even
    where `calls` are a part of them.
    """
    found: dict[object, tuple[datetime, UUID, Usage]] = {}
    for one in sorted(calls, key=lambda call: call.observation.at_ns):
        o, reading = one.observation, read(one.observation)
        at = moment(o.end_ns or o.at_ns)
        if at is None or reading.usage is None or reading.role is not Role.LLM:
            continue
        key = reading.response_id or (o.trace_id, o.span_id)
        found.setdefault(key, (at, one.task_uid, _usage(o, reading, prices)))
    known = sum((usage.cost_usd for _, _, usage in found.values() if usage.cost_usd is not None), Decimal(0))
    scale = whole / known if whole is not None and known else Decimal(1)
    spent, out = Decimal(0), []
    for at, uid, usage in found.values():
        spent += usage.cost_usd or 0
        cost = round(spent * scale, 9) if known else None
        out.append(Use(task_uid=uid, at=at, used_tokens=usage.input, cost_usd=cost))
    return out


def _usage(o: Observation, reading: Reading, prices: PriceSource | None) -> Usage:
    if reading.usage is None:
        return _UNKNOWN
    return reading.usage if prices is None else prices.priced(o, reading.provider, reading.model, reading.usage)
