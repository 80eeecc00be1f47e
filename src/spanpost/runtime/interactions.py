"""Interactions made from the settings: Slack apps over HTTP and Socket Mode, and the authorization rules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo

from spanpost.interactions.authorization import AuthorizationRules
from spanpost.interactions.protocols import (
    RESOLVERS,
    InteractionMetrics,
    Resolver,
)
from spanpost.model.alerts import Alert
from spanpost.model.errors import ConfigError
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.plugins import PluginGroup
from spanpost.routing.routes import Routes, chosen
from spanpost.runtime import workers
from spanpost.runtime.assembly import figures_of, routes_of
from spanpost.settings import Settings
from spanpost.settings.interactions import AppSettings, FurtherAppSettings, InteractionsSettings
from spanpost.text.locales import Locale, locale

if TYPE_CHECKING:
    from spanpost.interactions.acts import Reads
    from spanpost.interactions.alerts import AlertActs
    from spanpost.interactions.slack.app import SlackApp
    from spanpost.interactions.slack.http import SlackHttp
    from spanpost.interactions.slack.installations import Everywhere, Installation, Self
    from spanpost.runtime.installed_apps import InstalledApps
    from spanpost.runtime.workspaces import Workspaces
    from spanpost.sinks.slack.settings import SlackSettings
    from spanpost.store.protocols import Store

log = logging.getLogger("spanpost.interactions")

#: Time limit for work in progress, then for connections, when interactions end. Seconds.
_FINISH: Final = 1.0


def apps_of(settings: Settings) -> list[tuple[AppSettings, str, str | None]]:
    """Return the apps that receive events, each with its bot token, and its tenant if it has one. Raises
    `ConfigError`.
    """
    section = settings.interactions
    if section is None or not section.enabled:
        return []
    apps: list[tuple[AppSettings, str, str | None]] = []
    if section.app_token or section.signing_secret:
        slack = slack_of(settings)
        if slack is not None and slack.token is not None:
            apps.append((section, slack.token.get_secret_value(), slack.tenant.strip() or None))
        elif settings.slack_oauth is None or not settings.slack_oauth.enabled:
            raise ConfigError(
                "interactions: an app has no bot token: set SPANPOST_SLACK__TOKEN (xoxb-...), or let people "
                "install it (slack_oauth)"
            )
    for app in section.apps:
        if not (app.app_token or app.signing_secret):
            raise ConfigError(
                "interactions.apps: one has neither app_token nor signing_secret, and receives nothing: set one of them"
            )
        apps.append((app, *_token_of(app, settings)))
    return apps


def _token_of(app: FurtherAppSettings, settings: Settings) -> tuple[str, str | None]:
    """Return the bot token and the tenant of an app: its own, or those of its workspace."""
    if app.token is not None:
        return app.token.get_secret_value(), app.tenant
    slack = slack_of(settings)
    workspace = slack.workspaces.get(app.workspace) if slack is not None else None
    if workspace is None or workspace.token is None:
        raise ConfigError(
            f"interactions.apps: workspace {app.workspace!r}: there is no such name in slack.workspaces, or it "
            "has no token"
        )
    tenant = workspace.tenant.strip() or None
    if app.tenant is not None and tenant is not None and app.tenant != tenant:
        raise ConfigError(
            f"interactions.apps: workspace {app.workspace!r} is tenant {tenant!r}'s, and the app "
            f"{app.tenant!r}'s: say one of them"
        )
    return workspace.token.get_secret_value(), app.tenant or tenant


def slack_of(settings: Settings) -> SlackSettings | None:
    """Return the settings of the sink `slack`, if there are any."""
    return cast("SlackSettings | None", settings.sinks.get("slack"))


def resolvers_of(section: InteractionsSettings) -> dict[str, Resolver]:
    """Load the resolvers that rules name. Raises `ConfigError`."""
    group = PluginGroup(RESOLVERS, "interactions.rules: resolver", "docs/how-to/answer-from-slack.md")
    found: dict[str, Resolver] = {}
    for name in sorted({rule.resolver for rule in section.rules if rule.resolver}):
        resolver = group.load(name)
        if not callable(resolver):
            raise group.refusal(name, "it cannot be called; it takes a Question and returns an Answer")
        found[name] = resolver
    return found


def _concealing(settings: Settings, slack: SlackSettings | None) -> Callable[[Task], Task]:
    """Return a function that hides the parts of a task that the sink's settings keep out of Slack."""
    from spanpost.sinks.slack import slack_style_of

    if slack is None:
        return lambda task: task
    style, table = slack_style_of(slack), routes_of(settings)

    def conceal(task: Task) -> Task:
        # Answers of commands are shown in any channel: all routes of the task hide what they hide.
        for route in chosen(task, table, sink="slack"):
            task = style.by(route).of_task(task)
        return style.of_task(task)

    return conceal


