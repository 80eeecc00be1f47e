"""What is told of a filling context, in words."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.model.checkpoints import INFERRED, Checkpoint, Kind
from spanpost.model.context import Forecast
from spanpost.model.ids import named, uuid_of
from spanpost.model.messages import LocaleMessage, Value
from spanpost.model.observations import Observation
from spanpost.tasks.absorb import AGENT_CONVERSATION
from spanpost.tasks.checkpoints import compaction
from spanpost.tasks.conclusions import Conclusion, Judged
from spanpost.tasks.context import Window
from spanpost.tasks.context_limits import FIRST_CAP, limit_of
from spanpost.tasks.records import TaskState
from spanpost.tasks.times import EPOCH, moment
from spanpost.text.wording import message, worded


def forecast(told: Forecast) -> LocaleMessage:
    """Return "Context: 85 % in about 3 calls, 40 s" with its ranges."""
    limit, ranges = limit_of(told), []
    said = message("checkpoint.forecast", limit=limit, n=told.calls)
    if told.calls_low != told.calls_high:
        ranges.append(message("checkpoint.range_of_calls", low=told.calls_low, high=told.calls_high))
    if told.seconds >= 0.5:
        said = message("checkpoint.forecast_time", limit=limit, n=told.calls, time=_whole(told.seconds))
        low, high = round(told.seconds_low), round(told.seconds_high)
        if low != high:
            ranges.append(message("checkpoint.range_of_time", low=low, high=high))
    return message("checkpoint.with_ranges", text=said, ranges=ranges) if ranges else said


def _whole(seconds: float) -> int:
    return round(seconds) if seconds < 10 else int(seconds)


def use(used: int, window: Window | None, model: str) -> LocaleMessage:
    """Return "Context 72 % full: 144,000 of 200,000 tokens (window: table; gpt-4o)"."""
    whose: dict[str, Value] = {"model": model} if model != AGENT_CONVERSATION else {}
    if window is None:
        return message("checkpoint.context_at_of" if whose else "checkpoint.context_at", used=used, **whose)
    percent, source = used * 100 // window.tokens, message(f"window.{window.source}")
    key = "checkpoint.context_full_of" if whose else "checkpoint.context_full"
    return message(key, percent=percent, used=used, window=window.tokens, source=source, **whose)


def context_news(judged: Judged, state: TaskState, place: bytes | str, model: str, o: Observation, subtree: bytes) -> Checkpoint:
    """Return the checkpoint of a context warning, a forecast or a compaction.

    `place` is the lane: of a conversation its key, else its name within the task.
    """
    uid = uuid_of(state.uid)
    status, detail, ref = c.CONTEXT_WARNING, "", f"{judged.limit / 10:g}" if judged.limit < FIRST_CAP else f"{judged.limit} tokens"
    full = use(judged.used, judged.window, model)
    if judged.what == Conclusion.WARNING:
        kind, said = Kind.CONTEXT_WARNING, full
        if judged.limit >= FIRST_CAP:
            said = message("checkpoint.past", text=said, limit=judged.limit)
    elif judged.forecast is not None:
        kind, said, detail = Kind.CONTEXT_FORECAST, forecast(judged.forecast), worded(full)[0]
    else:
        kind, status, ref = Kind.COMPACTION, c.WORKING, INFERRED
        said = message("checkpoint.inferred", text=compaction(judged.before, judged.used))
    text, saying = worded(said)
    whose = place.hex() if isinstance(place, bytes) else f"{uid}\0{place}"
    return Checkpoint(
        id=uuid_of(named(f"{whose}\0{kind}\0{judged.limit}\0{judged.climb}")),
        tenant=state.tenant,
        task_uid=uid,
        kind=kind,
        status=status,
        text=text,
        message=saying,
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        subtree=subtree,
        detail=detail,
        ref=ref,
    )
