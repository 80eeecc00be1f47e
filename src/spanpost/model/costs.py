"""What results cost: of a pull request, a person, a repository."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

#: What costs are listed by.
CostsBy: TypeAlias = Literal["pr", "person", "repo"]
COSTS_BY: Final[tuple[CostsBy, ...]] = ("pr", "person", "repo")
#: Kind of the artifacts that are pull requests.
PULL_REQUEST: Final = "pr"


#: What the cost of days is listed by.
SpendBy: TypeAlias = Literal["model", "agent", "person", "repo"]
#: Keys of their own; the others are added up as one.
SPEND_KEYS: Final = 10


class DaySpend(msgspec.Struct, frozen=True, kw_only=True):
    """What the model calls of one day came to, for one model, agent, person or repository."""

    day: str
    #: Untrusted text. Empty: none is known; None: those beyond `SPEND_KEYS` together.
    key: str | None
    cost_usd: Decimal
    calls: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int


class ResultCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a pull request, of a person's requests, or of a repository."""

    #: The pull request (its address, else its name), the person or the repository; empty: of none.
    key: str
    #: None: no cost is known.
    cost_usd: Decimal | None
    #: Root tasks, and pull requests that they made.
    tasks: int
    pull_requests: int
    #: Some model calls have no known cost: the true cost is higher.
    is_partial: bool = False
