"""A question to a person, checked and put into attributes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from spanpost import semconv as c
from spanpost.agent.progress import without_none

AtExpiry = Literal["wait", "deny", "escalate", "expire"]


class QuestionTooLong(ValueError):
    """The question is too long to be kept whole. A person may approve only what they can read."""


class AskedQuestion:
    """One question, as it is asked.

    Raises `ValueError`, `TypeError` and `QuestionTooLong` for one that cannot be asked.
    """

    def __init__(
        self,
        question: str,
        id: str | None,
        options: Sequence[str],
        detail: str,
        risk: str,
        expires_in: timedelta | float | None,
        expires_at: datetime | None,
        at_expiry: str | None,
        tool: str = "",
        needs: int = 1,
        to: Sequence[str] = (),
        to_after: timedelta | float | None = None,
    ) -> None:
        if not isinstance(question, str) or not question.strip():
            raise ValueError("approval: the question is empty; say what a person is to decide")
        if isinstance(options, str):
            raise TypeError("approval: options are a list of words, not one string")
        #: The options as they are asked, and as the agent wrote them.
        self.options = _options(options)
        if at_expiry is not None and at_expiry not in c.AT_EXPIRY:
            raise ValueError(f"approval: at_expiry is one of {', '.join(c.AT_EXPIRY)}, not {at_expiry!r}")
        if id is not None and not id.strip():
            raise ValueError("approval: the id is empty; leave it out, or name the decision")
        self.id = id or f"{uuid4()}"
        self.text = _text("question", question)
        detail, risk = _text("detail", detail), _text("risk", risk, c.OPTION_LIMIT)
        tool = _text("tool", tool, c.OPTION_LIMIT)
        if isinstance(needs, bool) or not isinstance(needs, int) or not 1 <= needs <= c.NEEDS_LIMIT:
            raise ValueError(f"approval: needs is a number of people from 1 to {c.NEEDS_LIMIT}")
        if isinstance(to, str):
            raise TypeError("approval: to is a list of places, not one string")
        if len(to) > c.TO_LIMIT:
            raise ValueError(f"approval: to has at most {c.TO_LIMIT} places")
        #: Identifies the wording: an answer to another wording does not count.
        self.mark = c.question_mark(self.text, detail, self.options, risk, tool)
        until = expires_at if expires_at is not None else _after(expires_in)
        self.attributes: Mapping[str, Any] = without_none(
            {
                c.APPROVAL_ID: self.id,
                c.APPROVAL_QUESTION: self.text,
                c.APPROVAL_DETAIL: detail or None,
                c.APPROVAL_OPTIONS: tuple(self.options) or None,
                c.APPROVAL_RISK: risk or None,
                c.APPROVAL_TOOL: tool or None,
                c.APPROVAL_NEEDS: needs if needs > 1 else None,
                c.APPROVAL_TO: tuple(to) or None,
                c.APPROVAL_TO_AFTER: _seconds("to_after", to_after),
                c.APPROVAL_EXPIRES_AT: until.isoformat() if until is not None else None,
                c.APPROVAL_AT_EXPIRY: at_expiry,
                c.APPROVAL_DIGEST: self.mark,
            }
        )
        self.at_ns = time.time_ns()


def _after(expires_in: timedelta | float | None) -> datetime | None:
    seconds = _seconds("expires_in", expires_in)
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds is not None else None


def _seconds(name: str, given: timedelta | float | None) -> float | None:
    if given is None:
        return None
    seconds = given.total_seconds() if isinstance(given, timedelta) else float(given)
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"approval: {name} must be more than 0 seconds")
    return seconds


def _text(name: str, given: object, most: int = c.QUESTION_LIMIT) -> str:
    """Return a text as it is stored. Raises `QuestionTooLong`."""
    text = c.question_text(str(given))
    if len(text) > most:
        raise QuestionTooLong(
            f"approval: the {name} has {len(text)} characters, and people can be shown {most}; shorten it"
        )
    return text


def _options(given: Sequence[str]) -> dict[str, str]:
    """Return each option as it is asked, with the agent's own text.

    Raises `ValueError` if a person could not choose one.
    """
    options = {c.question_text(str(option)).strip(): str(option) for option in given}
    most, longest = c.OPTIONS_LIMIT, c.OPTION_LIMIT
    if len(options) != len(given) or not all(options) or len(options) > most or any(len(o) > longest for o in options):
        raise ValueError(f"approval: options are up to {most} different texts of 1 to {longest} characters")
    if c.EXPIRED in options:
        raise ValueError(f"approval: {c.EXPIRED!r} is the answer when a deadline passes; name the option otherwise")
    return options
