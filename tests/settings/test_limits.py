"""Settings of limits: per tenant, and which limits can be kept at all."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from spanpost.settings.limits import LimitSettings


def test_a_tenant_has_limits_of_its_own() -> None:
    """A tenant's own value replaces the general one, 0 removes it, and what it leaves out is general."""
    own = {"acme": {"entries_per_second": 500, "open_tasks": 0}}
    section = LimitSettings(entries_per_second=50, burst=100, open_tasks=10, tenants=own)
    acme, other = section.of("acme"), section.of("other")
    assert (acme.entries_per_second, acme.bucket, acme.open_tasks) == (500, 100, 0)
    assert (other.entries_per_second, other.bucket, other.open_tasks, other.stored_bytes) == (50, 100, 10, 0)
    assert LimitSettings(entries_per_second=50).of("other").bucket == 500


def test_without_settings_nothing_is_limited() -> None:
    """The defaults limit no tenant."""
    limits = LimitSettings().of("acme")
    assert (limits.entries_per_second, limits.burst, limits.open_tasks, limits.stored_bytes) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"burst": 100}, "burst: it limits nothing without entries_per_second"),
        ({"tenants": {"acme": {"burst": 5}}}, "tenants.acme.burst"),
        ({"stored_bytes": 1000}, "give at least 10000000"),
        ({"tenants": {"acme": {"stored_bytes": 5}}}, "tenants.acme.stored_bytes"),
        ({"entries_per_second": -1}, "greater than or equal to 0"),
        ({"tenants": {"acme": {"spans": 5}}}, "Extra inputs"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(given: dict[str, object], why: str) -> None:
    """A limit without effect, or one that an empty tenant exceeds, is refused with what to give instead."""
    with pytest.raises(ValidationError, match=why):
        LimitSettings.model_validate(given)
