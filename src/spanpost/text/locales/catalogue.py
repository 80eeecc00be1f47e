"""The type of a catalogue's phrases."""

from __future__ import annotations

from typing import TypeAlias

#: A text with named placeholders; or two texts, for `n` = 1 and for any other number.
Phrase: TypeAlias = str | tuple[str, str]
