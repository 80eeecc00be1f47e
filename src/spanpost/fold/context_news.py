"""What is told of a filling context, in words."""

from __future__ import annotations

from spanpost import conventions as c
from spanpost.domain.checkpoints import INFERRED, Checkpoint, Kind
from spanpost.domain.context import Forecast
from spanpost.domain.observations import Observation
from spanpost.fold.absorb import AGENT_LANE
from spanpost.fold.context import Window
from spanpost.fold.ids import named, uuid_of
from spanpost.fold.judged import Judged, What
from spanpost.fold.limits import FIRST_CAP
from spanpost.fold.moments import EPOCH, duration, moment
from spanpost.fold.records import Group
from spanpost.fold.tell import compaction_text


def forecast_text(told: Forecast) -> str:
    """Return "85 % in about 3 calls, 40 s" with its range."""
    calls = f"{told.calls} call{'s' if told.calls != 1 else ''}"
    text = f"{told.limit} in about {calls}"
    if told.seconds >= 0.5:
        text += f", {duration(round(told.seconds) if told.seconds < 10 else told.seconds).replace('.0 s', ' s')}"
    spread = [] if told.calls_low == told.calls_high else [f"{told.calls_low} to {told.calls_high} calls"]
    if told.seconds >= 0.5 and round(told.seconds_low) != round(told.seconds_high):
        spread.append(f"{duration(round(told.seconds_low))} to {duration(round(told.seconds_high))}".replace(".0 s", " s"))
    return f"{text} ({', '.join(spread)})" if spread else text


def use_text(used: int, window: Window | None, model: str) -> str:
    """Return "72 % full: 144,000 of 200,000 tokens (window: table; gpt-4o)"."""
    known = f"; {model}" if model != AGENT_LANE else ""
    if window is None:
        return f"at {used:,} tokens{f' ({model})' if known else ''}"
    return f"{used * 100 // window.tokens} % full: {used:,} of {window.tokens:,} tokens (window: {window.source}{known})"


def context_news(judged: Judged, group: Group, place: bytes | str, model: str, o: Observation, unit: bytes) -> Checkpoint:
    """Return the checkpoint of a context warning, a forecast or a compaction.

    `place` is the lane: of a conversation its key, else its name within the task.
    """
    uid = uuid_of(group.uid)
    status, detail, ref = c.CONTEXT_WARNING, "", f"{judged.limit / 10:g}" if judged.limit < FIRST_CAP else f"{judged.limit} tokens"
    use = use_text(judged.used, judged.window, model)
    if judged.what == What.WARNING:
        kind, text = Kind.CONTEXT_WARNING, f"Context {use}"
        if judged.limit >= FIRST_CAP:
            text += f", past {judged.limit:,}"
    elif judged.forecast is not None:
        kind, text, detail = Kind.CONTEXT_FORECAST, f"Context: {forecast_text(judged.forecast)}", f"Context {use}"
    else:
        kind, status, ref = Kind.COMPACTION, c.WORKING, INFERRED
        text = f"{compaction_text(judged.before, judged.used)} (inferred from the drop)"
    whose = place.hex() if isinstance(place, bytes) else f"{uid}\0{place}"
    return Checkpoint(
        id=uuid_of(named(f"{whose}\0{kind}\0{judged.limit}\0{judged.climb}")),
        tenant=group.tenant,
        task_uid=uid,
        kind=kind,
        status=status,
        text=text,
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        unit=unit,
        detail=detail,
        ref=ref,
    )
