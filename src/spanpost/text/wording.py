"""Stored sentences: a locale message, and its English text.

A function returns a message for spanpost's own sentences, and a text for an agent's words.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanpost.model.messages import LocaleMessage, Value
from spanpost.text.locales import ENGLISH

#: Characters of people's and agents' text kept in a task's facts.
TEXT_CAP = 2000


def message(key: str, /, **values: Value) -> LocaleMessage:
    """Return a message. Text among its values is cut like the text of checkpoints."""
    return LocaleMessage(
        key, {name: value[:TEXT_CAP] if isinstance(value, str) else value for name, value in values.items()}
    )


def worded(said: LocaleMessage | str) -> tuple[str, LocaleMessage | None]:
    """Return the English text to store, and its message; None for an agent's words."""
    return (ENGLISH.tell(said)[:TEXT_CAP], said) if isinstance(said, LocaleMessage) else (said[:TEXT_CAP], None)


def packed(said: LocaleMessage | str) -> list[Any] | str:
    """Return a message or text in its stored form: a list is a message."""
    return [said.key, said.values] if isinstance(said, LocaleMessage) else said


def unpacked(kept: Any) -> LocaleMessage | str | None:
    """Return what `packed` stored."""
    return (
        msgspec.convert({"key": kept[0], "values": kept[1]}, LocaleMessage) if isinstance(kept, list | tuple) else kept
    )
