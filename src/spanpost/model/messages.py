"""Messages: spanpost's sentences as a catalogue key and values, which each locale renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, Union

import msgspec

#: The template formats numbers; texts stay as they are; the messages of a list are joined.
Value: TypeAlias = Union[str, int, float, "LocaleMessage", list["LocaleMessage"]]


class LocaleMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the catalogue (`spanpost.text.locales`) with its values. Public: rows, JSON.

    The values contain words of agents and people: untrusted text, as `Checkpoint.text` is.
    """

    key: str
    values: Mapping[str, Value] = {}
