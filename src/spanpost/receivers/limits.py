"""Limits of the receivers. The section `gateway` of the settings is derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class AdmissionLimits:
    """Limits on sizes, which the section `gateway` sets; and constants of sizes and times."""

    #: Bytes of one body, after decompression.
    max_body: int = 64 * 1024 * 1024
    #: Bytes in progress of a sender that is alone; all senders together have at most twice as many.
    max_in_flight: int = 64 * 1024 * 1024
    #: Observations of one transaction.
    group_size: int = 2048
    #: Concurrent transactions: one is folded while the database writes another (15 to 24 % more throughput
    #: with ten senders, 2026-11).
    writers: int = 2
    #: Bytes in the journal, of all tenants; 0: the journal is not used.
    journal_bytes: int = 2048 * 1024 * 1024

    #: Bytes of the requests of one transaction.
    group_bytes: ClassVar[int] = 4 * 1024 * 1024
    #: How long a writer waits for requests with parts of the same traces: a fraction of the time of its last
    #: transaction.
    lingering: ClassVar[float] = 0.1
    #: Seconds of work, at the recent pace, that one sender may have waiting before requests are refused; and
    #: the bytes that may always wait.
    queue: ClassVar[float] = 1.0
    queue_bytes: ClassVar[int] = 1024 * 1024
    #: Seconds of work, at the recent pace, that may wait to be recorded directly before requests go to the
    #: journal; and the bytes that may always wait.
    direct: ClassVar[float] = 0.2
    direct_bytes: ClassVar[int] = 64 * 1024
    #: Seconds without any commit after which waiting requests are refused. They may be recorded all the
    #: same: the sender's retry is then ignored as a duplicate.
    commit_timeout: ClassVar[float] = 4.0
