"""The languages that spanpost speaks to people: each string of ours by its key, with named placeholders, one module for each language.

Only what we say ourselves stands here. What agents, people and alerts say is filled in as it is, and never looked up.

`str.format` and the standard library do: gettext would want compiled files and has English sentences as keys; Fluent brings Babel's
data of some hundred languages, for two whose plurals are one and other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from spanpost.tongues import english, korean
from spanpost.tongues.phrases import Phrase

#: What settings call a language.
Language: TypeAlias = Literal["en", "ko"]


class Saying(msgspec.Struct, frozen=True):
    """A phrase with its values, which may be phrases themselves: said later, in whatever language."""

    key: str
    values: Mapping[str, Saying | str] = {}


class Tongue:
    """A language. `say` fills a phrase; of one with two forms `n` chooses."""

    def __init__(self, code: str, phrases: Mapping[str, Phrase]) -> None:
        self.code = code
        self._phrases = phrases

    def say(self, key: str, /, **values: object) -> str:
        """Return a phrase of ours with its placeholders filled. Raises `KeyError` for what no catalogue has."""
        phrase = self._phrases[key]
        if not isinstance(phrase, str):
            phrase = phrase[values.get("n") != 1]
        return phrase.format_map(values)

    def tell(self, saying: Saying | str) -> str:
        """Return a phrase that was made before; somebody else's text as it is."""
        if isinstance(saying, str):
            return saying
        return self.say(saying.key, **{name: self.tell(value) for name, value in saying.values.items()})

    def word(self, key: str, otherwise: str) -> str:
        """Return a phrase without placeholders; of a key that no catalogue has, what is given for it."""
        phrase = self._phrases.get(key, otherwise)
        return phrase if isinstance(phrase, str) else otherwise

    def span(self, seconds: float) -> str:
        """Return a length of time in its two largest units: 42s, 3m 07s, 2h 05m, 4d 03h."""
        whole = max(int(seconds), 0)
        if whole < 60:
            return self.say("span.seconds", s=whole)
        if whole < 3_600:
            return self.say("span.minutes" if whole % 60 else "span.minutes_even", m=whole // 60, s=whole % 60)
        if whole < 86_400:
            minutes = whole % 3_600 // 60
            return self.say("span.hours" if minutes else "span.hours_even", h=whole // 3_600, m=minutes)
        hours = whole % 86_400 // 3_600
        return self.say("span.days" if hours else "span.days_even", d=whole // 86_400, h=hours)


ENGLISH: Final = Tongue("en", english.PHRASES)
KOREAN: Final = Tongue("ko", korean.PHRASES)
TONGUES: Final[Mapping[str, Tongue]] = {one.code: one for one in (ENGLISH, KOREAN)}


def tongue(code: str) -> Tongue:
    """Return a language by its code; English where that is none of ours."""
    return TONGUES.get(code, ENGLISH)