def speaking(settings: Settings) -> Callable[[Task | None, Sequence[str]], Locale]:
    """Return a function that selects the language of answers: that of the task's route, else of the route
    to the channel.
    """
    slack = slack_of(settings)
    routes = routes_of(settings) if slack is not None else Routes()
    otherwise = slack.language if slack is not None else "en"

    def speaks(task: Task | None, channels: Sequence[str]) -> Locale:
        if task is not None:
            return locale(next((route.language for route in chosen(task, routes, sink="slack")), "") or otherwise)
        languages = {
            route.address.rpartition("/")[2].lstrip("#"): route.language
            for route in reversed(routes.routes)
            if route.address
        }
        named = (channel.lstrip("#") for channel in channels if channel)
        return locale(next((languages[name] for name in named if name in languages), "") or otherwise)

    return speaks


def reading(settings: Settings) -> Reads:
    """Return a function that shows a question as people can read it in Slack."""
    from spanpost.sinks.slack import slack_style_of
    from spanpost.sinks.slack.questions import reader
    from spanpost.sinks.slack.style import SlackStyle

    slack = slack_of(settings)
    return reader(slack_style_of(slack), routes_of(settings)) if slack is not None else reader(SlackStyle(), Routes())


def _secrets(app: AppSettings) -> tuple[str, ...]:
    return tuple(one.get_secret_value() for one in (app.signing_secret, app.old_signing_secret) if one is not None)


def _ways(app_token: str, secrets: tuple[str, ...]) -> tuple[bool, bool]:
    """Return whether an app receives by Socket Mode, and whether over HTTP."""
    return bool(app_token), bool(secrets)


def _app_token(app: AppSettings) -> str:
    return app.app_token.get_secret_value() if app.app_token is not None else ""


def alert_acts_of(
    settings: Settings, store: Store, take: Callable[[Recorded], None], watch: InteractionMetrics | None
) -> AlertActs:
    """Return the acts on alerts, with the Alertmanagers of the settings. Raises `ConfigError`."""
    from spanpost.interactions.alertmanager import Alertmanager
    from spanpost.interactions.alerts import AlertActs

    made = {
        one.url: Alertmanager(one.url, authorization=one.authorization, timeout=one.timeout)
        for one in settings.alerts.alertmanagers
    }

    def choose(alert: Alert) -> Alertmanager | None:
        found = settings.alerts.alertmanager_of(alert, settings.intake.tenant)
        return made[found.url] if found is not None else None

    return AlertActs(store.alerts, choose, take=take, watch=watch, zone=ZoneInfo(settings.alerts.timezone))


