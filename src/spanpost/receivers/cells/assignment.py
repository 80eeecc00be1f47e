"""Assignment of requests to cells. Pure.

A tenant is in exactly one cell: the one that `tenants` names, else `default`. No hash is computed, because a new
cell would move tenants away from their rows. Requests without a tenant's token have a signature or a session that
only their cell can check. They are assigned by the cell's public host name, by the name of a webhook provider,
or by a Slack workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spanpost.http.hosts import Host


@dataclass(frozen=True, kw_only=True)
class CellAssignment:
    """The tables of a routing gateway. Each value is the name of a cell."""

    #: The cell of tenants that `tenants` does not name; empty: they have none.
    default: str = ""
    tenants: Mapping[str, str] = field(default_factory=dict)
    #: Tenants whose requests are answered 503 while they are moved.
    held: tuple[str, ...] = ()
    #: By name of a webhook provider.
    hooks: Mapping[str, str] = field(default_factory=dict)
    #: By id of a Slack workspace.
    slack_teams: Mapping[str, str] = field(default_factory=dict)

    def of_tenant(self, tenant: str) -> str:
        """Return the cell of a tenant; empty: none."""
        return self.tenants.get(tenant, self.default)

    def of_slack(self, team: str) -> str:
        """Return the cell of a workspace; empty: none. A request of Slack's that names none (`url_verification`) is
        for any cell of the app: all of them have its signing secret.
        """
        return self.slack_teams.get(team, "") if team else next(iter(self.slack_teams.values()), "")

    @property
    def used(self) -> frozenset[str]:
        """The cells that the tables name."""
        named = {*self.tenants.values(), *self.hooks.values(), *self.slack_teams.values(), self.default}
        return frozenset(named - {""})


def of_host(hosts: Mapping[Host, str], host: Host | None) -> str:
    """Return the cell whose public address has this host; empty: none."""
    if host is None:
        return ""
    return hosts.get(host) or hosts.get(Host(host.name)) or ""
