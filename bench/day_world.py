"""A simulated organisation for `day.py`: a clock, Slack workspaces, and gateways on one memory store.

Only time and the wire are simulated. Store, dispatchers, rate limits, Slack sink and its renderers are the real
ones; Slack is the fake workspace of `spanpost.testing.fake_slack`, without its server, with Slack's own limits.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from spanpost.dispatch.dispatcher import Dispatcher
from spanpost.model.deliveries import Delivery, Mode, Receipt
from spanpost.model.errors import DeliveryUncertain, Unavailable
from spanpost.model.observations import Observation
from spanpost.model.outcomes import Arrived, GiveUp, Outcome, RetryAt
from spanpost.routing.rate_limiting import OpenCircuit
from spanpost.routing.routes import Route, Routes
from spanpost.runtime.assembly import rules_of
from spanpost.settings import load
from spanpost.sinks.slack.calls import Response, SlackRequest
from spanpost.sinks.slack.sink import SlackSink, Space
from spanpost.store.memory import MemoryStore
from spanpost.testing.fake_slack import TIERS, TOKEN, Tiers, Workspace
from spanpost.testing.fake_slack.rules import SlackError

#: Midnight of the simulated day.
MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
#: Seconds of a call to Slack, from and to.
LATENCY = 0.08, 0.4
#: One post of so many has its effect, and its answer is lost.
LOST = 2_000


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.seconds


class _Jumping(selectors.DefaultSelector):  # type: ignore[valid-type, misc]  # an alias that depends on the system
    """A selector that moves the loop's clock in place of waiting."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self._loop.seconds += max(timeout, 0.0)
        return super().select(0)


class Clock:
    """The simulated time, and how much processor time each part took."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.cpu: Counter[str] = Counter()

    @property
    def seconds(self) -> float:
        """Seconds since midnight."""
        return self._loop.seconds

    def __call__(self) -> datetime:
        return MIDNIGHT + timedelta(seconds=self._loop.seconds)

    def unix(self) -> float:
        """Seconds since 1970."""
        return MIDNIGHT.timestamp() + self._loop.seconds

    @contextmanager
    def counted(self, part: str) -> Iterator[None]:
        """Count processor time as that of a part."""
        began = time.process_time()
        try:
            yield
        finally:
            self.cpu[part] += time.process_time() - began


class SimulatedSlack:
    """One workspace, with Slack's own limits. It is down between two times; now and then an answer is lost."""

    def __init__(self, clock: Clock, dice: random.Random, down: tuple[float, float]) -> None:
        self._clock, self._dice, self._down = clock, dice, down
        self.workspace = Workspace(clock.unix)
        self.workspace.add_token(TOKEN)
        self.tiers = Tiers(TIERS, clock.unix)
        self.calls: Counter[str] = Counter()

    @property
    def _is_down(self) -> bool:
        return self._down[0] <= self._clock.seconds < self._down[1]

    async def call(self, request: SlackRequest) -> Response:
        """Answer as the Web API does."""
        if self._is_down:
            await asyncio.sleep(self._dice.uniform(*LATENCY))
            self.calls["refused connections"] += 1
            raise Unavailable(f"{request.method}: no connection to Slack; nothing was sent", reason="connect")
        await asyncio.sleep(self._dice.uniform(*LATENCY) / 2)
        with self._clock.counted("Slack"):
            answer = self._answer(request)
        await asyncio.sleep(self._dice.uniform(*LATENCY) / 2)
        if not request.is_reading and (self._is_down or self._dice.randrange(LOST) == 0):
            self.calls["lost answers"] += 1
            raise DeliveryUncertain(f"{request.method}: the connection broke before the answer", reason="reset")
        return answer

    def _answer(self, request: SlackRequest) -> Response:
        self.calls[request.method] += 1
        wait = self.tiers.refuse(request.method, str(request.arguments.get("channel", "")))
        if wait is not None:
            self.calls["429"] += 1
            return Response(status=429, body={"ok": False, "error": "ratelimited"}, retry_after=float(wait))
        try:
            body, _ = self.workspace.call(request.method, request.arguments, TOKEN)
        except SlackError as error:
            self.calls[error.code] += 1
            body = {"ok": False, "error": error.code} | error.more
        return Response(body=body, date=self._clock.unix())

    async def close(self) -> None: ...


