"""The dispatcher takes deliveries from the store to the sinks and their receipts back to the store.

One asyncio task. A round claims the deliveries that are due, starts them and asks the store when the next
one is due. Between rounds the task sleeps until that moment, until `wake()`, or until a delivery ends.

The store keeps the rate limits for all dispatchers. A dispatcher only names the limits of a call and reports
in its outcomes what the service answered. A delivery whose outcome is unknown is reconciled
(`Sink.reconcile`) before it is sent again. The result is stored as an outcome, so that it survives this
process.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from spanpost.dispatch.limits import SinkLimits
from spanpost.dispatch.reports import DispatcherMetrics, DispatcherReports
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import (
    ConfigError,
    DeliveryError,
    DeliveryRefused,
    DeliveryUncertain,
    StoreUnavailable,
    Unavailable,
)
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.model.recorded import Recorded
from spanpost.routing.retries import Policy, decide
from spanpost.sinks.redaction import DeliveryCarrier
from spanpost.store.protocols import Outbox, Recorder
from spanpost.store.steady_clock import steady_now, uptime
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.dispatcher")


#: Seconds that a cancelled task has to end.
_CANCELLED = 0.2


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Concurrency, timeouts and intervals of a dispatcher, in seconds."""

    #: Concurrent deliveries per sink, each with another ordering key.
    per_sink: int = 8
    #: Timeout of one call of a sink.
    #: Shorter than the store's lease: else another dispatcher takes the delivery over while it is being sent.
    timeout: float = 30.0
    #: Part of the lease that must remain beside the timeout when a call begins; with less the delivery goes
    #: back unsent.
    margin: float = 5.0
    #: First and longest pause after a round that could not claim what was due (another dispatcher holds the
    #: ordering key).
    idle: tuple[float, float] = (0.02, 1.0)
    #: First and longest pause between attempts to reach a store that does not answer.
    outage: tuple[float, float] = (0.1, 5.0)
    #: Longest pause: other processes write too, and do not wake this one.
    longest: float = 5.0

    @classmethod
    def of_timeout(cls, timeout: timedelta) -> Pace:
        """Return the pace of sinks that may take so long, for a store whose lease is twice as long."""
        return cls(timeout=timeout.total_seconds(), margin=timeout.total_seconds() / 6)


async def _ignore(recorded: Recorded) -> None:
    pass


