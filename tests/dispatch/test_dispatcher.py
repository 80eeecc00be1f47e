"""The dispatcher: delivers in order, concurrently, and reports outcomes correctly."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from spanpost.dispatch.dispatcher import Dispatcher, Pace
from spanpost.model.deliveries import Delivery, DeliveryRow, Mode, RateLimit, Receipt
from spanpost.model.errors import (
    ConfigError,
    DeliveryRefused,
    DeliveryUncertain,
    Rejected,
    StoreUnavailable,
    Throttled,
    Unavailable,
    Unverifiable,
)
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.model.recorded import Recorded
from spanpost.routing.rate_limiting import OpenCircuit, call_of
from spanpost.routing.retries import Policy
from spanpost.routing.routes import Routes
from spanpost.runtime.assembly import open_store
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.tasks.folded import FoldRules
from spanpost.testing.exercise_store import steps
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task


def now() -> datetime:
    return datetime.now(UTC)


def _row(d: Delivery, state: str) -> DeliveryRow:
    mode = str(d.mode)
    return DeliveryRow(
        id=d.id,
        sink=d.sink,
        address="",
        ordering_key=d.ordering_key,
        mode=mode,
        state=state,
        task_id="",
        kind="",
        attempt=1,
        born_at=d.born_at,
    )


class InteractionStore:
    """A store of deliveries alone: one per ordering key, state first, not before its time, leases, outages."""

    lease = timedelta(seconds=60)

    def __init__(self) -> None:
        self.outbox = self
        self.waiting: list[Delivery] = []
        self.sending: dict[int, Delivery] = {}
        self.ordering_keys: dict[str, Receipt] = {}
        self.finished: list[tuple[Delivery, Outcome]] = []
        self.claims = self.elapses = 0
        self.is_away = False
        self.due_at: datetime | None = None
        self.closes: list[OpenCircuit] = []
        self.changed = asyncio.Event()
        self._id = 0

    def post(self, *deliveries: Delivery) -> None:
        for d in deliveries:
            self._id += 1
            self.waiting.append(replace(d, id=self._id, born_at=now()))

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("connection refused")

    async def claim(self, sinks, limit, rate_limits):
        self._check()
        self.claims += 1
        taken: list[Delivery] = []
        for d in list(self.waiting):
            busy = {x.ordering_key for x in (*self.sending.values(), *taken)}
            first = next(x for x in self.waiting if x.ordering_key == d.ordering_key)
            if (
                len(taken) < limit
                and d.sink in sinks
                and d.ordering_key not in busy
                and d is first
                and (d.not_before or now()) <= now()
            ):
                taken.append(d)
        for d in taken:
            self.waiting.remove(d)
            self.sending[d.id] = d
        calls = [call_of(d.mode, d.is_unknown, d.ordering_key in self.ordering_keys) for d in taken]
        drawn = [
            tuple(b.key for b in rate_limits(d.sink, d.address, call)) for d, call in zip(taken, calls, strict=True)
        ]
        return [
            replace(d, message_receipt=self.ordering_keys.get(d.ordering_key), drawn=keys)
            for d, keys in zip(taken, drawn, strict=True)
        ]

    async def finish(self, delivery, outcome):
        self._check()
        self.sending.pop(delivery.id)
        self.finished.append((delivery, outcome))
        if isinstance(outcome, Receipt) and delivery.mode is Mode.STATE:
            self.ordering_keys[delivery.ordering_key] = outcome
        again = replace(delivery, attempt=delivery.attempt + 1)
        match outcome:
            case RetryAt():
                is_unknown = delivery.is_unknown or outcome.reconcile
                lookups = delivery.lookups + outcome.has_looked
                self.waiting.insert(0, replace(again, not_before=outcome.at, is_unknown=is_unknown, lookups=lookups))
            case NotArrived():
                self.waiting.insert(0, replace(again, not_before=None, is_unknown=False))
            case Arrived() if delivery.mode is Mode.STATE:
                self.ordering_keys[delivery.ordering_key] = outcome.receipt
                self.waiting.insert(0, replace(again, not_before=None, is_unknown=False, receipt=outcome.receipt))
        self.changed.set()
        return self.closes

    async def due_in(self, sinks, rate_limits):
        self._check()
        times = [d.not_before or now() for d in self.waiting if d.sink in sinks] + (
            [self.due_at] if self.due_at else []
        )
        return max((min(times) - now()).total_seconds(), 0.0) if times else None

    async def elapse(self):
        self._check()
        self.elapses += 1
        if self.due_at and self.due_at <= now():
            self.due_at = None
            self.post(a_delivery(a_task("settled")))
            return Recorded(deliveries=1)
        return Recorded()

    async def deliveries(self, *, state=None, sink=None, limit=100):
        self._check()
        rows = [("waiting", d) for d in self.waiting] + [("sending", d) for d in self.sending.values()]
        return [_row(d, s) for s, d in rows if state in (None, s) and sink in (None, d.sink)][:limit]

    async def until(self, n: int) -> None:
        async with asyncio.timeout(60):
            while len(self.finished) < n:
                self.changed.clear()
                await self.changed.wait()


class Window:
    """A sink with scripted answers, in order; the last one repeats."""

    name = "console"

    def __init__(self, *answers, known=None) -> None:
        self.answers = list(answers) or [Receipt(ref={"ts": "1"})]
        self.known = known if known is not None else {}
        self.got: list[Delivery] = []
        self.asked: list[list[int]] = []
        self.at_once = self.most = 0
        self.gate: asyncio.Event | None = None
        self.moved = asyncio.Event()

    async def until(self, is_so) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                self.moved.clear()
                await self.moved.wait()

    async def deliver(self, delivery):
        self.got.append(delivery)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.moved.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_once -= 1
            self.moved.set()

    async def reconcile(self, deliveries):
        self.asked.append([d.id for d in deliveries])
        if isinstance(self.known, Exception):
            raise self.known
        return {d.id: self.known[d.id] for d in deliveries if d.id in self.known}

    def rate_limits(self, address, call):
        return (RateLimit(key="bucket"),)

    async def close(self):
        pass


FAST = Policy(base=timedelta(milliseconds=20), floor=timedelta(milliseconds=1))


def a_dispatcher(interaction_store, window, **more) -> Dispatcher:
    return Dispatcher(
        interaction_store.outbox, interaction_store, {"console": window}, FAST, now, jitter=lambda: 0.5, **more
    )


async def test_drain_delivers_what_is_due_and_says_so():
    """Without being started, drain delivers everything that is due and returns True."""
    interaction_store, window = InteractionStore(), Window()
    interaction_store.post(*(a_delivery(a_task(f"t{i}")) for i in range(30)))
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert len(window.got) == 30
    assert interaction_store.waiting == []


async def test_an_ordering_key_keeps_its_order_and_passes_its_receipt():
    """Checkpoints of one task are delivered in order, one at a time, each with the root message's receipt."""
    interaction_store, window = InteractionStore(), Window()
    interaction_store.post(
        a_delivery(), *(a_delivery(a_task(), a_checkpoint(key=f"c{i}", text=str(i))) for i in range(8))
    )
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert [d.checkpoint.text for d in window.got[1:]] == [str(i) for i in range(8)]
    assert window.most == 1
    assert all(d.message_receipt == Receipt(ref={"ts": "1"}) for d in window.got[1:])


