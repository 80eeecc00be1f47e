"""The pump: carries letters from the ledger to the sinks and brings their receipts back.

One asyncio task. A round claims what is due, starts its deliveries and asks when to look again; between rounds it sleeps
until that moment, until `wake()`, or until a delivery ends. It never looks more often than something can have changed.

A letter whose outcome is unknown is reconciled before anything is sent again. A state that turns out to have arrived is
edited once more, because the text that arrived may be an old one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt
from spanpost.domain.errors import DeliveryError, LedgerUnavailable, Throttled, Unknown
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.records import Recorded
from spanpost.fold.redact import line
from spanpost.fold.retries import Policy, decide
from spanpost.ledger.base import Ledger

log = logging.getLogger("spanpost.pump")


class Carries(Protocol):
    """**Protocol:** what the pump needs of a sink; `spanpost.sinks.base.Sink` is it. (Rooms do not import one another.)"""

    async def deliver(self, delivery: Delivery) -> Receipt: ...

    async def reconcile(self, deliveries: list[Delivery]) -> dict[int, Receipt | None]: ...

    def budgets(self, address: str, call: Call) -> tuple[Budget, ...]: ...


class Watches(Protocol):
    """**Protocol:** is told what the pump did; `spanpost.metrics.Metrics` is it."""

    def recorded(self, recorded: Recorded) -> None: ...

    def delivered(self, delivery: Delivery, outcome: Outcome, age: timedelta) -> None: ...


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once, how long, how often. Seconds."""

    #: Deliveries under way per sink, each of another lane.
    per_sink: int = 8
    #: One call of a sink. Shorter than the ledger's lease, else another pump takes the letter over.
    timeout: float = 30.0
    #: Between two looks that found something due and nothing to do (a lane busy elsewhere), growing from the first to the last.
    idle: tuple[float, float] = (0.02, 1.0)
    #: Between two tries to reach a ledger that is away, growing.
    outage: tuple[float, float] = (0.1, 5.0)
    #: At the latest: other processes write too, and nobody wakes us for theirs.
    longest: float = 5.0


def _now() -> datetime:
    return datetime.now(UTC)