class InteractionsRuntime:
    """The interactions of one process. Made and started in the loop that it lives in.

    `take` receives the records of an intervention. `ping`: seconds between two checks of a connection.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        take: Callable[[Recorded], None],
        *,
        workspaces: Workspaces | None = None,
        watch: InteractionMetrics | None = None,
        ping: float = 5.0,
    ) -> None:
        section = settings.interactions
        assert section is not None
        try:
            from spanpost.interactions.slack.announcements import Announcements
            from spanpost.interactions.slack.app import SlackApp
            from spanpost.interactions.slack.entities import Entities
            from spanpost.interactions.slack.homes import Homes
            from spanpost.interactions.slack.socket import Socket, Sockets
            from spanpost.interactions.slack.unfurls import Unfurls
        except ImportError as error:
            raise ConfigError(
                f"interactions: {error.name} is missing; install it with: pip install 'spanpost[interactions]'"
            ) from error
        from spanpost.sinks.slack.transport import proxy_for

        slack = slack_of(settings)
        self._base_url = slack.base_url if slack is not None else "https://slack.com/api/"
        self._proxy = proxy = proxy_for(self._base_url)
        self._store = store
        self._take = take
        self._watch = watch
        self._settings = settings
        self._resolvers = resolvers_of(section)
        self._installed_apps: InstalledApps | None = None
        installations = [self._make(*each) for each in apps_of(settings)]
        is_installed = workspaces is not None and bool(section.app_token or section.signing_secret)
        commands, figures = settings.outputs.commands, figures_of(settings)
        channels = settings.alerts.channels
        self.app: SlackApp = SlackApp(
            installations,
            announcements=Announcements(channels, store.alerts, take) if channels else None,
            entities=Entities(commands, figures, settings.intake.tenant) if commands and figures else None,
            comments=section.comments,
            replies=section.replies,
            conceal=_concealing(settings, slack),
            unfurls=Unfurls(settings.api.public_url, _concealing(settings, slack)) if settings.api.public_url else None,
            homes=Homes(settings.api.public_url, _concealing(settings, slack)),
            everywhere=self._everywhere(section, workspaces) if is_installed and workspaces is not None else None,
        )
        # An app has one connection for all its workspaces.
        self.sockets = Sockets(lambda of: Socket(self.app, *of, proxy=proxy, watch=watch, ping=ping))
        self._joining: asyncio.Task[None] | None = None

    def _make(
        self,
        app: AppSettings,
        token: str,
        tenant: str | None,
        rules: AuthorizationRules | None = None,
        me: Self | None = None,
    ) -> Installation:
        """Return an app in one workspace; `me` is its identity if somebody installed it."""
        from spanpost.interactions.acts import Interactions
        from spanpost.interactions.read_log import ReadLog
        from spanpost.interactions.slack.installations import Installation
        from spanpost.interactions.slack.people import SlackPeople
        from spanpost.interactions.slack.web import Web

        settings, section = self._settings, self._settings.interactions
        assert section is not None
        web = Web(token, base_url=self._base_url, proxy=self._proxy)
        interactions = Interactions(
            self._store.reader,
            self._store.interventions,
            SlackPeople(web, remember=section.remember.total_seconds(), resolvers=self._resolvers),
            rules if rules is not None else section,
            take=self._take,
            source="slack",
            tenant=tenant or settings.intake.tenant,
            is_bound=tenant is not None,
            launches=settings.launchers,
            watch=self._watch,
            speaks=speaking(settings),
            reads=reading(settings),
            always_for=settings.approvals.always_for,
            alerts=alert_acts_of(settings, self._store, self._take, self._watch),
            read_log=ReadLog(self._store.acts, is_on=section.log_reads),
        )
        if me is not None:
            return Installation(interactions, web, token, me=me)
        return Installation(
            interactions, web, token, secrets=_secrets(app), app_token=_app_token(app), app_id=app.app_id, team=app.team
        )

    def _everywhere(self, section: InteractionsSettings, workspaces: Workspaces) -> Everywhere:
        from spanpost.interactions.slack.installations import Everywhere
        from spanpost.interactions.slack.web import Web
        from spanpost.runtime.installed_apps import InstalledApps

        def make(token: str, tenant: str, me: Self) -> Installation:
            # Another organisation administers this workspace and its members: only rules for its own tenant
            # apply.
            settings = self._settings.interactions
            assert settings is not None
            own = [rule for rule in settings.rules if rule.tenant == tenant]
            return self._make(settings, token, tenant, settings.with_rules(own), me)

        self._installed_apps = InstalledApps(workspaces, make)
        web = Web("", base_url=self._base_url, proxy=self._proxy)
        return Everywhere(
            self._installed_apps, web, secrets=_secrets(section), app_token=_app_token(section), app_id=section.app_id
        )

    @property
    def has_http(self) -> bool:
        """True if an app receives events over HTTP."""
        return any(one.secrets for one in self.app.apps)

    def http(self) -> SlackHttp:
        """Return the application of ``POST /slack/events``."""
        from spanpost.interactions.slack.http import SlackHttp

        return SlackHttp(self.app, self._store.interventions, watch=self._watch)

    def start(self) -> None:
        """Connect, in the background, and stay connected."""
        self._connect()
        section = self._settings.interactions
        if section is not None and section.join_channels:
            self._joining = asyncio.create_task(self._join())

    def _connect(self) -> None:
        if workers.is_first():
            self.sockets.use(self.app.apps)

    async def _join(self) -> None:
        from spanpost.interactions.slack.join import join

        slack = slack_of(self._settings)
        addresses = [route.address for route in self._settings.routes if route.sink == "slack" and route.address]
        addresses += [slack.channel] if slack is not None else []
        if not self.app.installations:
            return
        await join(self.app.installations[0].web, [address.rpartition("/")[2] for address in addresses])

    def reloading(self, settings: Settings) -> Callable[[], None]:
        """Return a function that applies new rules, tokens and signing secrets, to be called in the loop. Raises
        `ConfigError`.
        """
        section = settings.interactions
        if section is None:
            raise ConfigError(
                "interactions: they are turned on and off at the start: restart spanpost, or undo the change"
            )
        apps, known = apps_of(settings), self.app.installations
        if [_ways(_app_token(app), _secrets(app)) for app, _, _ in apps] != [
            _ways(one.app_token, one.secrets) for one in known
        ]:
            raise ConfigError(
                "interactions: apps, and how each receives, are read at the start: restart spanpost, or undo the change"
            )
        rules, launches, speaks, reads = section, settings.launchers, speaking(settings), reading(settings)
        alerts = alert_acts_of(settings, self._store, self._take, self._watch)

        def apply() -> None:
            for (app, token, _), one in zip(apps, known, strict=True):
                one.renew(token, _secrets(app), _app_token(app))
                one.interactions.rules = rules
                one.interactions.launches = launches
                one.interactions.speaks = speaks
                one.interactions.reads = reads
                one.interactions.always_for = settings.approvals.always_for
                one.interactions.alerts = alerts
            self._settings = settings
            if self.app.everywhere is not None:
                self.app.everywhere.secrets = _secrets(section)
                self.app.everywhere.app_token = _app_token(section)
            if self._installed_apps is not None:
                self._installed_apps.forget()
            self._connect()

        return apply

    async def close(self) -> None:
        """Receive no more events, finish the work in progress."""
        if self._joining is not None:
            self._joining.cancel()
        await self.sockets.close()
        await self.app.close(_FINISH)


def needs_interactions(settings: Settings, *, is_gateway: bool) -> bool:
    """Return whether a process receives interactions: a gateway with any app, another process with a Socket
    Mode app.
    """
    section = settings.interactions
    if section is None or not section.has_app:
        return False
    return is_gateway or any(app.app_token for app in (section, *section.apps))
