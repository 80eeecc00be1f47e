"""Settings of the section `cells`: the cells of a routing gateway, and which tenant is in which."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.http.hosts import Host, host_of
from spanpost.http.urls import http_url
from spanpost.receivers.cells.assignment import CellAssignment
from spanpost.settings.section import Duration, Section, expanded

_TEAM = re.compile(r"^[TE][A-Z0-9]{2,30}$")
#: Fewest characters of a router's token.
_TOKEN = 32
CellName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]


class CellSettings(Section):
    """A cell: gateways that share one database."""

    urls: tuple[str, ...] = Field(
        min_length=1,
        max_length=32,
        description="Addresses of its gateways' HTTP ports. Several are replicas of one database: "
        '`["http://10.0.1.5:4318"]`.',
    )
    token: SecretStr = Field(
        description="Token by which the cell knows this router; the cell has its hash in `gateway.router_tokens` "
        "(`spanpost token new`). Never printed."
    )
    public_url: str | None = Field(
        default=None,
        description="Address of the cell in browsers and for Slack: `https://a.agents.example.com`. Requests for this "
        "host go to this cell: board, API, login, webhooks, Slack.",
    )
    ca: Path | None = Field(
        default=None, description="CA of the cell's certificates, PEM; not given: the authorities of this system."
    )

    _expand = field_validator("ca")(expanded)

    @field_validator("urls")
    @classmethod
    def _are_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(http_url(one, is_bare=True) for one in value)

    @field_validator("public_url")
    @classmethod
    def _is_public(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = http_url(value, is_bare=True)
        if urlsplit(url).path:
            raise ValueError("must hold no path: the cell is known by its host")
        return url

    @field_validator("token")
    @classmethod
    def _is_long(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < _TOKEN:
            raise ValueError(f"must have {_TOKEN} characters or more, as `spanpost token new` makes them")
        return value

    @property
    def host(self) -> Host | None:
        """The host of its public address."""
        return host_of(urlsplit(self.public_url).netloc.lower()) if self.public_url else None


class CellsSettings(Section, CellAssignment):
    """Makes `spanpost run` a routing gateway: it keeps no database, and passes each request on to the cell of its
    tenant. See [Beyond one PostgreSQL](../explanation/scaling.md).
    """

    named: dict[CellName, CellSettings] = Field(
        min_length=1, description="The cells, each a `[cells.named.<name>]`. Read at the start."
    )
    default: str = Field(
        default=CellAssignment.default,
        description="Cell of the tenants that `tenants` does not name; empty: every tenant must be named.",
    )
    tenants: dict[str, str] = Field(
        default={}, description='Cell by tenant: `{acme = "a", globex = "b"}`. Read again at SIGHUP.'
    )
    held: tuple[str, ...] = Field(
        default=CellAssignment.held,
        description="Tenants that are being moved: their requests are answered 503 with `Retry-After`. Read again at "
        "SIGHUP.",
    )
    hooks: dict[str, str] = Field(
        default={}, description="Cell by name of a webhook provider (`/hooks/<name>`), where the host does not say it."
    )
    slack_teams: dict[str, str] = Field(
        default={},
        description='Cell by id of a Slack workspace, where one app serves several cells: `{T0123ABCD = "a"}`.',
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(minutes=5),
        description="Time until a cell must begin to answer, besides the wait that a client asks for.",
    )

    @field_validator("slack_teams")
    @classmethod
    def _are_teams(cls, value: dict[str, str]) -> dict[str, str]:
        for team in value:
            if not _TEAM.match(team):
                raise ValueError(f"{team[:40]!r} is no id of a workspace; it begins with T, as in T0123ABCD")
        return value

    @model_validator(mode="after")
    def _are_known(self) -> CellsSettings:
        if unknown := sorted(self.used - self.named.keys()):
            raise ValueError(f"there is no cell {unknown[0]!r}; there is {', '.join(sorted(self.named))}")
        seen: dict[Host, str] = {}
        for name, cell in self.named.items():
            if cell.host is not None and seen.setdefault(cell.host, name) != name:
                raise ValueError(f"cells {seen[cell.host]!r} and {name!r} have the same public_url: give each its own")
        return self

    @property
    def hosts(self) -> dict[Host, str]:
        """The cells by host of their public addresses."""
        return {cell.host: name for name, cell in self.named.items() if cell.host is not None}