async def test_ordering_keys_are_delivered_at_once_within_bounds():
    """Different tasks are delivered concurrently, never more at once than the sink allows."""
    interaction_store, window = InteractionStore(), Window()
    window.gate = asyncio.Event()
    interaction_store.post(*(a_delivery(a_task(f"t{i}")) for i in range(20)))
    dispatcher = a_dispatcher(interaction_store, window, pace=Pace(per_sink=5))
    dispatcher.start()
    await window.until(lambda: window.at_once == 5)
    window.gate.set()
    await interaction_store.until(20)
    assert window.most == 5
    await dispatcher.close()


async def test_a_hanging_sink_does_not_hold_up_another():
    """A sink that never answers takes none of another sink's places."""
    interaction_store, stuck, well = InteractionStore(), Window(), Window()
    stuck.gate = asyncio.Event()
    interaction_store.post(
        *(a_delivery(a_task(f"t{i}"), sink="stuck") for i in range(40)),
        *(a_delivery(a_task(f"t{i}")) for i in range(10)),
    )
    dispatcher = Dispatcher(interaction_store.outbox, interaction_store, {"stuck": stuck, "console": well}, FAST, now)
    dispatcher.start()
    await interaction_store.until(10)
    assert {d.sink for d, _ in interaction_store.finished} == {"console"}
    await dispatcher.close(timeout=0.01)


