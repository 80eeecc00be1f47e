"""What `spanpost check` says of the limits of tenants: what is limited, whether anything judges it, and who is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spanpost.cli.listening import NamedFinding
from spanpost.model.tenant_limits import TenantLimits, TenantStorage
from spanpost.settings import Settings
from spanpost.text.sanitise import line

#: Entries of a batch, as exporters send them by default.
_BATCH = 512
#: Part of the storage from which it is reported, as by the alert SpanpostTenantStorage.
_NEARLY = 0.9


def examine_limits(settings: Settings) -> Iterator[NamedFinding]:
    """Report the limits, if there are any."""
    section = settings.limits
    named = {"": section, **{name: section.of(name) for name in section.tenants}}
    said = [
        f"tenant {line(name, 60)}: {_said(limits)}" if name else _said(limits)
        for name, limits in named.items()
        if name or _is_limited(limits)
    ]
    if not any(_is_limited(limits) for limits in named.values()):
        return
    is_off = settings.gateway is not None and not settings.gateway.enabled
    if is_off or settings.cells is not None or settings.forward is not None:
        cure = "set [limits] for the gateways that record OTLP, in each cell, and remove it here"
        yield NamedFinding("limits", False, "nothing judges them: only a gateway that records OTLP does", cure)
        return
    for name, limits in named.items():
        if limits.entries_per_second and limits.bucket + limits.entries_per_second < _BATCH:
            where = f"tenant {line(name, 60)}" if name else "each tenant"
            cure = f"set limits.burst to {_BATCH} or more, or let exporters send smaller batches"
            yield NamedFinding(
                "limits", True, f"after one batch of {_BATCH} spans {where} waits for more than a second", cure
            )
    yield NamedFinding("limits", True, "; ".join(said))


def stored_findings(settings: Settings, stored: Iterable[TenantStorage]) -> Iterator[NamedFinding]:
    """Report tenants that have stored nearly all that they may, as last measured."""
    for one in stored:
        most = settings.limits.of(one.tenant).stored_bytes
        if not most or one.size < _NEARLY * most:
            continue
        is_over = one.size >= most
        what = "nothing more of it is taken" if is_over else "its requests are refused at 100 %"
        yield NamedFinding(
            "limits",
            not is_over,
            f"tenant {line(one.tenant, 60)} has stored {one.size / most:.0%} of limits.stored_bytes: {what}",
            "archive or erase old rows of it, or raise the limit (docs/runbooks/tenant-storage.md)",
        )


def _is_limited(limits: TenantLimits) -> bool:
    return bool(limits.entries_per_second or limits.open_tasks or limits.stored_bytes)


def _said(limits: TenantLimits) -> str:
    found = []
    if limits.entries_per_second:
        found.append(f"{limits.entries_per_second:,} entries a second, {limits.bucket:,} at once")
    if limits.open_tasks:
        found.append(f"{limits.open_tasks:,} open tasks")
    if limits.stored_bytes:
        found.append(f"{limits.stored_bytes:,} bytes")
    return ", ".join(found) or "no limit"
