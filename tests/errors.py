"""The one error body, as tests read it."""

from __future__ import annotations

from typing import Any


def reason_of(body: Any) -> str:
    """Return the reason of a google.rpc.Status, in lower case."""
    [reason] = [one["reason"] for one in body["details"] if "reason" in one]
    return str(reason).lower()


def field_of(body: Any) -> str | None:
    """Return the wrong field; None if no single one is."""
    return next((one["fieldViolations"][0]["field"] for one in body["details"] if "fieldViolations" in one), None)