async def test_wake_delivers_at_once():
    """A dispatcher whose next query is in an hour delivers when it is woken: nothing is polled."""
    interaction_store, window = InteractionStore(), Window()
    dispatcher = Dispatcher(
        interaction_store.outbox, interaction_store, {"console": window}, FAST, now, pace=Pace(longest=3600.0)
    )
    dispatcher.start()
    for i in range(30):
        interaction_store.post(a_delivery(a_task(f"t{i}")))
        dispatcher.wake()
        await interaction_store.until(i + 1)
    await dispatcher.close()


async def test_an_idle_dispatcher_queries_rarely():
    """With nothing due the store is asked at the due time only; a delivery that cannot be claimed ever more rarely."""
    interaction_store, window = InteractionStore(), Window()
    dispatcher = a_dispatcher(interaction_store, window)
    dispatcher.start()
    interaction_store.post(a_delivery(a_task(), sink="another"))  # due, and claimed by another dispatcher
    dispatcher.wake()
    await asyncio.sleep(0.5)
    assert interaction_store.claims <= 8
    assert interaction_store.elapses <= 6
    await dispatcher.close()


async def test_what_falls_due_is_elapsed_and_delivered():
    """Timers of the store are waited for, and their deliveries sent, without a wake."""
    interaction_store, window = InteractionStore(), Window()
    interaction_store.due_at = now() + timedelta(milliseconds=50)
    dispatcher = a_dispatcher(interaction_store, window)
    dispatcher.start()
    await interaction_store.until(1)
    assert interaction_store.elapses == 1
    await dispatcher.close()


async def test_a_failure_is_retried_with_its_reason():
    """An unavailable sink is tried again after the backoff; the attempt is counted, and the delivery
    arrives.
    """
    interaction_store, window = InteractionStore(), Window(Unavailable("down", reason="refused"), Receipt())
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    (_, first), (_, second) = interaction_store.finished
    assert isinstance(first, RetryAt)
    assert (first.reason, first.reconcile) == ("refused", False)
    assert second == Receipt()
    assert [d.attempt for d in window.got] == [1, 2]


@pytest.mark.proves("clocks", "clock-jumps")
@pytest.mark.parametrize("wrong", [timedelta(days=-40), timedelta(days=40)])
async def test_the_age_of_a_delivery_is_the_stores(wrong):
    """A process whose clock is weeks ahead or behind gives up what is old by the store's clock, and nothing else."""
    born_at = now()

    async def first_outcome(claimed_at):
        interaction_store, window = InteractionStore(), Window(Unavailable("down", reason="refused"), Receipt())
        interaction_store.post(replace(a_delivery(), born_at=born_at, claimed_at=claimed_at))
        dispatcher = Dispatcher(
            interaction_store.outbox, interaction_store, {"console": window}, FAST, lambda: now() + wrong
        )
        dispatcher.start()
        await interaction_store.until(1)
        await dispatcher.close(timeout=0.01)
        return interaction_store.finished[0][1]

    assert isinstance(await first_outcome(born_at + timedelta(seconds=1)), RetryAt)
    assert isinstance(await first_outcome(born_at + FAST.max_age + timedelta(seconds=1)), GiveUp)


async def test_a_rejected_delivery_is_a_dead_letter():
    """A rejected delivery is given up at once, and drain calls that done."""
    interaction_store, window = InteractionStore(), Window(Rejected("no", reason="is_archived"))
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert [o for _, o in interaction_store.finished] == [GiveUp(reason="is_archived", error="no")]


async def test_drain_is_honest_about_what_waits():
    """A delivery that is due after the time-out is reported as left, without waiting for the time-out."""
    interaction_store, window = InteractionStore(), Window(Throttled("later", retry_after=timedelta(hours=1)))
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window).drain(3600) is False  # it would run into the test's time-out


async def test_drain_keeps_its_time():
    """Drain returns False in time when a sink hangs."""
    interaction_store, window = InteractionStore(), Window()
    window.gate = asyncio.Event()
    interaction_store.post(a_delivery())
    dispatcher = a_dispatcher(interaction_store, window)
    assert await dispatcher.drain(0.05) is False
    await dispatcher.close(timeout=0.01)


