"""Prices of a model, and the cost of a call."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from spanpost.model.usage import Usage

_ZERO: Final = Decimal(0)
_MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True)
class ModelPrice:
    """Prices of a model in US dollars per million tokens; None if a kind has no own price. `request` is the
    price of the call itself.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    request: Decimal = _ZERO

    def cost(self, usage: Usage) -> Decimal | None:
        """Return the cost of a call; None if a needed figure or price is missing."""
        if usage.input is None or usage.output is None:
            return None
        fresh, spoken, total = usage.input, usage.output, self.request
        for price, tokens in ((self.cache_read, usage.cache_read), (self.cache_write, usage.cache_write)):
            if price is not None and tokens:
                fresh -= tokens
                total += price * tokens / _MILLION
        if self.reasoning is not None and usage.reasoning:
            spoken -= usage.reasoning
            total += self.reasoning * usage.reasoning / _MILLION
        if fresh < 0 or spoken < 0:
            return None  # more cached than total input: a figure is wrong
        for price, tokens in ((self.input, fresh), (self.output, spoken)):
            if tokens and price is None:
                return None
            total += (price or _ZERO) * tokens / _MILLION
        return total
