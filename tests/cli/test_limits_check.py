"""What `spanpost check` says of limits: what they are, that nothing judges them, and which tenants are over."""

from __future__ import annotations

from typing import Any

from spanpost.cli.limits_check import examine_limits, stored_findings
from spanpost.model.tenant_limits import TenantStorage
from spanpost.settings import Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"gateway": {}, **sections})


def test_limits_are_said_and_none_are_not() -> None:
    """The finding names general limits and those of tenants; without limits there is no finding."""
    assert list(examine_limits(settings())) == []
    own = {"acme": {"entries_per_second": 0, "open_tasks": 5}}
    limits = {"entries_per_second": 1000, "stored_bytes": 10**9, "tenants": own}
    [found] = examine_limits(settings(limits=limits))
    assert found.ok
    assert found.finding == (
        "1,000 entries a second, 10,000 at once, 1,000,000,000 bytes; tenant acme: 5 open tasks, 1,000,000,000 bytes"
    )


def test_limits_that_nothing_judges_are_a_defect() -> None:
    """Limits in a process without OTLP receivers limit nothing, and the check says where they belong."""
    limits = {"open_tasks": 5}
    for sections in ({"gateway": {"enabled": False}}, {"forward": {"endpoint": "http://127.0.0.1:4318"}}):
        [found] = examine_limits(settings(limits=limits, **sections))
        assert (found.ok, "nothing judges them" in found.finding) == (False, True)


def test_a_burst_below_one_batch_is_named() -> None:
    """A burst that one batch of an exporter exceeds is reported with what to set."""
    first, _ = examine_limits(settings(limits={"entries_per_second": 10}))
    assert (first.ok, first.next_step.startswith("set limits.burst to 512")) == (True, True)


def test_tenants_near_and_over_their_storage_are_named() -> None:
    """From 90 % on a tenant is named; from 100 % on it is a defect."""
    given = settings(limits={"stored_bytes": 10**8, "tenants": {"free": {"stored_bytes": 0}}})
    sizes = {"small": 10**7, "near": 95 * 10**6, "over": 2 * 10**8, "free": 10**12}
    stored = [TenantStorage(tenant=tenant, rows=1, size=size) for tenant, size in sizes.items()]
    found = [(one.ok, one.finding) for one in stored_findings(given, stored)]
    assert found == [
        (True, "tenant near has stored 95% of limits.stored_bytes: its requests are refused at 100 %"),
        (False, "tenant over has stored 200% of limits.stored_bytes: nothing more of it is taken"),
    ]
