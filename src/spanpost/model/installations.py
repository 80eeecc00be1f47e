"""An app that somebody installed in a workspace, as the store keeps it: its token sealed, everything else to be read."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """One app in one workspace. An empty seal: it was removed, and its token let go of."""

    #: The app, as its provider names it to those who install it (Slack: `client_id`), and the workspace (`T...`).
    client: str
    team: str
    enterprise: str = ""
    team_name: str = ""
    app_id: str = ""
    bot: str = ""
    bot_user: str = ""
    scopes: tuple[str, ...] = ()
    #: The user id of who installed it.
    by: str = ""
    #: What `spanpost.encryption` made of its tokens.
    encrypted: bytes = b""
    #: When the token ends, where it does.
    expires_at: datetime | None = None
    #: Told by the store: since when, by its clock, and which writing of the row this is.
    installed_at: datetime | None = None
    removed_at: datetime | None = None
    #: Why it was removed, in one word.
    why: str = ""
    revision: int = 0

    @property
    def is_there(self) -> bool:
        """True until it was removed."""
        return bool(self.encrypted)