class Seen:
    """What the dispatchers report: how old each thing was when it was shown, and what failed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Seconds by (kind, hour).
        self.ages: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self.outcomes: Counter[str] = Counter()
        self.circuits: Counter[str] = Counter()

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None:
        """Count an outcome, and the age of what it showed."""
        match outcome:
            case Receipt() if outcome.skipped:
                self.outcomes["skipped"] += 1
            case Receipt() | Arrived():
                self.outcomes["delivered"] += 1
                self.ages[kind_of(delivery), int(self._clock.seconds // 3600)].append(age.total_seconds())
            case RetryAt() | GiveUp():
                self.outcomes[f"{type(outcome).__name__}: {outcome.reason}"] += 1
            case _:
                self.outcomes[type(outcome).__name__] += 1

    def closed(self, sink: str, closed: OpenCircuit) -> None:
        """Count a circuit that opened."""
        self.circuits[closed.why] += 1


def kind_of(delivery: Delivery) -> str:
    """Return what a delivery shows: a kind of checkpoint, or a state by what changed in it."""
    if delivery.mode is Mode.STATE:
        began = delivery.message_receipt is None
        return "message: begins" if began else f"message: {delivery.urgency.value}"
    return f"line: {delivery.checkpoint.kind.value}" if delivery.checkpoint is not None else delivery.mode.value


class World:
    """Channels, a store and gateways that share its leases."""

    def __init__(
        self,
        loop: SimulatedLoop,
        *,
        channels: int,
        workspaces: int,
        gateways: int,
        seed: int,
        down: tuple[float, float],
    ) -> None:
        self.clock = clock = Clock(loop)
        self.dice = random.Random(seed)
        self.slacks = {f"team{n}": SimulatedSlack(clock, random.Random(f"{seed} {n}"), down) for n in range(workspaces)}
        #: The address of each channel's route.
        self.addresses: list[str] = []
        for number in range(channels):
            name = f"team{number % workspaces}"
            channel = self.slacks[name].workspace.add_channel(f"repo-{number}")
            self.addresses.append(f"{name}/{channel.id}")
        rules = rules_of(load(slack={"preview_file": "/dev/null"}, stall={"stall_after": "3h"}))
        self.routes = [Route(sink="slack", repo=f"repo-{n}", address=at) for n, at in enumerate(self.addresses)]
        routes = Routes(sinks=("slack",), routes=tuple(self.routes), editing=frozenset({"slack"}))
        self.store = MemoryStore(
            msgspec.structs.replace(rules, routes=routes), clock=clock, keep=None, jitter=self.dice.random
        )
        self.seen = Seen(clock)
        self._gateways = gateways
        self.dispatchers: list[Dispatcher] = []
        self._is_up = asyncio.Event()
        self.batches = self.observations = 0

    def start(self) -> None:
        """Start all gateways, as new processes: they remember nothing."""
        for _ in range(self._gateways):
            own, *others = (
                Space(name, slack, next(iter(slack.workspace.channels), "#agents"))
                for name, slack in self.slacks.items()
            )
            sink = SlackSink(own=own, others=others, clock=self.clock.unix)
            sink.routed(self.routes)
            loop = asyncio.get_running_loop()
            dispatcher = Dispatcher(
                self.store.outbox, self.store, {"slack": sink}, clock=self.clock, watch=self.seen,
                jitter=self.dice.random, monotonic=loop.time,
            )  # fmt: skip
            dispatcher.start()
            self.dispatchers.append(dispatcher)
        self._is_up.set()

    async def stop(self) -> None:
        """End all gateways without waiting for their calls."""
        self._is_up.clear()
        dispatchers, self.dispatchers = self.dispatchers, []
        await asyncio.gather(*(dispatcher.close(0.0) for dispatcher in dispatchers))

    async def record(self, batch: Sequence[Observation]) -> None:
        """Record a batch at one of the gateways; senders wait while none is there."""
        await self._is_up.wait()
        with self.clock.counted("recording"):
            self.store.record_now(batch)
        self.batches += 1
        self.observations += len(batch)
        self.dice.choice(self.dispatchers).wake()

    def waiting(self) -> Counter[str]:
        """Count what waits or is under way, by urgency."""
        found = self.store.outbox._open.values()
        return Counter(entry.urgency.value for entries in found for entry in entries.values())
