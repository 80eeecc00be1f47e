"""Slack's I/O: drives `flow`, `lookup` and `check` over a transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode, RateLimit, Receipt, SinkCall
from spanpost.model.errors import ConfigError, DeliveryError, DeliveryRefused, Rejected, Unverifiable
from spanpost.model.tasks import Task
from spanpost.routing.routes import Route, came_by
from spanpost.routing.summaries import came_from
from spanpost.sinks.base import AnsweringSink, Finding, TokenSource
from spanpost.sinks.slack import check, flow, lookup, render, sessions
from spanpost.sinks.slack import rates as rate_limits
from spanpost.sinks.slack.calls import Response, SlackPlace, SlackRequest, Talk
from spanpost.sinks.slack.preview import PREVIEWED, Preview, Transport
from spanpost.sinks.slack.rates import Rates
from spanpost.sinks.slack.settings import TEAM, are_ids
from spanpost.sinks.slack.style import SlackStyle
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.slack")
T = TypeVar("T")

#: What is told once is remembered so far; beyond that it may be told again.
_TOLD = 1_000
#: How long a channel that took no message is left alone where there is a fallback, seconds.
_LEFT_ALONE = 600.0


@dataclass
class Space:
    """One workspace: the wire to it, where messages go, how fast, and what was learned of it."""

    name: str
    transport: Transport
    channel: str = "#agents"
    rates: Rates = field(default_factory=Rates)
    memory: lookup.Memory = field(default_factory=lookup.Memory)
    #: Whose tasks alone are told there; None: anybody's.
    tenant: str | None = None

    @property
    def is_preview(self) -> bool:
        """True where nothing is posted."""
        return isinstance(self.transport, Preview)


class SlackSink:
    """Posts to Slack: one root message per task, edited in place, news in its thread."""

    name = "slack"

    def __init__(
        self,
        *,
        channel: str = "",
        transport: Transport | None = None,
        workspace: str = "default",
        rates: Rates | None = None,
        settle: timedelta = timedelta(seconds=50),
        clock: Callable[[], float] = time.time,
        slack_style: SlackStyle = render.ANONYMOUS,
        own: Space | None = None,
        others: Iterable[Space] = (),
        unlisted: Callable[[str], Space] | None = None,
        dry: Preview | None = None,
    ) -> None:
        own = own or Space(workspace, transport or Preview(), channel or "#agents", rates or Rates())
        self._own = own
        self._spaces = {space.name: space for space in (own, *others)}
        self._unlisted = unlisted
        self._tokens: TokenSource | None = None
        self._dry = dry or Preview()
        self._slack_style = slack_style
        self._routes: list[Route] = []
        self._figures: AnsweringSink | None = None
        self._settle = settle
        self._clock = clock
        self._told: set[str] = set()
        #: Told of each call and of what came of it.
        self.when_called: Callable[[str, str], None] | None = None
        #: Channels that took no message, by key of their budget, until when they are left alone, and why.
        self._refused: dict[str, tuple[float, str]] = {}

    def routed(self, routes: Sequence[Route]) -> None:
        """Hear which routes lead here. Raises `ConfigError` for what no workspace of ours has."""
        for route in routes:
            space = route.address.rpartition("/")[0]
            if space and self._known(space) is None:
                known = ", ".join(sorted(self._spaces))
                raise ConfigError(
                    f"routes: {route.address!r}: no workspace {space!r} is set (set: {known}); set slack.workspaces.{space}.token"
                )
            if "/" in route.fallback:
                raise ConfigError(f"routes: the fallback {route.fallback!r} names a workspace; name a channel of the route's own")
            try:
                are_ids(route.mention)
            except ValueError as error:
                raise ConfigError(f"routes: mention: {error}") from None
        self._routes = list(routes)

    def installed(self, tokens: TokenSource) -> None:
        """Hear whom to ask for the tokens of workspaces in which somebody installed the app."""
        self._tokens = tokens
        for space in self._spaces.values():
            _lend(space, tokens)

    def restarts(self, can: Callable[[Task], bool]) -> None:
        """Hear which tasks something can start again."""
        self._slack_style = msgspec.structs.replace(self._slack_style, retries=can)

    def figured(self, figures: AnsweringSink) -> None:
        """Hear whom to ask for figures when a task has ended."""
        self._figures = figures

    @property
    def repeats(self) -> int:
        """How many messages stood twice in Slack and were deleted."""
        return sum(space.memory.repeats for space in self._spaces.values())

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Make the calls that the flow asks for."""
        space = self._space(delivery.address)
        if space.tenant is not None and delivery.task.tenant != space.tenant:
            # Routes lead none here: it was addressed before the workspace was that tenant's.
            raise Rejected(f"the workspace {space.name!r} is told of no tasks but its own tenant's", reason="tenant")
        route = self._route(delivery)
        is_dry = route.is_dry or space.is_preview
        delivery, place = _real(delivery, is_dry), self._place(delivery.address, route)
        figures = await self._asked(delivery)
        talk = flow.deliver(delivery, place, self._slack_style.by(route) if self._routes else self._slack_style, figures)
        receipt = await self._drive(talk, space, transport=self._dry if route.is_dry else space.transport)
        known = flow.known_of(delivery)
        if "ts" not in known and (channel := receipt.ref.get("channel")) and not is_dry:
            where = place.channel if "instead_of" not in receipt.ref else place.fallback
            space.memory.ids[where] = str(channel)
        self._note(delivery, receipt, known, place)
        return receipt

    def _note(self, delivery: Delivery, receipt: Receipt, known: Mapping[str, Any], place: SlackPlace) -> None:
        """Say what a person should know of a delivery."""
        ended, named = receipt.ref.get("ended"), line(delivery.task.task_id, 80)
        if ended and not known.get("ended") and delivery.mode is Mode.STATE:
            log.warning("task %s: %s; said once", named, flow.WHY[str(ended)])
        elif known.get("ts") and receipt.ref.get("g", 0) != known.get("g", 0) and delivery.mode is Mode.STATE:
            log.warning("task %s: its message was deleted in Slack, and it needs a person: posted anew", named)
        if "instead_of" in receipt.ref and "ts" not in known:
            why = str(receipt.ref.get("why"))
            if not place.refused:
                self._refused[place.address] = self._clock() + _LEFT_ALONE, why
            self._tell_once(f"slack: {place.channel} takes no message ({why}): {place.fallback} has it")
        if (why := str(receipt.ref.get("session_why") or "")) and why != known.get("session_why"):
            cure = sessions.WHY.get(why, "turn slack.stop_button off, or look at the app's settings")
            self._tell_once(f"slack: the button Stop cannot be shown ({why}): {cure}")
        if missing := receipt.ref.get("file"):
            self._tell_once(f"slack: a log could not be shown as a file ({missing}); its end stands in the message")

    async def _asked(self, delivery: Delivery) -> tuple[str, ...]:
        news = delivery.checkpoint
        if self._figures is None or news is None or news.kind is not Kind.END or delivery.receipt is not None:
            return ()
        return await self._figures.of(delivery.task, str(news.id))

    async def reconcile(self, deliveries: Sequence[Delivery]) -> lookup.Answers:
        """Say what had arrived. Of a preview nothing had: writing it twice costs nothing."""
        answers: lookup.Answers = {}
        by_space: dict[str, list[tuple[Delivery, SlackPlace]]] = {}
        for delivery in deliveries:
            route, space = self._route(delivery), self._space(delivery.address)
            if route.is_dry or space.is_preview:
                answers[delivery.id] = None
            else:
                place = self._place(delivery.address, route)
                by_space.setdefault(space.name, []).append((_real(delivery, False), place))
        for name, asked in by_space.items():
            answers |= await self._look(self._spaces[name], asked)
        for answer in answers.values():
            if isinstance(answer, Unverifiable):
                self._tell_once(f"slack: a delivery is given up, said once: {answer}", is_error=True)
        return answers

    async def _look(self, space: Space, asked: Sequence[tuple[Delivery, SlackPlace]]) -> lookup.Answers:
        """Look for doubtful deliveries of one workspace; where a channel cannot be looked at, in its fallback."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        answers: lookup.Answers = {}
        repeats = space.memory.repeats
        failed: DeliveryError | None = None
        waiting = lookup.groups(asked)
        for group in waiting:  # grows while it is walked
            try:
                talk = lookup.settle(group, space.memory, stall_rules=self._settle, now=now)
                answers |= await self._drive(talk, space, failed)
            except DeliveryError as error:
                is_of_channel = error.closes == group.place.address or isinstance(error, Unverifiable)
                if group.place.fallback and not group.channel and is_of_channel:
                    installed_apps = msgspec.structs.replace(group.place, channel=group.place.fallback, fallback="")
                    waiting.append(msgspec.structs.replace(group, place=installed_apps))
                    continue
                answers |= lookup.unanswered(group, error, now)
                if not isinstance(error, (Unverifiable, DeliveryRefused)) or error.closes == group.place.whole:
                    failed = error  # of no use for the others either: Slack is away, asks for patience, or wants another token
        if space.memory.repeats > repeats:
            log.warning("slack: %d messages stood twice and were deleted", space.memory.repeats - repeats)
        return answers

    def rate_limits(self, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
        """Name the workspace, the method and the channel."""
        space = self._known(address.rpartition("/")[0] or self._own.name) or self._own
        return rate_limits.rate_limits(self._place(address), call, space.rates)

    async def check(self, addresses: Sequence[str] = ("",)) -> list[Finding]:
        """Look whether the tokens work, and whether they may post in the channels."""
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
        """Hold the talk with Slack; raise `forbidden` where it comes to a call."""
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
        """Make a call, and say what came of it."""
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

    def _tell_once(self, said: str, *, is_error: bool = False) -> None:
        if len(self._told) >= _TOLD:
            self._told.clear()
        if said not in self._told:
            self._told.add(said)
            log.log(logging.ERROR if is_error else logging.WARNING, "%s", said)

    def _route(self, delivery: Delivery) -> Route:
        """Return the route by which a delivery came: of those that lead to its address the first that takes its task."""
        if delivery.summary is not None and (route := came_from(delivery.summary.told, self._routes)) is not None:
            return route
        return came_by(self._routes, delivery.address, delivery.task) or Route(sink=self.name)

    def _space(self, address: str) -> Space:
        """Return the workspace of an address: "workspace/#channel". Raises `DeliveryRefused` for one that is not set any more."""
        name = address.rpartition("/")[0] or self._own.name
        space = self._known(name)
        if space is None:
            cure = f"set slack.workspaces.{name}.token again, or discard its deliveries: spanpost deliveries list --state waiting"
            raise DeliveryRefused(f"no workspace {name!r} is set", cure=cure, reason="no_workspace", closes=f"slack:{name}")
        return space

    def _known(self, name: str) -> Space | None:
        """Return a workspace by its name, or by its team where none is listed for that."""
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
    """Forget a message that stands in a preview alone, once there is a token: it is posted now."""
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
    """Return what came of a call in one word."""
    if response.status == 429:
        return "throttled"
    if response.status >= 500:
        return "unavailable"
    return "ok" if response.body.get("ok") else "rejected"
