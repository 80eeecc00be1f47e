"""Locales: the catalogues of texts that spanpost shows people, one module for each language.

A catalogue has spanpost's own phrases by key, with named placeholders. Text of agents, people and alerts is
filled in literally. `str.format` is enough: gettext needs compiled files and uses English sentences as
keys; Fluent brings Babel's data of some hundred languages, for two languages with two plural forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any, Final, Literal, TypeAlias

from spanpost.model.messages import LocaleMessage as LocaleMessage
from spanpost.model.messages import Value
from spanpost.text.locales import english, korean
from spanpost.text.locales.catalogue import Phrase

#: Language codes in settings.
Language: TypeAlias = Literal["en", "ko"]


class Locale:
    """A language. `say` renders a phrase; for a phrase with two forms `n` chooses."""

    def __init__(self, code: str, phrases: Mapping[str, Phrase]) -> None:
        self.code = code
        self._phrases = phrases
        self._durations = _Durations(self)

    def say(self, key: str, /, **values: object) -> str:
        """Return a phrase with its placeholders filled. Raises `KeyError` for an unknown key."""
        phrase = self._phrases[key]
        if not isinstance(phrase, str):
            phrase = phrase[values.get("n") != 1]
        if ":duration}" in phrase:
            return self._durations.vformat(phrase, (), values)
        return phrase.format_map(values)

    def tell(self, message: LocaleMessage | str) -> str:
        """Return a message rendered in this language; plain text unchanged."""
        if isinstance(message, str):
            return message
        return self.say(message.key, **{name: self._value(value) for name, value in message.values.items()})

    def _value(self, value: Value) -> str | int | float:
        if isinstance(value, list):
            return ", ".join([self.tell(one) for one in value])
        return self.tell(value) if isinstance(value, LocaleMessage) else value

    def translate(self, message: LocaleMessage | None, text: str) -> str:
        """Return a stored message in this language; else `text`, its English, if it cannot be rendered."""
        if message is None or self.code == "en":
            return text
        try:
            return self.tell(message)
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return text  # stored by another release

    def duration(self, seconds: float) -> str:
        """Return a duration in its two largest units: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min, 4 d 03 h.

        An `int` has no tenths.
        """
        if seconds < 10 and not isinstance(seconds, int):
            return self.say("duration.tenths", s=seconds)
        minutes, s = divmod(round(seconds), 60)
        if not minutes:
            return self.say("duration.seconds", s=s)
        h, m = divmod(minutes, 60)
        if not h:
            return self.say("duration.minutes" if s else "duration.minutes_even", m=m, s=s)
        if h < 24:
            return self.say("duration.hours" if m else "duration.hours_even", h=h, m=m)
        d, h = divmod(h, 24)
        return self.say("duration.days" if h else "duration.days_even", d=d, h=h)

    def word(self, key: str, otherwise: str) -> str:
        """Return a phrase without placeholders; `otherwise` if the key is unknown."""
        phrase = self._phrases.get(key, otherwise)
        return phrase if isinstance(phrase, str) else otherwise


class _Durations(Formatter):
    """`str.format` with one more format: `{time:duration}` renders seconds as a duration in a language."""

    def __init__(self, locale: Locale) -> None:
        self._locale = locale

    def format_field(self, value: Any, format_spec: str) -> Any:
        return self._locale.duration(value) if format_spec == "duration" else format(value, format_spec)


ENGLISH: Final = Locale("en", english.PHRASES)
KOREAN: Final = Locale("ko", korean.PHRASES)
LOCALES: Final[Mapping[str, Locale]] = {one.code: one for one in (ENGLISH, KOREAN)}


def locale(code: str) -> Locale:
    """Return a language by its code; English for an unknown code."""
    return LOCALES.get(code, ENGLISH)
