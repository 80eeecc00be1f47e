"""What is prediction of a filling context, in words."""

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


def forecast(prediction: Forecast) -> LocaleMessage:
    """Return "Context: 85 % in about 3 calls, 40 s" with its ranges."""
    limit, ranges = limit_of(prediction), []
    shown = message("checkpoint.forecast", limit=limit, n=prediction.calls)
    if prediction.calls_low != prediction.calls_high:
        ranges.append(message("checkpoint.range_of_calls", low=prediction.calls_low, high=prediction.calls_high))
    if prediction.seconds >= 0.5:
        shown = message("checkpoint.forecast_time", limit=limit, n=prediction.calls, time=_whole(prediction.seconds))
        low, high = round(prediction.seconds_low), round(prediction.seconds_high)
        if low != high:
            ranges.append(message("checkpoint.range_of_time", low=low, high=high))
    return message("checkpoint.with_ranges", text=shown, ranges=ranges) if ranges else shown


def _whole(seconds: float) -> int:
    return round(seconds) if seconds < 10 else int(seconds)


def use(used: int, window: Window | None, model: str) -> LocaleMessage:
    """Return "Context 72 % full: 144,000 of 200,000 tokens (window: table; gpt-4o)"."""
    of_model: dict[str, Value] = {"model": model} if model != AGENT_CONVERSATION else {}
    if window is None:
        return message("checkpoint.context_at_of" if of_model else "checkpoint.context_at", used=used, **of_model)
    percent, source = used * 100 // window.tokens, message(f"window.{window.source}")
    key = "checkpoint.context_full_of" if of_model else "checkpoint.context_full"
    return message(key, percent=percent, used=used, window=window.tokens, source=source, **of_model)


def context_checkpoint(
    judged: Judged, state: TaskState, place: bytes | str, model: str, o: Observation, subtree: bytes
) -> Checkpoint:
    """Return the checkpoint of a context warning, a forecast or a compaction.

    `place` is the key of a conversation, else the name of the context window within the task.
    """
    uid = uuid_of(state.uid)
    status, detail, ref = (
        c.CONTEXT_WARNING,
        "",
        f"{judged.limit / 10:g}" if judged.limit < FIRST_CAP else f"{judged.limit} tokens",
    )
    full = use(judged.used, judged.window, model)
    if judged.what == Conclusion.WARNING:
        kind, shown = Kind.CONTEXT_WARNING, full
        if judged.limit >= FIRST_CAP:
            shown = message("checkpoint.past", text=shown, limit=judged.limit)
    elif judged.forecast is not None:
        kind, shown, detail = Kind.CONTEXT_FORECAST, forecast(judged.forecast), worded(full)[0]
    else:
        kind, status, ref = Kind.COMPACTION, c.WORKING, INFERRED
        shown = message("checkpoint.inferred", text=compaction(judged.before, judged.used))
    text, locale_message = worded(shown)
    window_id = place.hex() if isinstance(place, bytes) else f"{uid}\0{place}"
    return Checkpoint(
        id=uuid_of(named(f"{window_id}\0{kind}\0{judged.limit}\0{judged.climb}")),
        tenant=state.tenant,
        task_uid=uid,
        kind=kind,
        status=status,
        text=text,
        message=locale_message,
        at=moment(o.at_ns) or EPOCH,
        trace_id=o.trace_id,
        span_id=o.span_id,
        subtree=subtree,
        detail=detail,
        ref=ref,
    )
