"""Settings of the section `cost`: prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator

from spanpost.settings.section import Section
from spanpost.tasks.prices import ModelPrice

Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PriceSettings(Section, ModelPrice):
    """Prices of a model in US dollars per million tokens; `request` in US dollars per call. A kind without a
    price has the price of the kind that includes it.
    """

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    reasoning: Dollars | None = None
    request: Dollars = Decimal(0)


class CostSettings(Section):
    """Prices for model calls that do not report their own cost."""

    enabled: bool = Field(
        default=True,
        description="Compute costs from `prices`, and from `genai-prices` if it is installed (`spanpost[cost]`).",
    )
    prices: dict[str, PriceSettings] = Field(
        default={},
        description="Prices by model name, in US dollars per million tokens; they override published prices: "
        '`{"my-model": {"input": 2.5, "output": 10, "cache_read": 0.25, "cache_write": 3.1, "reasoning": '
        "10}}`. The last three are optional, and so is `request`, the price of each call in US dollars.",
    )

    @field_validator("prices")
    @classmethod
    def _have_names(cls, value: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        if any(not model.strip() for model in value):
            raise ValueError("a price is given for an empty model name; name the model")
        return value
