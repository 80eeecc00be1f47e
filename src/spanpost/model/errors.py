"""Errors; each type says what the caller must do next.

SpanpostError
├── StoreUnavailable       the store, or Kafka in front of it, refuses for now; keep the batch and retry
├── OverBudget             a batch takes too long; smaller parts may be recorded
├── OffsetMoved            another consumer has recorded these messages; continue from the offset in the database
├── ConfigError            settings are wrong: field, reason, next step; the program does not start
└── DeliveryError          a sink could not deliver
    ├── Throttled          nothing happened; retry after `retry_after`
    ├── Unavailable        nothing happened; retry with backoff
    ├── DeliveryRefused    nothing happened; a person must fix something, the rate limit closes for a while
    ├── DeliveryUncertain  it may have happened: reconcile first
    └── Rejected           the same delivery will always be refused
        └── Unverifiable   it may have happened and cannot be reconciled: a person decides
"""

from __future__ import annotations

from datetime import timedelta


class SpanpostError(Exception):
    """Base class of all errors that spanpost raises on purpose."""


class ConfigError(SpanpostError):
    """Settings are wrong. The message names the field, the reason and the next step."""


class StoreUnavailable(SpanpostError):
    """The store cannot be reached or refuses for now. Nothing was recorded: keep the batch and retry."""


class DeliveryError(SpanpostError):
    """A sink could not deliver.

    `reason` is a short word from the sink's closed list, for metrics and rows. `closes` is the key of the
    rate limit that `Throttled` and `DeliveryRefused` are about; empty: all rate limits that the call used.
    """

    def __init__(self, message: str, *, reason: str = "", closes: str = "") -> None:
        super().__init__(message)
        self.reason = reason or type(self).__name__.lower()
        self.closes = closes


class Throttled(DeliveryError):
    """The remote side limits calls. Nothing happened; retry after `retry_after`."""

    def __init__(self, message: str, *, retry_after: timedelta, reason: str = "", closes: str = "") -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.retry_after = retry_after


class Unavailable(DeliveryError):
    """The remote side cannot be reached, or failed before it did anything. Retry with backoff."""


class DeliveryRefused(DeliveryError):
    """Refused until a person fixes something (a token, a scope, a channel). Nothing happened.

    The delivery and all others that use the rate limit wait, with rare probes. `cure` is the next step for
    that person; it is logged once, not with every delivery.
    """

    def __init__(self, message: str, *, cure: str, reason: str = "", closes: str = "") -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.cure = cure


class DeliveryUncertain(DeliveryError):
    """It may have happened (a time-out, a reset, a 5xx after sending). Reconcile before a retry."""


class Rejected(DeliveryError):
    """The remote side will never accept this delivery. It becomes a dead letter."""


class Unverifiable(Rejected):
    """It may have happened and cannot be reconciled. It becomes a dead letter: a person decides on a retry.

    Raised by `Sink.reconcile` only. The message names the cure; a delivery retried by hand is sent without
    reconciling. With `closes` and `retry_after` it also says, as `Throttled` does, how long other deliveries
    must not reconcile.
    """

    def __init__(
        self, message: str, *, retry_after: timedelta | None = None, reason: str = "", closes: str = ""
    ) -> None:
        super().__init__(message, reason=reason, closes=closes)
        self.retry_after = retry_after


class OverBudget(SpanpostError):
    """A batch takes more processor time than allowed. Nothing of it was recorded; smaller parts may be."""


class MessageTooLarge(SpanpostError):
    """One observation is larger than a message of the topic may be. Sending it again will not help."""


class OffsetMoved(SpanpostError):
    """A partition's offset in the database is not the expected one: another consumer has moved it.

    Nothing was recorded. Read the offset again and continue from there.
    """