async def test_throttled_closes_what_the_call_drew_on():
    """A throttled call closes all its rate limits, or the one that the answer names, for all deliveries."""
    for closes, expected in (("", ("console", "bucket")), ("bucket", ("bucket",))):
        interaction_store, window = (
            InteractionStore(),
            Window(Throttled("later", retry_after=timedelta(hours=1), closes=closes)),
        )
        interaction_store.post(a_delivery())
        assert await a_dispatcher(interaction_store, window).drain(60) is False
        [(_, outcome)] = interaction_store.finished
        assert (outcome.closes, outcome.is_failure) == (expected, False)


async def test_a_sink_without_a_breaker_has_one():
    """Every call draws on a circuit breaker: the sink's, or one with its name; invalid rate limits are ignored."""

    class Named(Window):
        def rate_limits(self, address, call):
            return self.named

    own = RateLimit(key="own", is_breaker=True)
    for named, drawn in (
        ((), ("console",)),
        ((own,), ("own",)),
        ((RateLimit(key="x", rate=-1.0),), ("console",)),
        (None, ("console",)),
    ):
        interaction_store, window = InteractionStore(), Named()
        window.named = named
        interaction_store.post(a_delivery())
        assert await a_dispatcher(interaction_store, window).drain(60) is True
        assert window.got[0].drawn == drawn


async def test_a_refusal_is_said_once_with_its_cure(caplog):
    """A refusal is logged once for each key and reason, and again only after a success in between."""
    no = DeliveryRefused("token revoked", cure="make a new token", reason="token_revoked")
    interaction_store, window = InteractionStore(), Window(no, no, Receipt(), no, Receipt())
    interaction_store.post(a_delivery(a_task("a")), a_delivery(a_task("b")))
    dispatcher = a_dispatcher(interaction_store, window, pace=Pace(per_sink=1))
    with caplog.at_level(logging.ERROR, "spanpost.dispatcher"):
        assert await dispatcher.drain(60) is True
        first = [r.getMessage() for r in caplog.records]
        assert first == ["console refuses (token_revoked): token revoked. make a new token"] * 2
    refused = [o for _, o in interaction_store.finished if isinstance(o, RetryAt)]
    assert all((o.is_refusal, o.is_failure, o.closes) == (True, False, ("console",)) for o in refused)


@pytest.mark.proves("in-doubt", "slack-answer-lost")
async def test_unknown_is_looked_up_before_it_is_sent_again():
    """A checkpoint that had arrived is not posted again: the reconciled outcome is its outcome."""
    found = Receipt(ref={"ts": "7"})
    interaction_store, window = InteractionStore(), Window(DeliveryUncertain("reset", reason="reset"), known={1: found})
    interaction_store.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert len(window.got) == 1
    assert window.asked == [[1]]
    assert interaction_store.finished[-1][1] == Arrived(receipt=found)


async def test_unknown_that_had_not_arrived_is_sent():
    """A reconciled None means that nothing arrived: that is recorded first, then the delivery is sent."""
    interaction_store, window = InteractionStore(), Window(DeliveryUncertain("reset"), Receipt(), known={1: None})
    interaction_store.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert [type(o) for _, o in interaction_store.finished] == [RetryAt, NotArrived, Receipt]
    assert len(window.got) == 2


async def test_a_state_that_had_arrived_is_edited_once_more():
    """A delivery that had arrived is edited with the found receipt; if that fails, it stays an edit."""
    found = Receipt(ref={"ts": "7"})
    interaction_store, window = (
        InteractionStore(),
        Window(DeliveryUncertain("reset"), Unavailable("down"), Receipt(ref={"ts": "7", "new": 1}), known={1: found}),
    )
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert [d.message_receipt for d in window.got] == [None, found, found]
    assert len(window.asked) == 1
    assert interaction_store.finished[-1][1] == Receipt(ref={"ts": "7", "new": 1})


@pytest.mark.parametrize(
    ("known", "has_looked", "is_failure"),
    [({}, True, False), (Unavailable("history is away"), False, True), (ValueError("bug"), False, True)],
    ids=["left-out", "unavailable", "bug"],
)
async def test_what_cannot_be_looked_up_stays_unknown(known, has_looked, is_failure):
    """A delivery whose lookup is missing or fails stays uncertain: it is looked up again and not sent."""
    interaction_store, window = InteractionStore(), Window(DeliveryUncertain("reset"), known=known)
    interaction_store.post(a_delivery(a_task(), a_checkpoint()))
    dispatcher = a_dispatcher(interaction_store, window)
    dispatcher.start()
    await interaction_store.until(4)
    await dispatcher.close()
    assert len(window.got) == 1
    lookups = [o for _, o in interaction_store.finished[1:]]
    assert all((o.has_looked, o.is_failure) == (has_looked, is_failure) for o in lookups)
    assert interaction_store.waiting[0].lookups == (len(lookups) if has_looked else 0)


