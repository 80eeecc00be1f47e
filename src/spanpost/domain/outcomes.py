"""What became of a claimed delivery."""

from __future__ import annotations

from datetime import datetime

import msgspec

from spanpost.domain.deliveries import Receipt


class RetryAt(msgspec.Struct, frozen=True, kw_only=True):
    """The letter waits until then. `reconcile` when it may already have arrived."""

    at: datetime
    reason: str
    error: str = ""
    reconcile: bool = False


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """The letter is buried: kept with its error, listed by ``spanpost deliveries list``."""

    reason: str
    error: str = ""


Outcome = Receipt | RetryAt | GiveUp