class Pump:
    """Carries letters. `start`, `wake` after each `Ledger.record`, `drain` before `close`."""

    def __init__(
        self,
        ledger: Ledger,
        sinks: Mapping[str, Carries],
        policy: Policy | None = None,
        clock: Callable[[], datetime] = _now,
        *,
        pace: Pace | None = None,
        watch: Watches | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._sinks = dict(sinks)
        self._policy = policy or Policy()
        self._clock = clock
        self._pace = pace or Pace()
        self._watch = watch
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._news = asyncio.Event()
        self._round_lock = asyncio.Lock()
        self._empty_rounds = 0
        self._outages = 0
        self._elapsed_at = float("-inf")
        self._not_before: dict[str, datetime] = {}
        self._bugs: set[tuple[str, str]] = set()
        self._rounds: set[asyncio.Task[tuple[bool, float]]] = set()
        self._closing = False

    def start(self) -> None:
        """Begin to pump, in the running loop. Starting twice is starting once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="spanpost-pump")

    def wake(self) -> None:
        """Say that something new may be due. Cheap; of the loop's own thread."""
        self._empty_rounds = 0
        self._news.set()

    @property
    def is_busy(self) -> bool:
        """True while deliveries are under way."""
        return bool(self._under_way)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Stop claiming, give what is under way `timeout` seconds, then let go of it: its lease runs out, it is reconciled."""
        self._closing = True
        self._news.set()
        task, self._task = self._task, None
        # Not cancelled at once: a claim cut in two leaves letters that nobody carries until their lease runs out.
        for pending in ([task] if task is not None else [], list(self._rounds), list(self._under_way)):
            if pending:
                _, late = await asyncio.wait(pending, timeout=timeout)
                for each in late:
                    each.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109
        """Deliver what is due. True when nothing of our sinks is left undelivered; False says that something is.

        Works with and without `start`. Waits for retries that fall due within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        is_far = False
        while True:
            look = asyncio.create_task(self._look(), name="spanpost-drain")
            self._rounds.add(look)
            look.add_done_callback(self._rounds.discard)
            # Waited for, not cancelled, for the same reason as in `close`.
            await asyncio.wait({look}, timeout=max(deadline - loop.time(), 0.001))
            if not look.done():
                return False
            is_empty, wait = look.result()
            left = deadline - loop.time()
            if is_empty:
                return True
            if left <= 0:
                return False
            # A lane that was busy when the round claimed may be free since: a far wait is believed the second time only.
            is_far, was_far = not self._under_way and wait > left, is_far
            if is_far and was_far:
                return False
            await self._sleep(0 if is_far else min(wait, left))

    async def _look(self) -> tuple[bool, float]:
        try:
            wait = await self._round()
            return not self._under_way and await self._is_empty(), wait
        except LedgerUnavailable as error:
            return False, self._outage(error)

    async def _is_empty(self) -> bool:
        for name in self._sinks:
            for state in ("waiting", "sending"):
                if await self._ledger.deliveries(state=state, sink=name, limit=1):
                    return False
        return True

    # --- rounds -------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while not self._closing:
            try:
                wait = await self._round()
                if self._outages:
                    log.info("the ledger is back after %d failed tries", self._outages)
                    self._outages = 0
            except LedgerUnavailable as error:
                wait = self._outage(error)
            except Exception as error:  # a bug of the ledger's must not end all deliveries
                self._bug("ledger", error)
                wait = self._outage()
            await self._sleep(min(wait, self._pace.longest))

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)  # let others run, even when there is always more
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _round(self) -> float:
        """Claim and start what is due; return the seconds until the next look, were nobody to wake us."""
        async with self._round_lock:
            self._news.clear()
            free = {name: self._pace.per_sink - n for name, n in self._busy().items() if n < self._pace.per_sink}
            claimed: list[Delivery] = []
            if free:
                claimed = await self._ledger.claim(list(free), min(free.values()))
                self._begin(claimed)
            due = await self._ledger.due_in()
            loop_time = asyncio.get_running_loop().time()
            # Seldom while letters flow: what falls due (settling, expiry) is counted in seconds.
            if due is not None and due <= 0 and loop_time - self._elapsed_at >= (1.0 if claimed else 0.1):
                self._elapsed_at = loop_time
                recorded = await self._ledger.elapse()
                self._tell(lambda watch: watch.recorded(recorded))
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
            # Something is due and cannot be had: its lane or its sink is busy. An end of ours wakes us; others' we must look for.
            first, last = self._pace.idle
            self._empty_rounds += 1
            return min(last, first * 2.0 ** min(self._empty_rounds - 1, 16))

    def _busy(self) -> dict[str, int]:
        busy = dict.fromkeys(self._sinks, 0)
        for name in self._under_way.values():
            busy[name] += 1
        return busy

    def _outage(self, error: LedgerUnavailable | None = None) -> float:
        if self._outages == 0 and error is not None:
            log.warning("the ledger is away, deliveries wait: %s", line(str(error), 300))
        first, last = self._pace.outage
        self._outages += 1
        return min(last, first * 2.0 ** min(self._outages - 1, 16)) * (0.5 + self._jitter() / 2)

    # --- deliveries ---------------------------------------------------------------------------------------------
    def _begin(self, claimed: Iterable[Delivery]) -> None:
        unsure: dict[str, list[Delivery]] = {}
        for delivery in claimed:
            if delivery.is_unknown:
                unsure.setdefault(delivery.sink, []).append(delivery)
            else:
                self._spawn(delivery.sink, self._carry(delivery))
        for name, deliveries in unsure.items():
            self._spawn(name, self._reconcile(name, deliveries))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"spanpost-deliver-{name}")
        self._under_way[task] = name
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bug("pump", error)
        self.wake()

    async def _carry(self, delivery: Delivery, *, doubt: bool = False) -> None:
        """Deliver and settle. `doubt`: an earlier attempt had arrived, so that a failure now leaves it to be reconciled."""
        await self._settle(delivery, await self._attempt(delivery, doubt))

    async def _attempt(self, delivery: Delivery, doubt: bool) -> Outcome:
        sink = self._sinks[delivery.sink]
        try:
            if held := self._held(sink, delivery):
                return RetryAt(at=held, reason="throttled", reconcile=doubt)
            async with asyncio.timeout(self._pace.timeout):
                return await sink.deliver(delivery)
        except TimeoutError:
            error: Exception = Unknown(f"no answer within {self._pace.timeout:g} s", reason="timeout")
        except Exception as raised:
            error = raised
            if not isinstance(raised, DeliveryError):
                self._bug(delivery.sink, raised)
        outcome = self._decide(error, delivery)
        if isinstance(error, Throttled) and isinstance(outcome, RetryAt):
            for bucket in self._buckets(sink, delivery):
                self._not_before[bucket] = max(outcome.at, self._not_before.get(bucket, outcome.at))
        return _unsure(outcome) if doubt else outcome

    def _held(self, sink: Carries, delivery: Delivery) -> datetime | None:
        """Return until when a bucket of the call is closed: what one letter was told holds for its neighbours."""
        if not self._not_before:
            return None
        now = self._clock()
        self._not_before = {bucket: at for bucket, at in self._not_before.items() if at > now}
        closed = [self._not_before[b] for b in self._buckets(sink, delivery) if b in self._not_before]
        return max(closed, default=None)

    def _buckets(self, sink: Carries, delivery: Delivery) -> tuple[str, ...]:
        try:
            is_edit = delivery.mode is Mode.STATE and delivery.lane_receipt is not None
            return tuple(b.key for b in sink.budgets(delivery.address, Call.EDIT if is_edit else Call.POST))
        except Exception as error:
            self._bug(delivery.sink, error)
            return ()

    async def _reconcile(self, name: str, deliveries: list[Delivery]) -> None:
        try:
            async with asyncio.timeout(self._pace.timeout):
                known = await self._sinks[name].reconcile(deliveries)
        except Exception as error:
            if not isinstance(error, (DeliveryError, TimeoutError)):
                self._bug(name, error)
            doubt = error if isinstance(error, DeliveryError) else Unknown(f"could not look: {error}", reason="unreconciled")
            for delivery in deliveries:
                await self._settle(delivery, _unsure(self._decide(doubt, delivery)))
            return
        for delivery in deliveries:
            if delivery.id not in known:
                still = Unknown("not known yet whether it arrived", reason="unreconciled")
                await self._settle(delivery, self._decide(still, delivery))
            elif (receipt := known[delivery.id]) is None:
                await self._carry(msgspec.structs.replace(delivery, is_unknown=False))
            elif delivery.mode is Mode.STATE:
                await self._carry(msgspec.structs.replace(delivery, lane_receipt=receipt, receipt=receipt), doubt=True)
            else:
                await self._settle(delivery, receipt)

    def _decide(self, error: Exception, delivery: Delivery) -> RetryAt | GiveUp:
        return decide(error, delivery.attempt, delivery.born_at, self._clock(), self._jitter(), self._policy)

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Bring the outcome home, however long the ledger is away: a lost receipt is a message posted twice."""
        age = self._clock() - delivery.born_at
        self._tell(lambda watch: watch.delivered(delivery, outcome, age))
        if isinstance(outcome, GiveUp):
            log.warning("letter %d to %s is buried: %s: %s", delivery.id, delivery.sink, outcome.reason, outcome.error)
        first, last = self._pace.outage
        tries = 0
        while True:
            try:
                await self._ledger.settle(delivery, outcome)
                return
            except LedgerUnavailable as error:
                if tries == 0 and self._outages == 0:
                    log.warning("the ledger is away, a receipt waits: %s", line(str(error), 300))
                await asyncio.sleep(min(last, first * 2.0 ** min(tries, 16)))
                tries += 1

    def _tell(self, say: Callable[[Watches], None]) -> None:
        if self._watch is None:
            return
        try:
            say(self._watch)
        except Exception as error:  # who counts must not stop who carries
            self._bug("watch", error)

    def _bug(self, name: str, error: BaseException) -> None:
        kind = (name, type(error).__name__)
        if kind not in self._bugs:
            self._bugs.add(kind)
            log.error("%s raised %s, said once: %s", name, kind[1], line(str(error), 300), extra={"where": _where(error)})


def _unsure(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, reconcile=True) if isinstance(outcome, RetryAt) else outcome


def _where(error: BaseException) -> str:
    """Return file and line of the innermost frame: a whole traceback could show arguments that are secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
