"""Workspaces in which the Slack app is installed: which may install it, their tenants, and their tokens.

Tokens are encrypted (`spanpost.encryption`) before they reach the store, bound to their app and workspace,
so that a row copied over another decrypts to nothing. slack_sdk's stores on SQLAlchemy would keep them in
clear, and need a second pool of connections.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from spanpost.encryption import Broken, Encryption
from spanpost.interactions.protocols import NO_KEY, NotTaken
from spanpost.model.acts import Operation
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.findings import Finding
from spanpost.model.installations import Installed
from spanpost.model.interventions import Actor
from spanpost.settings import Settings
from spanpost.sinks.base import Installs, NoToken, Sink
from spanpost.text.sanitise import line

if TYPE_CHECKING:
    from spanpost.settings import SlackOauthSettings
    from spanpost.sinks.slack.settings import SlackSettings, WorkspaceSettings
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost.slack")

#: How long a workspace is cached, seconds: other processes install and remove, too.
CACHED: Final = 5.0
#: Remaining life at which an expiring token is replaced (Slack grants twelve hours).
AHEAD: Final = timedelta(hours=2)
#: Pauses between repeated releases of waiting deliveries after an installation, seconds.
_AGAIN: Final = (1.0, 5.0, 15.0)
#: How long one process has alone to fetch the next token.
_LEASE: Final = timedelta(seconds=30)
#: Maximum number of cached workspaces.
_MOST: Final = 10_000
#: Why an installation was removed from the command line.
BY_HAND: Final = "by hand"
_KEY: Final = "set slack_oauth.key to the key that the gateways have, or install the app there again: {}"


class OpenedInstallation(msgspec.Struct, frozen=True):
    """An installation and its decrypted token."""

    installed: Installed
    token: str


class Workspaces:
    """The workspaces of one process. `wake` is called when waiting deliveries may be sent. `clock` is the
    time of day.
    """

    def __init__(
        self,
        section: SlackOauthSettings,
        slack: SlackSettings | None,
        store: Store,
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._wake = wake
        self._clock = clock
        self.use(section, slack)
        self._known: dict[str, tuple[float, OpenedInstallation]] = {}
        self._logged: set[tuple[str, int]] = set()
        self._fetching = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()

    def use(self, section: SlackOauthSettings, slack: SlackSettings | None) -> None:
        """Use other settings of the same app from now on."""
        self.section = section
        self._slack = slack
        self.encryption: Encryption | None = Encryption(section.keys) if section.keys else None

    # --- names and tenants ------------------------------------------------------------------------------------------

    def name_of(self, team: str) -> str:
        """Return the name of a workspace in routes."""
        return (self._slack.name_of(team) if self._slack is not None else None) or team

    def tenant_of(self, team: str) -> str:
        """Return the only tenant whose tasks are posted in a workspace and answered from it."""
        name = self.name_of(team)
        if name == team or self._slack is None:
            return team
        one = self._slack if name == "default" else self._slack.workspaces[name]
        return one.tenant.strip()

    def takes(self, team: str, enterprise: str) -> bool:
        """Return whether the app may be installed and used there."""
        return (
            self.name_of(team) != team
            or self.section.allow == "any"
            or (bool(enterprise) and enterprise in self.section.enterprises)
        )

    # --- installation and removal -----------------------------------------------------------------------------------

    async def install(self, installed: Installed, tokens: dict[str, str]) -> Installed:
        """Keep an installation, and release the deliveries that waited for it. Raises `NotTaken` and
        `StoreUnavailable`.
        """
        if self.encryption is None:
            raise NotTaken(NO_KEY)
        if not self.takes(installed.team, installed.enterprise):
            raise NotTaken(
                "This workspace is not among those in which this app may be installed. Ask its operator to add it."
            )
        encrypted = self.encryption.encrypt(_of(installed), tokens)
        kept = await self._store.installations.save(
            msgspec.structs.replace(installed, client=self.section.client_id, encrypted=encrypted)
        )
        by = Actor(provider="slack", team=kept.team, id=kept.by, credential="slack login")
        await self._note("install_slack_app", kept.team, by)
        self._known.pop(kept.team, None)
        name = self.name_of(kept.team)
        log.info("the Slack app was installed in %s by %s: routes call it %s", kept.team, kept.by, name)
        await self._release(name)
        again = asyncio.create_task(self._release_again(name))
        self._under_way.add(again)
        again.add_done_callback(self._under_way.discard)
        return kept

    async def _note(self, what: str, detail: str, by: Actor | None) -> None:
        """Record an act on an installation; without a person, of the system's user."""
        from spanpost.store.system_user import system_user

        source = "slack" if by is not None else "cli"
        tenant = self.tenant_of(detail.partition(":")[0])
        done = Operation(what, system_user(), detail, tenant, source, actor=by)
        await self._store.acts.note_operation(done)

    async def _release(self, name: str) -> None:
        await self._store.outbox.reopen([f"slack:{name}"])
        self._wake()

    async def _release_again(self, name: str) -> None:
        """Release again deliveries that were refused during the installation: a refusal may be written
        after it.
        """
        for pause in _AGAIN:
            await asyncio.sleep(pause)
            with suppress(StoreUnavailable):
                await self._release(name)

    async def remove(self, team: str, why: str, revision: int | None = None) -> bool:
        """Delete a workspace's token (only that revision, if given). Raises `StoreUnavailable`."""
        self._known.pop(team, None)
        is_gone = await self._store.installations.remove(self.section.client_id, team, why, revision)
        if is_gone:
            by = Actor(provider="slack", team=team, id="slack", credential="slack") if why != BY_HAND else None
            await self._note("remove_slack_app", f"{team}: {why}", by)
            log.warning("the Slack app is gone from workspace %s (%s): its deliveries wait", self.name_of(team), why)
        return is_gone

    async def reencrypt(self) -> int:
        """Encrypt tokens of older keys again with the first key; return the number. Raises
        `StoreUnavailable`.
        """
        count = 0
        for one in await self._store.installations.listed(self.section.client_id):
            if self.encryption is None or not one.is_there or not self.encryption.is_old(one.encrypted):
                continue
            try:
                encrypted = self.encryption.encrypt(_of(one), self.encryption.open(_of(one), one.encrypted))
            except Broken as error:
                log.warning("workspace %s: %s; it is left as it is", one.team, error)
                continue
            count += await self._store.installations.renew(one, encrypted, one.expires_at)
        return count

    async def listed(self) -> list[Installed]:
        """Return the installations, removed ones too. Raises `StoreUnavailable`."""
        return await self._store.installations.listed(self.section.client_id)

    # --- tokens -----------------------------------------------------------------------------------------------------

    async def token(self, team: str, *, refused: str = "") -> str:
        """Return a workspace's token. Raises `NoToken` and `StoreUnavailable`."""
        opened = await self.find(team)
        if refused and opened is not None and opened.token == refused:
            self._known.pop(team, None)
            opened = await self.find(team)
        if opened is None:
            raise NoToken("the app is not installed there", f"install it: {self.section.install_url}")
        return opened.token

    async def find(self, team: str) -> OpenedInstallation | None:
        """Return a usable installation with its token; None without. Raises `NoToken` and `StoreUnavailable`."""
        known = self._known.get(team)
        if known is None or time.monotonic() - known[0] > CACHED:
            opened = await self._read(team)
            if opened is not None and self._ends_soon(opened.installed):
                opened = await self._renewed(opened)
            if opened is None:
                self._known.pop(team, None)  # another process may install it in a moment
                return None
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[team] = (time.monotonic(), opened)
        return known[1]

    async def row(self, team: str) -> Installed | None:
        """Return the present row of an installation; None if there is none. Raises `StoreUnavailable`."""
        found = await self._store.installations.find(self.section.client_id, team)
        return found if found is not None and found.is_there else None

    async def _read(self, team: str) -> OpenedInstallation | None:
        found = await self.row(team)
        if found is None or not self.takes(team, found.enterprise):
            return None
        return OpenedInstallation(found, self.open(found)["token"])

    def open(self, installed: Installed) -> dict[str, str]:
        """Return the decrypted tokens. Raises `NoToken`."""
        cure = _KEY.format(self.section.install_url)
        if self.encryption is None:
            raise NoToken("its token is encrypted, and no key is set here", cure)
        try:
            return self.encryption.open(_of(installed), installed.encrypted)
        except Broken as error:
            raise NoToken(f"its token cannot be decrypted: {error}", cure) from None

    def _ends_soon(self, installed: Installed) -> bool:
        return installed.expires_at is not None and installed.expires_at - self._now() < AHEAD

    async def _renewed(self, opened: OpenedInstallation) -> OpenedInstallation | None:
        """Fetch the next token, unless another process does; until then the present one is valid."""
        async with self._fetching:
            one = opened.installed
            tokens = self.open(one)
            if not tokens.get("refresh") or not await self._store.installations.claim(one, _LEASE):
                return opened
            from spanpost.sinks.slack.rotation import NoRotation, rotated

            assert self.section.client_secret is not None
            try:
                new = await rotated(
                    self.section.client_id,
                    self.section.client_secret.get_secret_value(),
                    tokens["refresh"],
                    base_url=self.base_url,
                )
            except NoRotation as error:
                if (one.team, one.revision) not in self._logged:
                    self._logged.add((one.team, one.revision))
                    log.warning(
                        "workspace %s: the next token cannot be fetched (%s); if that continues, install the app again",
                        one.team,
                        error,
                    )
                return opened
            assert self.encryption is not None
            encrypted = self.encryption.encrypt(_of(one), {"token": new.token, "refresh": new.refresh})
            await self._keep(one, encrypted, self._now() + new.lasts)
            return await self._read(one.team)

    async def _keep(self, one: Installed, encrypted: bytes, ends: datetime) -> None:
        """Keep a new token. Its refresh token is used up, so a short outage must not lose the result."""
        for pause in (0.2, 1.0, 3.0):
            with suppress(StoreUnavailable):
                await self._store.installations.renew(one, encrypted, ends)
                return
            await asyncio.sleep(pause)
        await self._store.installations.renew(one, encrypted, ends)

    @property
    def base_url(self) -> str:
        """Address of Slack's Web API."""
        return self._slack.base_url if self._slack is not None else "https://slack.com/api/"

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _of(installed: Installed) -> str:
    return f"slack\0{installed.client}\0{installed.team}"


