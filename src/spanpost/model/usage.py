"""Usage of model calls: tokens and money."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one model call, or of many. `None` is *unknown*, never 0.

    `input` includes tokens read from and written to the cache; `output` includes reasoning.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    cost_usd: Decimal | None = None

    @property
    def is_known(self) -> bool:
        """True when the call reported any tokens."""
        return self.input is not None or self.output is not None
