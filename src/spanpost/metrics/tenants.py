"""Gauges of what tenants have stored. Every gateway shows what was last measured for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

from spanpost.metrics.series import Registry
from spanpost.model.tenant_limits import TenantLimitRules, TenantStorage


class TenantGauges:
    """The figures of `TenantStorage` as gauges."""

    def __init__(self, registry: Registry) -> None:
        self.rows = registry.gauges(
            "spanpost_tenant_stored_rows",
            "Rows of a tenant in the database, as last measured. Each gateway shows the same.",
            ("tenant",),
        )
        self.size = registry.gauges(
            "spanpost_tenant_stored_bytes",
            "Size of these rows with their indexes. Each gateway shows the same.",
            ("tenant",),
        )
        self.used = registry.gauges(
            "spanpost_tenant_storage_used_ratio",
            "Part of limits.stored_bytes that a tenant has stored: from 1 on nothing more of it is taken.",
            ("tenant",),
        )

    def show(self, stored: Sequence[TenantStorage], rules: TenantLimitRules) -> None:
        """Show these figures and no others."""
        self.rows.show([((one.tenant,), one.rows) for one in stored], add)
        self.size.show([((one.tenant,), one.size) for one in stored], add)
        limits = [(one, rules.of(one.tenant).stored_bytes) for one in stored]
        used = [((one.tenant,), one.size / most) for one, most in limits if most]
        self.used.show(used, max, zeros=[] if used else [("",)])
