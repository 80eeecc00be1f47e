"""What the data points of a coding CLI mean: the use of a session, where neither records nor spans report it."""

from __future__ import annotations

from typing import Any

import msgspec

from spanpost import semconv as c
from spanpost.model.readings import METERED, Reading, Role
from spanpost.model.usage import Usage
from spanpost.readers import values as v
from spanpost.readers.session_records import SessionRecord, TokenMeter

#: `Observation.kind` of a data point: its temporality as OTLP numbers it.
DELTA, CUMULATIVE = 1, 2


def read_point(r: SessionRecord, meter: TokenMeter) -> Reading | None:
    if not r.session or (meter is TokenMeter.SESSION and r.attributes.get("start_type") == "agents_view"):
        return None
    trace = r.hash(16, "meters")
    common: dict[str, Any] = {
        "rule": f"{r.cli.name}: data points",
        "task_id": r.session,
        "conversation_id": r.session,
        "agent_label": r.cli.agent,
        **r.of_process(),
        "is_session": r.is_session(),
        "is_metered": True,
    }
    if meter is TokenMeter.WORKED:
        if r.attributes.get("type") != "cli":
            return None
        return Reading(is_event=True, rests=True, is_quiet=True, stands_for=(trace, METERED, b"", r.o.at_ns), **common)
    usage = None
    if meter is not TokenMeter.SESSION:
        usage = _metered(r, meter)
        if usage is None:
            return None
    else:
        common |= {"status": c.STARTING, "at_ns": r.o.start_ns or r.o.at_ns}
    # A cumulative point replaces the one before it; after a restart it has another start.
    times = (str(r.o.start_ns), "" if r.o.kind == CUMULATIVE else str(r.o.at_ns))
    series = msgspec.json.encode([r.o.name, r.attributes], order="deterministic").decode()
    span = r.hash(8, series, *times)
    return Reading(
        role=Role.LLM,
        model=v.text(r.get("model")),
        usage=usage,
        stands_for=(trace, span, METERED, r.o.start_ns or r.o.at_ns),
        **common,
    )


def _metered(r: SessionRecord, meter: TokenMeter) -> Usage | None:
    if meter is TokenMeter.COST:
        cost = v.money(r.o.body)
        return Usage(cost_usd=cost) if cost is not None else None
    count, sort = v.count(r.o.body), r.cli.sorts.get(r.attributes.get("type", ""))
    if count is None or sort is None:
        return None
    # Tokens read from and written to the cache are input too.
    is_input = sort == "input" or (sort.startswith("cache") and r.cli.excludes_cache)
    return Usage(
        input=count if is_input else None,
        output=count if sort == "output" or (sort == "reasoning" and r.cli.excludes_reasoning) else None,
        cache_read=count if sort == "cache_read" else None,
        cache_write=count if sort == "cache_write" else None,
        reasoning=count if sort == "reasoning" else None,
    )