async def test_each_reconciled_delivery_has_its_own_outcome():
    """Each delivery of one lookup has its own outcome: found, missing, throttled or impossible."""
    found = Receipt(ref={"ts": "7"})
    stall_rules = Throttled("later", retry_after=timedelta(hours=1), closes="lookups")
    known = {1: found, 2: None, 3: stall_rules, 4: Unverifiable("no scope")}
    interaction_store, window = InteractionStore(), Window(Receipt(), known=known)
    for name in "abcde":
        interaction_store.post(a_delivery(a_task(name), a_checkpoint(a_task(name)), is_unknown=True))
    dispatcher = a_dispatcher(interaction_store, window)
    dispatcher.start()
    await interaction_store.until(5)
    await dispatcher.close()
    outcomes = {d.id: outcome for d, outcome in interaction_store.finished[:5]}
    assert (outcomes[1], outcomes[2]) == (Arrived(receipt=found), NotArrived())
    assert outcomes[3].closes == ("lookups",)
    assert (type(outcomes[4]), outcomes[4].reason) == (GiveUp, "unverifiable")
    assert [outcomes[n].has_looked for n in (3, 5)] == [False, True]


async def test_a_lookup_that_never_answers_changes_nothing():
    """A lookup that hangs is retried; it counts as a failure of the sink, and not as a miss."""

    class Blind(Window):
        async def reconcile(self, deliveries):
            self.asked.append([d.id for d in deliveries])
            await asyncio.Event().wait()

    interaction_store, window = InteractionStore(), Blind(DeliveryUncertain("reset"))
    interaction_store.post(a_delivery(a_task(), a_checkpoint()))
    dispatcher = a_dispatcher(interaction_store, window, pace=Pace(timeout=0.02))
    dispatcher.start()
    await interaction_store.until(2)
    await dispatcher.close()
    looked = interaction_store.finished[1][1]
    assert (looked.reason, looked.is_failure, looked.has_looked, looked.reconcile) == ("timeout", True, False, False)


async def test_the_deadline_of_lookups_counts_from_the_call():
    """A delivery that was old when it was sent is not given up by the first lookup that does not find it."""
    interaction_store, window = InteractionStore(), Window(Receipt(), known={})
    interaction_store.post(a_delivery(a_task(), a_checkpoint(), is_unknown=True))
    old = replace(interaction_store.waiting[0], born_at=now() - timedelta(days=2), sent_at=now() - timedelta(seconds=5))
    older = replace(old, sent_at=now() - timedelta(days=2))
    for delivery, outcome in ((old, RetryAt), (older, GiveUp)):
        interaction_store.waiting[:], interaction_store.finished[:] = [delivery], []
        dispatcher = a_dispatcher(interaction_store, window)
        dispatcher.start()
        await interaction_store.until(1)
        await dispatcher.close()
        assert isinstance(interaction_store.finished[0][1], outcome)
    assert interaction_store.finished[0][1].reconcile is True


@pytest.mark.proves("delivered", "sender-frozen")
async def test_what_was_held_too_long_goes_back_unsent():
    """A delivery whose lease is nearly over before the call is not sent, and is known to be unsent."""
    interaction_store, window, clock = InteractionStore(), Window(), iter([0.0, 26.0])
    interaction_store.post(a_delivery())
    dispatcher = a_dispatcher(
        interaction_store, window, monotonic=lambda: next(clock, 1000.0 if interaction_store.finished == [] else 0.0)
    )
    assert await dispatcher.drain(60) is True
    [(_, first), (_, second)] = interaction_store.finished
    assert (first.is_unsent, first.reconcile, second) == (True, False, Receipt(ref={"ts": "1"}))
    assert len(window.got) == 1


async def test_a_lease_that_is_too_short_is_refused():
    """A sink's time limit as long as the lease is refused at the start: another process could claim the call."""
    with pytest.raises(ConfigError, match="lease"):
        a_dispatcher(InteractionStore(), Window(), pace=Pace(timeout=60.0))


