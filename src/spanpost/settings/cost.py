"""Settings of the room `cost`: prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from spanpost.settings.section import Section

Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PriceSettings(BaseModel):
    """Prices of a model in US dollars of a million tokens. What is left out is priced as what it is part of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    reasoning: Dollars | None = None


class CostSettings(Section):
    """What model calls cost that do not say it themselves."""

    enabled: bool = Field(
        default=True, description="Compute it: from `prices`, and from `genai-prices` where that is installed (`spanpost[cost]`)."
    )
    prices: dict[str, PriceSettings] = Field(
        default={},
        description="Prices by model name, over what is published, in US dollars of a million tokens: "
        '`{"my-model": {"input": 2.5, "output": 10, "cache_read": 0.25, "cache_write": 3.1, "reasoning": 10}}`; the last three may be left out.',
    )

    @field_validator("prices")
    @classmethod
    def _have_names(cls, value: dict[str, PriceSettings]) -> dict[str, PriceSettings]:
        if any(not model.strip() for model in value):
            raise ValueError("a price is given for an empty model name; name the model")
        return value