class Dispatcher:
    """Delivers what is due: `start`, `wake` after each `Store.record`, `drain` before `close`."""

    def __init__(
        self,
        outbox: Outbox,
        recorder: Recorder,
        sinks: Mapping[str, DeliveryCarrier],
        policy: Policy | None = None,
        clock: Callable[[], datetime] = steady_now,
        *,
        pace: Pace | None = None,
        watch: DispatcherMetrics | None = None,
        publish: Callable[[Recorded], Awaitable[None]] = _ignore,
        jitter: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = uptime,
    ) -> None:
        self._outbox = outbox
        self._recorder = recorder
        self._sinks = dict(sinks)
        self._policy = policy or Policy()
        self._clock = clock
        self._pace = pace or Pace()
        self._reports = DispatcherReports(watch)
        self._limits = SinkLimits(self._sinks, self._reports, self._pace.longest)
        #: Receives what the timers recorded. Must not raise.
        self._publish = publish
        self._jitter = jitter
        self._monotonic = monotonic
        self._task: asyncio.Task[None] | None = None
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._woken = asyncio.Event()
        self._round_lock = asyncio.Lock()
        self._empty_rounds = 0
        self._outages = 0
        self._elapsed_at = float("-inf")
        if self._pace.timeout + self._pace.margin >= outbox.lease.total_seconds():
            raise ConfigError(
                f"the store's lease ({outbox.lease.total_seconds():g} s) must be longer than a call may take"
                f" ({self._pace.timeout:g} s) and {self._pace.margin:g} s: lengthen the lease, or shorten Pace.timeout"
            )
        self._rounds: set[asyncio.Task[tuple[bool, float]]] = set()
        self._closing = False

    def start(self) -> None:
        """Start the dispatcher's task in the running loop. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="spanpost-dispatcher")

    def wake(self) -> None:
        """Report that something new may be due. Cheap. Call it from the loop's own thread."""
        self._empty_rounds = 0
        self._woken.set()

    async def replace(self, sinks: Mapping[str, DeliveryCarrier]) -> None:
        """Use other sinks of the same names from the next delivery on. Return when no delivery uses an old one."""
        self._sinks.update(sinks)
        self._limits.forget()
        pending = [task for task, name in self._under_way.items() if name in sinks]
        if pending:
            await asyncio.wait(pending)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Stop claiming and wait `timeout` seconds for deliveries under way, then cancel them.

        The lease of a cancelled delivery runs out; then it is reconciled.
        """
        self._closing = True
        self._woken.set()
        task, self._task = self._task, None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # Not cancelled at once: an interrupted claim leaves deliveries that wait until their lease runs out.
        for pending in ([task] if task is not None else [], list(self._rounds), list(self._under_way)):
            if pending:
                _, late = await asyncio.wait(pending, timeout=max(deadline - loop.time(), 0.0))
                for each in late:
                    each.cancel()
                if late:
                    # A task that returns a connection to a hanging database does not end when it is
                    # cancelled.
                    await asyncio.wait(late, timeout=_CANCELLED)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Deliver what is due. True: nothing is left for these sinks; False: something is.

        Works with and without `start`. Waits for retries that fall due within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        is_long = False
        while True:
            round_ = asyncio.create_task(self._drain_round(), name="spanpost-drain")
            self._rounds.add(round_)
            round_.add_done_callback(self._rounds.discard)
            # Waited for and not cancelled, for the same reason as in `close`.
            await asyncio.wait({round_}, timeout=max(deadline - loop.time(), 0.001))
            if not round_.done():
                return False
            is_empty, wait = round_.result()
            left = deadline - loop.time()
            if is_empty:
                return True
            if left <= 0:
                return False
            # An ordering key that was busy when the round claimed may be free since: believe a long wait
            # only the second time.
            is_long, was_long = not self._under_way and wait > left, is_long
            if is_long and was_long:
                return False
            await self._sleep(0 if is_long else min(wait, left))

    async def _drain_round(self) -> tuple[bool, float]:
        try:
            wait = await self._round()
            return not self._under_way and await self._is_empty(), wait
        except StoreUnavailable as error:
            return False, self._outage(error)

    async def _is_empty(self) -> bool:
        for name in self._sinks:
            for state in ("waiting", "sending"):
                if await self._outbox.deliveries(state=state, sink=name, limit=1):
                    return False
        return True

    # --- rounds -------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while not self._closing:
            try:
                wait = await self._round()
                if self._outages:
                    log.info("the store is back after %d failed tries", self._outages)
                    self._outages = 0
            except StoreUnavailable as error:
                wait = self._outage(error)
            except Exception as error:  # a bug in the store must not end all deliveries
                self._reports.bug("store", error)
                wait = self._outage()
            await self._sleep(min(wait, self._pace.longest))

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)  # let other tasks run, even when there is always more to do
            return
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _round(self) -> float:
        """Claim and start what is due; return the seconds until the next round, unless `wake` comes first."""
        async with self._round_lock:
            self._woken.clear()
            free = {name: self._pace.per_sink - n for name, n in self._busy().items() if n < self._pace.per_sink}
            claimed: list[Delivery] = []
            if free:
                asked_at = self._monotonic()
                claimed = await self._outbox.claim(list(free), min(free.values()), self._limits.of)
                self._begin(claimed, asked_at + self._outbox.lease.total_seconds())
            due = await self._outbox.due_in(list(free), self._limits.of)
            loop_time = asyncio.get_running_loop().time()
            # Rarely while deliveries flow: the timers (finalizing, expiry) count in seconds.
            if due is not None and due <= 0 and loop_time - self._elapsed_at >= (1.0 if claimed else 0.1):
                self._elapsed_at = loop_time
                recorded = await self._recorder.elapse()
                if recorded != Recorded():
                    await self._publish(recorded)
                if recorded.deliveries or recorded.tasks or recorded.checkpoints:
                    self._empty_rounds = 0
                    return 0.0
            if claimed:
                self._empty_rounds = 0
                return 0.0
            if due is None:
                return float("inf")
            if due > 0:
                self._empty_rounds = 0
                return due
            # Something is due and cannot be claimed: another dispatcher holds its ordering key.
            first, last = self._pace.idle
            self._empty_rounds += 1
            return min(last, first * 2.0 ** min(self._empty_rounds - 1, 16))

    def _busy(self) -> dict[str, int]:
        busy = dict.fromkeys(self._sinks, 0)
        for name in self._under_way.values():
            busy[name] += 1
        return busy

    def _outage(self, error: StoreUnavailable | None = None) -> float:
        if self._outages == 0 and error is not None:
            log.warning("the store is down, deliveries wait: %s", line(str(error), 300))
        first, last = self._pace.outage
        self._outages += 1
        return min(last, first * 2.0 ** min(self._outages - 1, 16)) * (0.5 + self._jitter() / 2)

    # --- deliveries ---------------------------------------------------------------------------------------------
    def _begin(self, claimed: Iterable[Delivery], until: float) -> None:
        """Start claimed deliveries. `until`: latest end of their lease, by the monotonic clock."""
        unsure: dict[str, list[Delivery]] = {}
        for delivery in claimed:
            if delivery.is_unknown:
                unsure.setdefault(delivery.sink, []).append(delivery)
            else:
                self._spawn(delivery.sink, self._deliver(delivery, until))
        for name, deliveries in unsure.items():
            self._spawn(name, self._reconcile(name, deliveries))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"spanpost-deliver-{name}")
        self._under_way[task] = name
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._reports.bug("dispatcher", error)
        self.wake()

    async def _deliver(self, delivery: Delivery, until: float) -> None:
        await self._finish(delivery, await self._attempt(delivery, until))

    async def _attempt(self, delivery: Delivery, until: float) -> Outcome:
        # A process that was frozen after its claim must not send what another process has taken over.
        if until - self._monotonic() <= self._pace.timeout + self._pace.margin:
            return RetryAt(
                at=self._clock(), reason="late", error="the lease was nearly over before the call", is_unsent=True
            )
        try:
            async with asyncio.timeout(self._pace.timeout):
                return await self._sinks[delivery.sink].deliver(delivery)
        except TimeoutError:
            return self._decide(
                DeliveryUncertain(f"no answer within {self._pace.timeout:g} s", reason="timeout"), delivery
            )
        except Exception as error:
            return self._decide(error, delivery)

    async def _reconcile(self, name: str, deliveries: list[Delivery]) -> None:
        """Reconcile these deliveries and store the outcomes. Deliveries that did not arrive wait to be sent again."""
        try:
            async with asyncio.timeout(self._pace.timeout):
                known = await self._sinks[name].reconcile(deliveries)
            outcomes = [self._outcome_of(delivery, known) for delivery in deliveries]
        except TimeoutError:
            slow = Unavailable(f"no answer within {self._pace.timeout:g} s", reason="timeout")
            outcomes = [self._decide(slow, delivery) for delivery in deliveries]
        except Exception as error:
            outcomes = [self._decide(error, delivery) for delivery in deliveries]
        await asyncio.gather(*(self._finish(d, outcome) for d, outcome in zip(deliveries, outcomes, strict=True)))

    def _outcome_of(self, delivery: Delivery, known: Mapping[int, Receipt | DeliveryError | None]) -> Outcome:
        if delivery.id in known:
            answer = known[delivery.id]
            if isinstance(answer, DeliveryError):
                return self._decide(answer, delivery)
            return NotArrived() if answer is None else Arrived(receipt=answer)
        outcome = self._decide(DeliveryUncertain("not known yet whether it arrived", reason="unreconciled"), delivery)
        # The service answered; it only did not show the delivery yet.
        if isinstance(outcome, RetryAt):
            return msgspec.structs.replace(outcome, has_looked=True, is_failure=False)
        return msgspec.structs.replace(outcome, is_failure=False)

    def _decide(self, error: Exception, delivery: Delivery) -> RetryAt | GiveUp:
        if not isinstance(error, DeliveryError):
            self._reports.bug(delivery.sink, error)
        attempt, since = delivery.attempt, delivery.born_at
        if delivery.is_unknown:
            # Reconciling has its own deadline: the age of the delivery when it was sent does not shorten it.
            attempt, since = delivery.lookups + 1, max(delivery.sent_at or since, since)
        now = self._clock()
        if delivery.claimed_at is not None:  # its age by the store's clock: ours may be wrong
            since += now - delivery.claimed_at
        outcome = decide(error, attempt, since, now, self._jitter(), self._policy, delivery.drawn)
        if isinstance(error, DeliveryRefused) and outcome.closes:
            self._reports.refused(delivery.sink, outcome.closes[0], error)
        return outcome

    async def _finish(self, delivery: Delivery, outcome: Outcome) -> None:
        """Store the outcome, however long the store is unavailable: without its receipt a message would be
        posted twice.
        """
        self._reports.delivered(delivery, outcome, self._clock() - delivery.born_at)
        first, last = self._pace.outage
        tries = 0
        while True:
            try:
                for closed in await self._outbox.finish(delivery, outcome):
                    self._reports.opened(delivery.sink, closed, self._clock())
                return
            except StoreUnavailable as error:
                if tries == 0 and self._outages == 0:
                    log.warning("the store is down, a receipt waits: %s", line(str(error), 300))
                await asyncio.sleep(min(last, first * 2.0 ** min(tries, 16)))
                tries += 1
