"""Failures and exceptions of spans: what they are in truth."""

from __future__ import annotations

from typing import Any

from spanpost.model.observations import Observation, Part
from spanpost.model.readings import Role
from spanpost.readers.dialect import ReadSpan
from spanpost.readers.events import failure_of, is_cancel, is_handover, is_interrupt, log_of


def read_failure(span: ReadSpan) -> None:
    """Read why a span failed, or that its error is a wait, a handover or a stop."""
    o, said, inner = span.observation, span.said, span.inner
    thrown, message, stack = o.thrown or ("", "", "")
    message = o.status_message or inner.get("error_message") or message
    failure = said.get("failure") or failure_of(
        inner.get("error_type") or thrown, message, log_of(span.attributes) or stack
    )
    if is_interrupt(failure.type, message or failure.message):
        said["is_interrupt"] = True
        said.pop("failure", None)
    elif is_handover(failure.type, failure.message):
        said["is_handed_over"] = True
        said.pop("failure", None)
    elif is_cancel(failure.type, failure.message):
        said["is_cancelled"] = True
        said.pop("failure", None)
    else:
        said["failure"] = failure


def read_exception(o: Observation, role: Role, said: dict[str, Any]) -> None:
    """Read what an exception says of its span: a wait, a handover, a stop, or the failure of a call.

    LangSmith's export sets OK although there was an exception, whose type is within the message.
    """
    kind, message, stack = o.thrown
    if is_interrupt(kind, message):
        said["is_interrupt"] = True
        return
    if is_handover(kind, message):
        said["is_handed_over"] = True
        return
    failure = failure_of(kind, message, stack)
    if is_cancel(failure.type, failure.message):
        said["is_cancelled"] = True
    elif o.part is Part.ENDED and _is_unanswered(role, said):
        said["failure"] = failure


def _is_unanswered(role: Role, said: dict[str, Any]) -> bool:
    usage = said.get("usage")
    return (role is Role.TOOL and not said.get("has_no_result")) or (
        role is Role.LLM and (usage is None or not usage.is_known)
    )
