"""Installation of an app by OAuth: codes for one use, tokens that may expire.

See docs.slack.dev/authentication/installing-with-oauth.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spanpost.testing.fake_slack.rules import SlackError

#: Lifetime of an expiring token, seconds.
LASTS: Final = 43_200


@dataclass
class OauthApp:
    """An app that people install. With `rotates` its tokens expire."""

    client_id: str = "11.22"
    client_secret: str = "fake-client-secret"
    rotates: bool = False
    #: By code: the workspace, its organisation, and whether the whole of that is meant.
    codes: dict[str, tuple[str, str, bool]] = field(default_factory=dict)
    #: By refresh token, each for one use: the workspace.
    refreshes: dict[str, str] = field(default_factory=dict)

    def code(self, team: str = "T0222BBBB", enterprise: str = "", *, is_org: bool = False) -> str:
        """Return the code of the redirect after a person allowed the app."""
        code = secrets.token_hex(8)
        self.codes[code] = (team, enterprise, is_org)
        return code

    def access(self, given: Mapping[str, Any], authorization: str, add: Callable[[str, str], Any]) -> dict[str, Any]:
        """Answer ``oauth.v2.access``; `add(token, team)` makes a token known. Raises `SlackError`."""
        who = f"{given.get('client_id')}:{given.get('client_secret')}"
        if authorization.startswith("Basic "):
            who = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if who != f"{self.client_id}:{self.client_secret}":
            raise SlackError("invalid_client_id" if not who.startswith(f"{self.client_id}:") else "bad_client_secret")
        if given.get("grant_type") == "refresh_token":
            team = self.refreshes.pop(str(given.get("refresh_token")), "")
            if not team:
                raise SlackError("invalid_refresh_token")
            return self._given(team, "", False, add)
        if str(given.get("code")) not in self.codes:
            raise SlackError("invalid_code")
        return self._given(*self.codes.pop(str(given["code"])), add)

    def _given(self, team: str, enterprise: str, is_org: bool, add: Callable[[str, str], Any]) -> dict[str, Any]:
        token = f"{'xoxe.' if self.rotates else ''}xoxb-{team}-{secrets.token_hex(8)}"
        add(token, team)
        more: dict[str, Any] = {}
        if self.rotates:
            refresh = f"xoxe-1-{secrets.token_hex(8)}"
            self.refreshes[refresh] = team
            more = {"refresh_token": refresh, "expires_in": LASTS}
        return more | {
            "access_token": token,
            "token_type": "bot",
            "scope": "chat:write,channels:read",
            "bot_user_id": "U0SPANPOST",
            "app_id": "A0SPANPOST",
            "team": None if is_org else {"id": team, "name": f"Workspace <{team}>"},
            "enterprise": {"id": enterprise, "name": "Org"} if enterprise else None,
            "authed_user": {"id": "U0INSTALLER"},
            "is_enterprise_install": is_org,
        }