def workspaces_of(settings: Settings, store: Store, **more: Any) -> Workspaces | None:
    """Return the workspaces of the settings; None if the app cannot be installed. Raises `ConfigError`."""
    refuse_unfit(settings)
    section = settings.slack_oauth
    if section is None or not section.enabled:
        return None
    return Workspaces(section, cast("SlackSettings | None", settings.sinks.get("slack")), store, **more)


def refuse_unfit(settings: Settings) -> None:
    """Raise `ConfigError` for a workspace of the settings in which the app cannot be installed."""
    slack = cast("SlackSettings | None", settings.sinks.get("slack"))
    if slack is None:
        return
    from spanpost.sinks.slack.settings import TEAM

    section = settings.slack_oauth if settings.slack_oauth is not None and settings.slack_oauth.enabled else None
    routed = [
        one.address for one in settings.routes if one.sink == "slack" and TEAM.fullmatch(one.address.rpartition("/")[0])
    ]
    if section is None:
        wanting = [
            f"slack.workspaces.{name}.team" if name else "slack.team" for name, one in named(slack).items() if one.team
        ]
        for each in [*wanting, *(f"routes: {address!r}" for address in routed)]:
            raise ConfigError(
                f"{each}: a workspace in which the app is installed needs the section slack_oauth: set it, or "
                "give a token"
            )
    elif routed and section.allow != "any" and not section.enterprises:
        raise ConfigError(
            f"routes: {routed[0]!r}: the app may not be installed there: list the workspace with its team in "
            "slack.workspaces, "
            'or set slack_oauth.allow to "any"'
        )


