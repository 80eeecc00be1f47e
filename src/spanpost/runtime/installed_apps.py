"""Slack apps in workspaces where somebody installed them: each is made at its first event and kept while
its installation does not change.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.web import Trouble
from spanpost.runtime.workspaces import Workspaces
from spanpost.sinks.base import NoToken

log = logging.getLogger("spanpost.interactions")

#: Apps that are kept, the most recently used: each has connections and a cache of its people.
_MOST: Final = 200
#: Slack's errors for a token that is permanently invalid.
_GONE: Final = frozenset({"token_revoked", "account_inactive", "invalid_auth", "token_expired"})

#: Makes the app in a workspace from its token, its tenant, and its identity there.
Makes = Callable[[str, str, Self], Installation]


class InstalledApps:
    """The installed apps of one process."""

    def __init__(self, workspaces: Workspaces, make: Makes) -> None:
        self._workspaces = workspaces
        self._make = make
        self._made: OrderedDict[str, tuple[int, Installation]] = OrderedDict()
        self._left: list[Installation] = []
        #: Workspaces whose undecryptable token was logged.
        self._logged: set[str] = set()

    async def find(self, team: str) -> Installation | None:
        """Return the app in a workspace; None if it is not installed or may not be used. Raises
        `StoreUnavailable`.
        """
        try:
            opened = await self._workspaces.find(team)
        except NoToken as error:
            if team not in self._logged:
                self._logged.add(team)
                log.error("answers from workspace %s are not received: %s; %s", team, error, error.cure)
            return None
        self._logged.discard(team)
        if opened is None:
            return None
        row = opened.installed
        made = self._made.get(team)
        if made is None or made[0] != row.revision:
            me = Self(team=row.team, enterprise=row.enterprise, bot_user=row.bot_user, bot=row.bot)
            new = self._make(opened.token, self._workspaces.tenant_of(team), me)
            await self._put(team, row.revision, new)
            return new
        self._made.move_to_end(team)
        return made[1]

    async def _put(self, team: str, revision: int, new: Installation) -> None:
        old = self._made.pop(team, None)
        self._made[team] = (revision, new)
        if len(self._made) > _MOST:
            old = self._made.popitem(last=False)[1]
        if old is not None:
            # It may still be answering a person: it is closed when the next one is replaced.
            self._left.append(old[1])
            if len(self._left) > 1:
                await self._left.pop(0).web.close()

    async def gone(self, team: str, why: str, at: float | None) -> bool:
        """Remove an installation that was reported as gone at time `at`; False if it still works.

        Such events come late, and repeatedly: if the app was installed since, or the time is unknown, Slack
        is asked. Raises `Trouble` and `StoreUnavailable`.
        """
        row = await self._workspaces.row(team)
        if row is None:
            return False
        installed = row.installed_at.timestamp() if row.installed_at is not None else 0.0
        if (at is None or at < installed) and await self._works(team):
            return False
        return await self._workspaces.remove(team, why, row.revision)

    async def _works(self, team: str) -> bool:
        found = await self.find(team)
        if found is None:
            return False
        try:
            await found.web.call("auth.test")
        except Trouble as trouble:
            if trouble.error in _GONE:
                return False
            raise
        return True

    def forget(self) -> None:
        """Make all apps again at their next event, because the rules have changed."""
        self._left += [made for _, made in self._made.values()]
        self._made.clear()

    async def close(self) -> None:
        """Close the connections."""
        self.forget()
        while self._left:
            await self._left.pop().web.close()
