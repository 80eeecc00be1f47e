"""The header `Retry-After` in each of its forms."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from spanpost.http.retry_after import retry_after_seconds

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("9" * 400, 86_400.0),
        (formatdate(NOW + 1e6, usegmt=True), 86_400.0),
        *((nothing, None) for nothing in ("", "soon", "nan", "inf", "-3", "1e3", "²", "1.2.3")),
    ],
)
def test_a_wait_is_seconds_or_a_date_within_a_day(value: str, expected: float | None) -> None:
    """A number, or a date, becomes seconds from now, never negative and a day at most; all else is none."""
    assert retry_after_seconds(value, NOW) == expected
