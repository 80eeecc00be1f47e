"""What `spanpost check` says of a database that answers: what is behind on it, and which tokens end soon."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from spanpost.cli.listening import NamedFinding
from spanpost.model.access_tokens import AccessToken
from spanpost.model.fleet import Fleet
from spanpost.runtime.component_health import of_fleet
from spanpost.text.sanitise import line


def component_findings(fleet: Fleet | None) -> Iterator[NamedFinding]:
    """Report the components that work on the database and have something to do; those that are late, what helps."""
    for one in of_fleet(fleet) if fleet is not None else ():
        if one.state != "ok" or one.since is not None:
            cure = "see `spanpost deliveries list` and the board's page System" if one.state != "ok" else ""
            yield NamedFinding(one.name, True, one.detail, cure)


def token_findings(ends: Iterable[AccessToken]) -> Iterator[NamedFinding]:
    """Report access tokens that end soon."""
    for token in ends:
        name, verb = line(token.name, 100), "ends" if token.is_valid(datetime.now(UTC)) else "has ended"
        cure = f"spanpost token rotate {shlex.quote(name)}"
        yield NamedFinding("tokens", True, f"{name} {verb}: {token.expires_at:%Y-%m-%d %H:%M} UTC", cure)
