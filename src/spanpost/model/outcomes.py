"""What became of a claimed delivery."""

from __future__ import annotations

from datetime import datetime

import msgspec

from spanpost.model.deliveries import Receipt


class RetryAt(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery waits until then. `reconcile` when it may already have arrived."""

    at: datetime
    reason: str
    error: str = ""
    reconcile: bool = False
    #: Keys of budgets that nobody draws on until then: the far side asked for patience, or refuses.
    closes: tuple[str, ...] = ()
    #: The far side failed: budgets that are breakers count it.
    is_failure: bool = False
    #: A person must mend something: what it closes stays closed for longer each time, and is probed.
    is_refusal: bool = False
    #: No call was made: what the delivery drew is given back, and the attempt does not count.
    is_unsent: bool = False
    #: A look found nothing yet: `Delivery.looks` counts it.
    has_looked: bool = False


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A look found what an earlier attempt sent. News is delivered with that; a state is edited next, because its text may be old."""

    receipt: Receipt


class NotArrived(msgspec.Struct, frozen=True, kw_only=True):
    """A look found that nothing arrived: the delivery may be sent."""


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The delivery is buried: kept with its error, listed by ``spanpost deliveries list``."""

    reason: str
    error: str = ""
    #: It may have arrived: revived, it is looked up first.
    reconcile: bool = False
    #: As of `RetryAt`; the delivery is too old, and what its last try taught holds for the others.
    closes: tuple[str, ...] = ()
    until: datetime | None = None
    is_failure: bool = False


Outcome = Receipt | RetryAt | GiveUp | Arrived | NotArrived