@pytest.mark.parametrize("dsn", [None, "postgresql://nowhere/db"])
@pytest.mark.parametrize("seconds", [2, 5, 30, 600])
def test_the_lease_follows_the_delivery_timeout(clean_environment: Path, seconds: int, dsn: str | None) -> None:
    """With any `delivery_timeout` both stores lease a delivery for twice as long, which its dispatcher accepts."""
    settings = load(notifications={"delivery_timeout": seconds}, database={"url": dsn, "embedded": False})
    store = open_store(settings)
    assert store.outbox.lease == timedelta(seconds=2 * seconds)
    pace = Pace.of_timeout(settings.notifications.delivery_timeout)
    assert pace.timeout == seconds
    Dispatcher(store.outbox, store, {}, pace=pace)


async def test_a_circuit_that_closes_is_reported():
    """A circuit that an outcome closed is reported to the observer, with the sink."""

    class Watch:
        seen: list[tuple[str, OpenCircuit]] = []  # noqa: RUF012

        def delivered(self, delivery, outcome, age): ...

        def closed(self, sink, closed):
            self.seen.append((sink, closed))

    interaction_store, window = InteractionStore(), Window()
    interaction_store.closes = [
        OpenCircuit(key="bucket", why="failing", until=now() + timedelta(minutes=1), reason="down")
    ]
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window, watch=Watch()).drain(60) is True
    assert Watch.seen == [("console", interaction_store.closes[0])]


async def test_a_call_that_never_answers_is_unknown():
    """A call that exceeds its time-out may have arrived: it is reconciled."""
    interaction_store, window = InteractionStore(), Window(known={1: Receipt()})
    window.gate = asyncio.Event()
    interaction_store.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_dispatcher(interaction_store, window, pace=Pace(timeout=0.02)).drain(60) is True
    assert (interaction_store.finished[0][1].reason, interaction_store.finished[0][1].reconcile) == ("timeout", True)


async def test_a_bug_is_retried_and_logged_once(caplog):
    """An exception that is no DeliveryError counts as unavailable, and is logged once per kind without
    secrets.
    """
    bug = ValueError("oops xoxb-123456789012-abcdefghijkl")
    interaction_store, window = InteractionStore(), Window(bug, bug, bug, Receipt())
    interaction_store.post(a_delivery())
    with caplog.at_level(logging.WARNING, "spanpost"):
        assert await a_dispatcher(interaction_store, window).drain(60) is True
    assert [o.reason for _, o in interaction_store.finished[:3]] == ["bug"] * 3
    said = [r.getMessage() for r in caplog.records]
    assert said == ["console raised ValueError, logged once: oops [redacted:slack-token]"]


@pytest.mark.proves("delivered")
async def test_an_outage_of_the_store_is_survived(caplog):
    """An outage of the store loses nothing and is logged once; everything arrives after its return."""
    interaction_store, window = InteractionStore(), Window()
    interaction_store.post(*(a_delivery(a_task(f"t{i}")) for i in range(5)))
    interaction_store.is_away = True
    dispatcher = a_dispatcher(interaction_store, window, pace=Pace(outage=(0.01, 0.05)))
    with caplog.at_level(logging.WARNING, "spanpost"):
        dispatcher.start()
        assert await dispatcher.drain(0.1) is False
        interaction_store.is_away = False
        await interaction_store.until(5)
    await dispatcher.close()
    assert len(window.got) == 5
    assert len([r for r in caplog.records if "the store is down" in r.getMessage()]) == 1


@pytest.mark.proves("one-message")
async def test_a_receipt_is_brought_home_through_an_outage():
    """A receipt waits while the store is away after a delivery; the message is not sent twice."""
    interaction_store, window = InteractionStore(), Window()
    window.gate = asyncio.Event()
    interaction_store.post(a_delivery())
    dispatcher = a_dispatcher(interaction_store, window, pace=Pace(outage=(0.01, 0.02)))
    dispatcher.start()
    await window.until(lambda: bool(window.got))
    interaction_store.is_away = True
    window.gate.set()
    await window.until(lambda: window.at_once == 0)
    interaction_store.is_away = False
    await interaction_store.until(1)
    await dispatcher.close()
    assert len(window.got) == 1


