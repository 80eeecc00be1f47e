"""A finding of ``spanpost check``."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of ``spanpost check``."""

    ok: bool
    found: str
    #: The next step for a person; empty: none is needed.
    cure: str = ""
