"""What ``spanpost check`` finds."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that ``spanpost check`` looked at."""

    ok: bool
    found: str
    #: The next step for a person; empty when there is none.
    cure: str = ""
