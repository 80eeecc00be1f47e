"""Sentences of spanpost for what telemetry says: messages of the catalogue."""

from __future__ import annotations

import msgspec

from spanpost import conventions as c
from spanpost.domain.interventions import Verb
from spanpost.domain.messages import Saying
from spanpost.domain.observations import Observation
from spanpost.domain.readings import Act
from spanpost.fold.wording import message

#: Acts of which a checkpoint tells.
_ASKED = (Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.RETRY)


def asked(act: Act) -> Saying | None:
    """Return what a checkpoint tells of an act; None where it tells nothing."""
    if act.verb not in _ASKED:
        return None
    said = message(f"checkpoint.asked_{act.verb}", who=act.by or message("checkpoint.somebody"))
    return message("checkpoint.with_words", text=said, words=act.text) if act.text else said


def message_of(record: Observation) -> Saying | None:
    """Return what the record of a share that was passed tells (`grown`)."""
    try:
        return msgspec.json.decode(record.attributes.get(c.BUDGET_MESSAGE) or "", type=Saying)
    except (msgspec.DecodeError, TypeError):
        return None
