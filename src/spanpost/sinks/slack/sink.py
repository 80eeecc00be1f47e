"""Slack sink: drives `flow`, `lookup` and `check` over a transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import ConfigError, DeliveryError, DeliveryRefused, Rejected, Unverifiable
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, came_by
from spanpost.routing.summaries import came_from
from spanpost.sinks.base import FigureSource, Finding, TokenSource
from spanpost.sinks.slack import check, erasing, flow, lookup, mentions, render, sessions
from spanpost.sinks.slack import rates as rate_limits
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.preview import PREVIEWED, Preview, Transport
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.settings import TEAM, are_ids
from spanpost.sinks.slack.style import SlackStyle
from spanpost.store.steady_clock import steady_now
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.slack")
T = TypeVar("T")

#: Log lines remembered, so that each is logged once; beyond that it may be logged again.
_LOGGED = 1_000
#: Seconds during which a channel that refused a message is skipped for its fallback.
_AVOIDED = 600.0


@dataclass
class Space:
    """One workspace: its transport, default channel and rate limits, and what was learned of it."""

    name: str
    transport: Transport
    channel: str = "#agents"
    rates: Rates = field(default_factory=Rates)
    memory: lookup.Memory = field(default_factory=lookup.Memory)
    known: mentions.KnownPeople = field(default_factory=lambda: mentions.KnownPeople(time.monotonic))
    #: The only tenant whose tasks go there; None: any.
    tenant: str | None = None

    @property
    def is_preview(self) -> bool:
        """Tell whether nothing is posted."""
        return isinstance(self.transport, Preview)


class SlackSink:
    """Posts to Slack: one root message per task, edited in place, with its checkpoints in the thread."""

    name = "slack"

    def __init__(
        self,
        *,
        channel: str = "",
        transport: Transport | None = None,
        workspace: str = "default",
        rates: Rates | None = None,
        reconcile_timeout: timedelta = timedelta(seconds=50),
        clock: Callable[[], float] = lambda: steady_now().timestamp(),  # does not jump while Slack's is compared
        slack_style: SlackStyle = render.ANONYMOUS,
        own: Space | None = None,
        others: Iterable[Space] = (),
        unlisted: Callable[[str], Space] | None = None,
        dry: Preview | None = None,
        finds_people: bool = True,
    ) -> None:
        own = own or Space(workspace, transport or Preview(), channel or "#agents", rates or Rates())
        self._own = own
        self._spaces = {space.name: space for space in (own, *others)}
        self._unlisted = unlisted
        self._tokens: TokenSource | None = None
        self._dry = dry or Preview()
        self._finds_people = finds_people
        self._slack_style = slack_style
        self._routes: list[Route] = []
        self._figures: FigureSource | None = None
        self._reconcile_timeout = reconcile_timeout
        self._clock = clock
        self._logged: set[str] = set()
        #: Receives the method and outcome of each call.
        self.when_called: Callable[[str, str], None] | None = None
        #: Channels that refused a message: until when they are skipped, and why, by the key of their rate
        #: limit.
        self._refused: dict[str, tuple[float, str]] = {}

    def routed(self, routes: Sequence[Route]) -> None:
        """Set the routes that lead here. Raises `ConfigError` for an unknown workspace."""
        for route in routes:
            space = route.address.rpartition("/")[0]
            if space and self._known(space) is None:
                known = ", ".join(sorted(self._spaces))
                raise ConfigError(
                    f"routes: {route.address!r}: no workspace {space!r} is set (set: {known}); set "
                    f"slack.workspaces.{space}.token"
                )
            if "/" in route.fallback:
                raise ConfigError(
                    f"routes: the fallback {route.fallback!r} names a workspace; name a channel of the route's own"
                )
            try:
                are_ids(route.mention)
            except ValueError as error:
                raise ConfigError(f"routes: mention: {error}") from None
        self._routes = list(routes)

    def installed(self, tokens: TokenSource) -> None:
        """Set the source of tokens for workspaces where the app was installed."""
        self._tokens = tokens
        for space in self._spaces.values():
            _lend(space, tokens)

    def restarts(self, can: Callable[[Task], bool]) -> None:
        """Set the predicate of tasks that can be started again."""
        self._slack_style = msgspec.structs.replace(self._slack_style, retries=can)

    def links_to(self, public_url: str, people: Mapping[str, str]) -> None:
        """Set the board's address, and the user ids of people by their names."""
        self._slack_style = msgspec.structs.replace(self._slack_style, public_url=public_url, people=people)

    def silences(self, can: Callable[[Alert], bool]) -> None:
        """Set the predicate of alerts that can be silenced."""
        self._slack_style = msgspec.structs.replace(self._slack_style, silences=can)

    def figured(self, figures: FigureSource) -> None:
        """Set the source of figures for tasks that have ended."""
        self._figures = figures

    @property
    def duplicates(self) -> int:
        """Number of messages that existed twice in Slack, so that one was deleted."""
        return sum(space.memory.duplicates for space in self._spaces.values())

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Make the calls of the flow."""
        space = self._space(delivery.address)
        if space.tenant is not None and delivery.task.tenant != space.tenant:
            # Its route changed: the delivery was addressed before the workspace had this tenant.
            raise Rejected(f"the workspace {space.name!r} gets only its own tenant's tasks", reason="tenant")
        if delivery.mode is Mode.ERASE:
            place = self._place(delivery.address)
            return Receipt() if space.is_preview else await self._drive(erasing.erase(delivery, place), space)
        route = self._route(delivery)
        is_dry = route.dry_run or space.is_preview
        delivery, place = _real(delivery, is_dry), self._place(delivery.address, route)
        figures = await self._figures_of(delivery)
        style = self._slack_style.by(route) if self._routes else self._slack_style
        if not is_dry:
            style = await self._with_requester(delivery.task, space, style)
        talk = flow.deliver(delivery, place, style, figures)
        receipt = await self._drive(talk, space, transport=self._dry if route.dry_run else space.transport)
        known = flow.known_of(delivery)
        if "ts" not in known and (channel := receipt.ref.get("channel")) and not is_dry:
            where = place.channel if "instead_of" not in receipt.ref else place.fallback
            space.memory.ids[where] = str(channel)
        self._note(delivery, receipt, known, place)
        return receipt

    def _note(self, delivery: Delivery, receipt: Receipt, known: Mapping[str, Any], place: SlackPlace) -> None:
        """Log what an operator should know of a delivery."""
        ended, named = receipt.ref.get("ended"), line(delivery.task.task_id, 80)
        if ended and not known.get("ended") and delivery.mode is Mode.STATE:
            log.warning("task %s: %s; said once", named, flow.WHY[str(ended)])
        elif known.get("ts") and receipt.ref.get("g", 0) != known.get("g", 0) and delivery.mode is Mode.STATE:
            log.warning("task %s: its message was deleted in Slack, and it needs a person: posted again", named)
        if "instead_of" in receipt.ref and "ts" not in known:
            why = str(receipt.ref.get("why"))
            if not place.refused:
                self._refused[place.address] = self._clock() + _AVOIDED, why
            self._log_once(f"slack: {place.channel} takes no message ({why}): {place.fallback} has it")
        if (why := str(receipt.ref.get("session_why") or "")) and why != known.get("session_why"):
            cure = sessions.WHY.get(why, "turn slack.stop_button off, or look at the app's settings")
            self._log_once(f"slack: the button Stop cannot be shown ({why}): {cure}")
        if missing := receipt.ref.get("file"):
            self._log_once(f"slack: a log could not be shown as a file ({missing}); its end stands in the message")

    async def _with_requester(self, task: Task, space: Space, style: SlackStyle) -> SlackStyle:
        """Return a style that knows the Slack user for whom a task runs, where their address leads to one."""
        email = mentions.email_of(task.requested_by, style.people) if self._finds_people else ""
        if not email or style.person(task):
            return style

        async def ask(address: str) -> Response:
            return await self._drive(mentions.lookup(address), space)

        user = await space.known.user_of(email, ask)
        if not user:
            return style
        name = (task.requested_by or "").strip().casefold()
        return msgspec.structs.replace(style, people={**style.people, name: user})

    async def _figures_of(self, delivery: Delivery) -> tuple[str, ...]:
        checkpoint = delivery.checkpoint
        if (
            self._figures is None
            or checkpoint is None
            or checkpoint.kind is not Kind.END
            or delivery.receipt is not None
        ):
            return ()
        return await self._figures.of(delivery.task, str(checkpoint.id))

    async def reconcile(self, deliveries: Sequence[Delivery]) -> lookup.Answers:
        """Find out which deliveries arrived. Those of a preview are written again, which costs nothing."""
        answers: lookup.Answers = {}
        by_space: dict[str, list[tuple[Delivery, SlackPlace]]] = {}
        for delivery in deliveries:
            route, space = self._route(delivery), self._space(delivery.address)
            if route.dry_run or space.is_preview:
                answers[delivery.id] = None
            else:
                place = self._place(delivery.address, route)
                by_space.setdefault(space.name, []).append((_real(delivery, False), place))
        for name, asked in by_space.items():
            answers |= await self._reconcile_workspace(self._spaces[name], asked)
        for answer in answers.values():
            if isinstance(answer, Unverifiable):
                self._log_once(f"slack: a delivery is given up, said once: {answer}", is_error=True)
        return answers

    async def _reconcile_workspace(self, space: Space, asked: Sequence[tuple[Delivery, SlackPlace]]) -> lookup.Answers:
        """Look up the doubtful deliveries of one workspace; if a channel cannot be read, in its fallback."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        answers: lookup.Answers = {}
        duplicates = space.memory.duplicates
        failed: DeliveryError | None = None
        waiting = lookup.groups(asked)
        for group in waiting:  # grows during the loop
            try:
                talk = lookup.reconcile(group, space.memory, wait=self._reconcile_timeout, now=now)
                answers |= await self._drive(talk, space, failed)
            except DeliveryError as error:
                is_of_channel = error.closes == group.place.address or isinstance(error, Unverifiable)
                if group.place.fallback and not group.channel and is_of_channel:
                    in_fallback = msgspec.structs.replace(group.place, channel=group.place.fallback, fallback="")
                    waiting.append(msgspec.structs.replace(group, place=in_fallback))
                    continue
                answers |= lookup.unanswered(group, error, now)
                if not isinstance(error, (Unverifiable, DeliveryRefused)) or error.closes == group.place.whole:
                    failed = error  # the others would fail too: Slack is down, throttles, or wants another token
        if space.memory.duplicates > duplicates:
            log.warning("slack: %d duplicate messages were deleted", space.memory.duplicates - duplicates)
        return answers

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Return the limits of the workspace, the method and the channel."""
        space = self._known(address.rpartition("/")[0] or self._own.name) or self._own
        return rate_limits.rate_limits(self._place(address), call, space.rates)

    async def check(self, addresses: Sequence[str] = ("",)) -> list[Finding]:
        """Check that the tokens work and may post in the channels."""
        findings: list[Finding] = []
        for space in self._spaces.values():
            asked = [address for address in addresses if (address.rpartition("/")[0] or self._own.name) == space.name]
            if space is not self._own and not asked:
                asked = [f"{space.name}/"]
            named = "" if len(self._spaces) == 1 else f"workspace {space.name}: "
            if not asked:
                continue
            if space.is_preview:
                found = [check.NO_TOKEN]
            else:
                try:
                    found = await self._drive(check.check([self._place(a) for a in asked], space.memory), space)
                except DeliveryError as error:
                    found = [check.of_error(error)]
            findings += [msgspec.structs.replace(one, found=f"{named}{one.found}") for one in found]
        return findings

    async def close(self) -> None:
        for space in self._spaces.values():
            await space.transport.close()

    async def _drive(
        self, talk: Talk[T], space: Space, forbidden: DeliveryError | None = None, *, transport: Transport | None = None
    ) -> T:
        """Run a conversation with Slack. Raises `forbidden` in place of the first call."""
        wire = transport or space.transport
        try:
            request = next(talk)
            while True:
                if forbidden is not None:
                    raise forbidden
                try:
                    response = await self._called(wire, request)
                except DeliveryError as error:
                    if not request.is_optional:
                        raise
                    response = Response(status=0, body={"ok": False, "error": error.reason})
                if response.date is not None:
                    space.memory.ahead = response.date - self._clock()
                request = talk.send(response)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _called(self, wire: Transport, request: SlackRequest) -> Response:
        """Make a call and report its outcome."""
        outcome = "unknown"
        try:
            response = await wire.call(request)
            outcome = _outcome(response)
            return response
        except DeliveryError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            if self.when_called is not None:
                self.when_called(request.method, outcome)

    def _log_once(self, message: str, *, is_error: bool = False) -> None:
        if len(self._logged) >= _LOGGED:
            self._logged.clear()
        if message not in self._logged:
            self._logged.add(message)
            log.log(logging.ERROR if is_error else logging.WARNING, "%s", message)

    def _route(self, delivery: Delivery) -> Route:
        """Return the route of a delivery: the first to its address that accepts its task."""
        if delivery.summary is not None and (route := came_from(delivery.summary.content, self._routes)) is not None:
            return route
        return came_by(self._routes, delivery.address, delivery.task) or Route(sink=self.name)

    def _space(self, address: str) -> Space:
        """Return the workspace of an address "workspace/#channel".

        Raises `DeliveryRefused` if it is not set any more.
        """
        name = address.rpartition("/")[0] or self._own.name
        space = self._known(name)
        if space is None:
            cure = (
                f"set slack.workspaces.{name}.token again, or discard its deliveries: spanpost deliveries list "
                "--state waiting"
            )
            raise DeliveryRefused(
                f"no workspace {name!r} is set", cure=cure, reason="no_workspace", closes=f"slack:{name}"
            )
        return space

    def _known(self, name: str) -> Space | None:
        """Return a workspace by its name, or by its team if it is not listed."""
        if name not in self._spaces and self._unlisted is not None and TEAM.fullmatch(name):
            space = self._spaces[name] = self._unlisted(name)
            if self._tokens is not None:
                _lend(space, self._tokens)
        return self._spaces.get(name)

    def _place(self, address: str, route: Route | None = None) -> SlackPlace:
        name, _, channel = address.rpartition("/")
        space = self._known(name or self._own.name) or self._own
        place = SlackPlace(workspace=name or self._own.name, channel=channel or space.channel)
        if route is None or not route.fallback or route.fallback == place.channel:
            return place
        until, why = self._refused.get(place.address, (0.0, ""))
        return msgspec.structs.replace(place, fallback=route.fallback, refused=why if self._clock() < until else "")


def _real(delivery: Delivery, is_preview: bool) -> Delivery:
    """Drop receipts of a preview once there is a token, so that the message is posted."""
    if is_preview:
        return delivery
    if str(flow.known_of(delivery).get("ts", "")).startswith(PREVIEWED):
        delivery = msgspec.structs.replace(delivery, message_receipt=None)
    if delivery.receipt is not None and str(delivery.receipt.ref.get("ts", "")).startswith(PREVIEWED):
        delivery = msgspec.structs.replace(delivery, receipt=None)
    return delivery


def _lend(space: Space, tokens: TokenSource) -> None:
    lend = getattr(space.transport, "lend", None)
    if lend is not None:
        lend(tokens)


def _outcome(response: Response) -> str:
    """Return the outcome of a call as a metric label."""
    if response.status == 429:
        return "throttled"
    if response.status >= 500:
        return "unavailable"
    return "ok" if response.body.get("ok") else "rejected"
