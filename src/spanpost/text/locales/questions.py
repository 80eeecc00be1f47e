"""Sentences that say why part of a question is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spanpost.text.locales import ENGLISH, Locale


class Reason(Protocol):
    """**Protocol:** a reason, whose text has the key ``hidden.…``.

    `is_here_alone`: the question is readable elsewhere.
    """

    @property
    def is_here_alone(self) -> bool: ...


def why_hidden(reasons: Sequence[Reason], locale: Locale = ENGLISH) -> str:
    """Return why a part of a question is hidden, and the next step.

    A question that is readable elsewhere is decided there.
    """
    nowhere = [one for one in reasons if not one.is_here_alone]
    what = "; ".join(locale.say(f"hidden.{one}") for one in nowhere or reasons)
    return locale.say("hidden.nowhere" if nowhere else "hidden.here", what=what)
