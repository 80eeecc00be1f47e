"""Sentences that are stored: a message of the catalogue beside the English text, which is rendered from it.

A maker returns a message where the sentence is spanpost's, and a text where the words are an agent's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from spanpost.model.messages import LocaleMessage, Value
from spanpost.text.locales import ENGLISH

#: Text of people and agents kept in facts, characters.
TEXT_CAP = 2000


def message(key: str, /, **values: Value) -> LocaleMessage:
    """Return a message. Texts among its values are cut as texts of checkpoints are."""
    return LocaleMessage(key, {name: value[:TEXT_CAP] if isinstance(value, str) else value for name, value in values.items()})


def worded(said: LocaleMessage | str) -> tuple[str, LocaleMessage | None]:
    """Return the English text to store, and the message beside it; None for an agent's own words."""
    return (ENGLISH.tell(said)[:TEXT_CAP], said) if isinstance(said, LocaleMessage) else (said[:TEXT_CAP], None)


def packed(said: LocaleMessage | str) -> list[Any] | str:
    """Return what a fact keeps of a message or an agent's words: a list is a message."""
    return [said.key, said.values] if isinstance(said, LocaleMessage) else said


def unpacked(kept: Any) -> LocaleMessage | str | None:
    """Return what `packed` packed."""
    return msgspec.convert({"key": kept[0], "values": kept[1]}, LocaleMessage) if isinstance(kept, list | tuple) else kept