async def test_an_observer_sees_outcomes_and_cannot_stop_them():
    """Outcomes are reported with the delivery's age; an observer that raises stops nothing."""

    class Watch:
        seen: list[Outcome] = []  # noqa: RUF012

        def closed(self, sink, closed):
            raise RuntimeError

        def delivered(self, delivery, outcome, age):
            self.seen.append(outcome)
            assert timedelta(0) <= age < timedelta(seconds=10)
            raise RuntimeError

    interaction_store, window = InteractionStore(), Window()
    interaction_store.post(a_delivery())
    assert await a_dispatcher(interaction_store, window, watch=Watch()).drain(60) is True
    assert Watch.seen == [Receipt(ref={"ts": "1"})]


async def test_close_is_safe_to_repeat_and_frees_what_hangs():
    """Closing twice, started or not, ends; a hanging call is abandoned, and its lease runs out."""
    interaction_store, window = InteractionStore(), Window()
    window.gate = asyncio.Event()
    interaction_store.post(a_delivery())
    dispatcher = a_dispatcher(interaction_store, window)
    dispatcher.start()
    dispatcher.start()
    await window.until(lambda: bool(window.got))
    await dispatcher.close(timeout=0.01)
    await dispatcher.close()
    assert interaction_store.finished == []
    await a_dispatcher(InteractionStore(), Window()).close()


# --- with a store that paces -----------------------------------------------------------------------------------------


class Far(Window):
    """A sink whose remote side counts its calls, with the given rate limits."""

    def __init__(self, *answers, limits=(), **more) -> None:
        super().__init__(*answers, **more)
        self.limits = limits

    def rate_limits(self, address, call):
        return self.limits


class Counting(MemoryStore):
    """A store that counts its queries."""

    def __init__(self, rules: FoldRules) -> None:
        super().__init__(rules)
        self.claims = 0
        self._claim = self.outbox.claim
        self.outbox.claim = self._counted_claim  # type: ignore[method-assign]

    async def _counted_claim(self, sinks, limit, rate_limits):
        self.claims += 1
        return await self._claim(sinks, limit, rate_limits)


async def a_store_with(count: int) -> Counting:
    store = Counting(FoldRules(routes=Routes(sinks=("console",))))
    await store.record([o for trace in range(1, count + 1) for o in steps(0, trace=trace)])
    return store


async def test_a_paced_sink_is_called_at_its_pace():
    """Two of thirty ordering keys are sent, the rest waits for its time without calls or queries."""
    store, far = await a_store_with(30), Far(limits=(RateLimit(key="slow", rate=1 / 3600, burst=2.0),))
    dispatcher = a_dispatcher(store, far)
    assert await dispatcher.drain(10) is False
    dispatcher.start()
    asked = store.claims
    await asyncio.sleep(0.3)
    await dispatcher.close()
    assert len(far.got) == 2
    assert store.claims - asked <= 3


@pytest.mark.slow
async def test_a_far_side_that_is_down_is_left_alone():
    """While every call fails no new calls begin: thirty ordering keys wait for the sink's circuit breaker."""
    store, far = await a_store_with(30), Far(Unavailable("down", reason="connect"))
    dispatcher = a_dispatcher(store, far, pace=Pace(per_sink=8))
    assert await dispatcher.drain(10) is False
    assert 5 <= len(far.got) <= 12
    [row] = await store.outbox.rate_limits(is_closed=True)
    assert (row.key, row.why, row.reason) == ("console", "failing", "connect")


async def test_all_ordering_keys_wait_for_a_throttled_sink():
    """After one answer that asks for an hour, no ordering key calls again."""
    store, far = await a_store_with(30), Far(Throttled("slow down", retry_after=timedelta(hours=1)))
    assert await a_dispatcher(store, far, pace=Pace(per_sink=1)).drain(10) is False
    assert len(far.got) == 1


async def test_an_unknown_outcome_is_reconciled_step_by_step():
    """A post that hung is looked up, found, and its message edited; its checkpoint follows; nothing is
    posted twice.
    """
    found = Receipt(ref={"ts": "7"})
    store = await a_store_with(1)
    far = Far(DeliveryUncertain("reset", reason="reset"), Receipt(ref={"ts": "7", "edited": 1}), known={1: found})
    assert await a_dispatcher(store, far).drain(60) is True
    assert far.asked == [[1]]
    first, *rest = far.got
    assert first.message_receipt is None
    assert rest != []
    assert all(d.message_receipt is not None and d.message_receipt.ref["ts"] == "7" for d in rest)
    assert {r.state for r in await store.outbox.deliveries()} == {"delivered"}