def named(slack: SlackSettings) -> dict[str, WorkspaceSettings]:
    """Return all workspaces of the settings by name; the sink's own has the name ''."""
    return {"": slack, **slack.workspaces}


def lend(sinks: Iterable[Sink], workspaces: Workspaces | None) -> None:
    """Give the workspaces to the sinks that look up tokens in them."""
    for sink in sinks:
        if workspaces is not None and isinstance(sink, Installs):
            sink.installed(workspaces)


async def examined(workspaces: Workspaces) -> list[Finding]:
    """Check the settings and each installation, without calls to Slack. Raises `StoreUnavailable`."""
    section = workspaces.section
    found = [Finding(ok=True, found=f"the app is installed at {section.install_url}")]
    if workspaces.encryption is None:
        cure = "set SPANPOST_SLACK_OAUTH__KEY; `spanpost slack key` makes one"
        found = [Finding(ok=False, found="no key is set: nothing can be installed", cure=cure)]
    for one in await workspaces.listed():
        name = f"{workspaces.name_of(one.team)} ({one.team}, {line(one.team_name, 80)})"
        again = f"install it again: {section.install_url}"
        if not one.is_there:
            found.append(Finding(ok=True, found=f"{name}: removed ({one.why}); its deliveries wait", cure=again))
            continue
        if not workspaces.takes(one.team, one.enterprise):
            cure = "list it in slack.workspaces with its team, or remove it: spanpost slack remove"
            found.append(Finding(ok=True, found=f"{name}: installed, and not used: it is not listed", cure=cure))
            continue
        try:
            workspaces.open(one)
        except NoToken as error:
            found.append(Finding(ok=False, found=f"{name}: {error}", cure=error.cure))
            continue
        found_text = f"{name}: installed by {one.by}, of tenant {workspaces.tenant_of(one.team)}"
        lacking = [scope for scope in section.scopes if scope not in one.scopes]
        more = f"; without the scopes {', '.join(lacking)}" if lacking else ""
        found.append(Finding(ok=True, found=found_text + more, cure=again if lacking else ""))
    return found
