"""Values of a consumer of Kafka: the contents of its messages, and the offset that it continues from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from spanpost.model.observations import Observation


class PartitionOffset(msgspec.Struct, frozen=True, kw_only=True):
    """The offset of a partition that the database has for a consumer group; None: it has none yet."""

    group: str
    topic: str
    partition: int
    next: int | None = None


class UnreadableMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message, or an entry of one, that cannot be read: the error, and its first bytes."""

    tenant: str
    error: str
    body: bytes


class ConsumedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of one message of a topic."""

    offset: int
    observations: Sequence[Observation] = ()
    unreadable: Sequence[UnreadableMessage] = ()
    #: Number of spans, records, events and points that are left out, by reason.
    dropped: dict[str, int] = {}
    #: Number of metric data points that no dialect reads.
    metric_points: int = 0
