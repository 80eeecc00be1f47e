"""Errors that say what to do next.

SpanpostError
├── ConfigError            settings are wrong: field, reason, next step; the program does not start
└── DeliveryError          a sink could not deliver
    ├── Throttled          not before `retry_after`; nothing happened
    ├── Unavailable        not now; nothing happened, retry with backoff
    ├── Refused            not until a person mends something; nothing happened, the budget closes for a while
    ├── Unknown            it may have happened: reconcile first
    └── Rejected           never: the same delivery will be refused again
        └── Unverifiable   it may have happened, and nobody can look: a person decides
"""

from __future__ import annotations

from datetime import timedelta


class SpanpostError(Exception):
    """Root of everything that spanpost raises on purpose."""


class ConfigError(SpanpostError):
    """Settings are wrong. The message names the field, the reason and the next step; the caller mends them and starts again."""


class StoreUnavailable(SpanpostError):
    """The store cannot be reached or refuses for now. Nothing was recorded; the caller keeps the batch and tries again."""


class DeliveryError(SpanpostError):
    """A sink could not deliver.

    `reason` is a short word from a closed list of the sink, for metrics and rows. `closes` is the key of the budget that the
    answer was about, for `Throttled` and `DeliveryRefused`; empty: all that the call drew on.
    """

    def __init__(self, message: str, *, reason: str = "", closes: str = "") -> None:
        super().__init__(message)
        self.reason = reason or type(self).__name__.lower()
        self.closes = closes


class Throttled(DeliveryError):
    """The far side asks for patience. Nothing happened; try again after `retry_after`."""

    def __init__(self, message: str, *, retry_after: timedelta, reason: str = "", closes: str = "") -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.retry_after = retry_after


class Unavailable(DeliveryError):
    """The far side cannot be reached or failed before doing anything. Try again with backoff."""


class DeliveryRefused(DeliveryError):
    """Not until a person mends something (a token, a scope, a channel); nothing happened.

    The delivery and all that draw on the budget wait, and are tried seldom. `cure` is the next step for that person: it is
    logged once, not with every delivery.
    """

    def __init__(self, message: str, *, cure: str, reason: str = "", closes: str = "") -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.cure = cure


class DeliveryUncertain(DeliveryError):
    """It may have happened (a time-out, a reset, a 5xx after sending). Reconcile before trying again."""


class Rejected(DeliveryError):
    """The far side will never take this delivery. Bury it."""


class Unverifiable(Rejected):
    """It may have happened, and whether it did cannot be looked up. Bury it: trying again is a person's decision.

    Of a look (`Sink.reconcile`) only. The message names the cure; revived by hand the delivery is sent without another look.
    With `closes` and `retry_after` it also says, as `Throttled` does, how long others must not look.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None, reason: str = "", closes: str = "") -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.retry_after = retry_after


class OverBudget(SpanpostError):
    """Recording a batch takes more processor time than it may. Nothing of it is recorded: part by part it may be."""
