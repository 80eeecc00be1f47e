"""Messages: sentences of spanpost as a key of the catalogue and values, so that each locale renders them in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, Union

import msgspec

#: Numbers are formatted by the template; a text is somebody else's words and stands as it is; messages of a list are joined.
Value: TypeAlias = Union[str, int, float, "LocaleMessage", list["LocaleMessage"]]


class LocaleMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the catalogue (`spanpost.text.locales`) with the values of its placeholders. Public: rows, JSON.

    The values carry words of agents and people: untrusted text, as `Checkpoint.text` is.
    """

    key: str
    values: Mapping[str, Value] = {}
