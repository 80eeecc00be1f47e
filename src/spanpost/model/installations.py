"""An app that people install in workspaces, and its installations as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec


@dataclass(frozen=True, kw_only=True)
class InstallTerms:
    """The app at Slack, and the public address at which people install it."""

    client_id: str
    public_url: str
    scopes: tuple[str, ...]


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """One app in one workspace, its token encrypted. Empty `encrypted`: it was removed and its token deleted."""

    #: The app's id at its provider (Slack: `client_id`), and the workspace (`T...`).
    client: str
    team: str
    enterprise: str = ""
    team_name: str = ""
    app_id: str = ""
    bot: str = ""
    bot_user: str = ""
    scopes: tuple[str, ...] = ()
    #: The user id of the person who installed it.
    by: str = ""
    #: Its tokens, encrypted by `spanpost.encryption`.
    encrypted: bytes = b""
    #: When the token expires; None: never.
    expires_at: datetime | None = None
    #: Set by the store: when it was installed and removed (store clock), and the revision of the row.
    installed_at: datetime | None = None
    removed_at: datetime | None = None
    #: Why it was removed, in one word.
    why: str = ""
    revision: int = 0

    @property
    def is_there(self) -> bool:
        """True until it is removed."""
        return bool(self.encrypted)
