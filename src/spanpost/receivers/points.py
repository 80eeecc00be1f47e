"""Metric data points as observations, for the few metrics that a dialect reads.

All others are counted and ignored.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from spanpost.model.observations import MAX_NS, Observation, Origin, Part, Repair, log_index
from spanpost.readers.events import is_meter
from spanpost.receivers.decoded import Decoded
from spanpost.text.repair import mend

__all__ = ["DataPoint", "add_point", "is_meter"]

#: Data point flag of OTLP: there is no value.
NO_VALUE = 1


class DataPoint(msgspec.Struct, kw_only=True):
    """A data point of a sum as sent, not repaired."""

    start_ns: int = 0
    at_ns: int = 0
    value: Any = None
    flags: int = 0
    attributes: dict[str, Any] = {}


def add_point(decoded: Decoded, name: str, temporality: int, point: DataPoint, origin: Origin, tenant: str) -> None:
    """Append the observation of a data point: a record outside any span whose body is the value.

    `name` is the metric's; `kind` holds the temporality as OTLP numbers it (1 delta, 2 cumulative).
    """
    if point.flags & NO_VALUE or type(point.value) not in (int, float) or not isfinite(point.value):
        decoded.metric_points += 1
        return
    attributes, repairs = mend(point.attributes)
    start_ns, at_ns = point.start_ns, point.at_ns
    if not 0 <= start_ns <= MAX_NS or not 0 < at_ns <= MAX_NS:
        repairs |= Repair.TIME
        start_ns, at_ns = min(max(start_ns, 0), MAX_NS), min(max(at_ns, 0), MAX_NS)
    observation = Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        tenant=tenant,
        name=name,
        kind=temporality if temporality in (1, 2) else 0,
        at_ns=at_ns,
        start_ns=start_ns,
        attributes=attributes,
        origin=origin,
        body=point.value,
        repairs=repairs,
    )
    decoded.observations.append(msgspec.structs.replace(observation, index=log_index(observation)))
