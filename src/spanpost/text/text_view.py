"""A scanner with the texts in which it found nothing: most texts come again and again."""

from __future__ import annotations

import re

from spanpost.text.secrets import Scanner

#: Bounds of the memory: texts, and the length of one.
_TEXTS, _TEXT = 16_384, 160
#: Ids made by machines: no secret of a known form is hexadecimal throughout.
_HEX_ID = re.compile(r"[0-9a-f]{8,64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class TextView:
    """A scanner, and the texts in which it found nothing."""

    __slots__ = ("clean", "scanner")

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.clean: set[str] = set()

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        scanner = self.scanner
        if len(text) < scanner.shortest or text in self.clean:
            return text
        is_id = not scanner.has_patterns and len(text) <= 64 and _HEX_ID.fullmatch(text)
        found = text if is_id else scanner.scan(text)
        if found is text and len(text) <= _TEXT:
            if len(self.clean) >= _TEXTS:
                self.clean.clear()
            self.clean.add(text)
        return found
