"""Closed lists of label values, the limits of open ones, and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Final

from spanpost.model.checkpoints import Kind


@dataclass(frozen=True, kw_only=True)
class SeriesLimits:
    """Limits of labels whose values come from agents. The section `metrics` is derived from it."""

    #: Values of each label, and series of each metric; what exceeds them is counted as ``other``.
    max_values: int = 200
    max_series: int = 2_000
    #: A series that was not used for so long is removed.
    expire_after: timedelta = timedelta(hours=48)


OTHER: Final = "other"
UNKNOWN: Final = "unknown"
COMPONENTS: Final = ("intake", "spool", "fold", "store", "sinks", "interactions", "kafka")
#: The closed list of reasons of `spanpost_dropped_total`; anything else is counted as ``other``.
DROPPED: Final = (
    # intake: the queue of the in-process queue
    "queue_full",
    "superseded",
    "closed",
    "callback",
    "convert",
    "receive",
    "unsent",
    "unsampled",
    "no_worker",
    # intake: what was received or read
    "undecodable",
    "too_large",
    "too_deep",
    "bad_span",
    "bad_event",
    "bad_record",
    "bad_point",
    "bad_shape",
    "bad_line",
    "too_many_events",
    # spool: imported from a process that died
    "damaged",
    "refused",
    "gap",
    # fold and store
    "no_task",
    "memory",
    "unfoldable",
    "over_budget",
    "erased",
    "tenant",
    "store_unavailable",
    # kafka: deleted by its retention before it was recorded
    "expired",
    # sinks
    "dead",
    "bug",
    OTHER,
)
#: Reasons of `spanpost_spool_bypassed_total`.
BYPASSED: Final = ("stalled", "full", "no_space", "failed", "too_large", "unpackable", OTHER)
#: Outcomes of one call of a sink to its service.
CALLED: Final = ("ok", "throttled", "refused", "rejected", "unavailable", "unknown", OTHER)
#: Kinds of checkpoints that count as warnings.
WARNINGS: Final = (
    Kind.CONTEXT_WARNING,
    Kind.CONTEXT_FORECAST,
    Kind.COMPACTION,
    Kind.STALLED,
    Kind.LOOP,
    Kind.BUDGET_WARNING,
)

#: Buckets, seconds. Runs and people's answers last from moments to days; steps and calls from milliseconds
#: to minutes.
RUNS: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
CALLS: Final = (0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 300)
DELIVERIES: Final = (0.01, 0.05, 0.25, 1, 5, 30, 120, 900, 3600)
#: Upper bounds of scores between 0 and 1, the most common scale.
SCORES: Final = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
COMMITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


def version() -> str:
    """Return spanpost's own version."""
    try:
        return version_of("spanpost")
    except PackageNotFoundError:
        return UNKNOWN
