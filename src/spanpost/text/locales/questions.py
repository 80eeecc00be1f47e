"""Sentences that say why part of a question is hidden."""

from __future__ import annotations

from collections.abc import Sequence

from spanpost.text.legible import Hidden
from spanpost.text.locales import ENGLISH, Locale


def why_hidden(reasons: Sequence[Hidden], locale: Locale = ENGLISH) -> str:
    """Return why a part of a question is hidden, and the next step.

    A question that is readable elsewhere is decided there.
    """
    nowhere = [one for one in reasons if not one.is_here_alone]
    what = "; ".join(locale.say(f"hidden.{one}") for one in nowhere or reasons)
    return locale.say("hidden.nowhere" if nowhere else "hidden.here", what=what)
