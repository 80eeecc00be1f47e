"""Outcomes of a claimed delivery."""

from __future__ import annotations

from datetime import datetime

import msgspec

from spanpost.model.deliveries import Receipt


class RetryAt(msgspec.Struct, frozen=True, kw_only=True):
    """Retry the delivery at a time. `reconcile`: the delivery may already have arrived."""

    at: datetime
    reason: str
    error: str = ""
    reconcile: bool = False
    #: Keys of rate limits closed until then: the remote side throttles or refuses calls.
    closes: tuple[str, ...] = ()
    #: The remote side failed: circuit breakers count it.
    is_failure: bool = False
    #: A person must fix something: the closed rate limits stay closed for longer each time, and are probed.
    is_refusal: bool = False
    #: No call was made: the rate limits get the call back, and the attempt does not count.
    is_unsent: bool = False
    #: A reconciliation found nothing yet: `Delivery.lookups` counts it.
    has_looked: bool = False


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """Reconciled: an earlier attempt arrived. What never changed is done; anything else is edited, as it may be old."""

    receipt: Receipt


class NotArrived(msgspec.Struct, frozen=True, kw_only=True):
    """Reconciled: nothing arrived, so the delivery may be sent."""


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """Give up the delivery: keep it as a dead letter (``spanpost deliveries list --dead``)."""

    reason: str
    error: str = ""
    #: It may have arrived: a retry by hand reconciles first.
    reconcile: bool = False
    #: As in `RetryAt`: the delivery is too old, but its last attempt says something about the others.
    closes: tuple[str, ...] = ()
    until: datetime | None = None
    is_failure: bool = False


Outcome = Receipt | RetryAt | GiveUp | Arrived | NotArrived
