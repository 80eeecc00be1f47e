"""spanpost's sentences about telemetry: messages of the catalogue."""

from __future__ import annotations

import msgspec

from spanpost import semconv as c
from spanpost.model.evaluations import Evaluation
from spanpost.model.interventions import Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.observations import Observation
from spanpost.model.readings import Act
from spanpost.text.wording import message

#: Acts that a checkpoint reports.
_ASKED = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.RETRY, Verb.DISMISS)


def asked(act: Act) -> LocaleMessage | None:
    """Return a checkpoint's message about an act; None without one."""
    if act.verb not in _ASKED:
        return None
    said = message(f"checkpoint.asked_{act.verb}", who=act.by or message("checkpoint.somebody"))
    return message("checkpoint.with_words", text=said, words=act.text) if act.text else said


def rated(evaluation: Evaluation) -> LocaleMessage | None:
    """Return a checkpoint's message about a person's rating; None for one without a comment."""
    if not evaluation.explanation:
        return None
    said = message(f"checkpoint.rated_{evaluation.label}", who=evaluation.by or message("checkpoint.somebody"))
    return message("checkpoint.with_words", text=said, words=evaluation.explanation)


def message_of(record: Observation) -> LocaleMessage | None:
    """Return the message about a budget's passed share (`grown`)."""
    try:
        return msgspec.json.decode(record.attributes.get(c.BUDGET_MESSAGE) or "", type=LocaleMessage)
    except (msgspec.DecodeError, TypeError):
        return None
