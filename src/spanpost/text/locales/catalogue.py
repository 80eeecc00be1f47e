"""What a catalogue holds."""

from __future__ import annotations

from typing import TypeAlias

#: A text with named placeholders; or two of them, for one (`n` is 1) and for any other number.
Phrase: TypeAlias = str | tuple[str, str]
