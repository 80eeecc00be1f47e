"""The pump: carries letters, in order, at once, honestly."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from spanpost.domain.deliveries import Budget, Delivery, Mode, Receipt
from spanpost.domain.errors import ConfigError, LedgerUnavailable, Refused, Rejected, Throttled, Unavailable, Unknown, Unverifiable
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.records import Recorded
from spanpost.fold.batch import Rules
from spanpost.fold.paces import Closed, call_of
from spanpost.fold.retries import Policy
from spanpost.fold.routes import Routes
from spanpost.ledger.base import DeliveryRow
from spanpost.ledger.memory import MemoryLedger
from spanpost.ledger.pump import Pace, Pump
from spanpost.testing.exercise_ledger import steps
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task


def now() -> datetime:
    return datetime.now(UTC)


def _row(d: Delivery, state: str) -> DeliveryRow:
    mode = str(d.mode)
    return DeliveryRow(
        id=d.id, sink=d.sink, address="", lane=d.lane, mode=mode, state=state, task_id="", kind="", attempt=1, born_at=d.born_at
    )


class Hall:
    """A ledger of deliveries alone that behaves: one per lane, state first, not before its time, leases, outages."""

    lease = timedelta(seconds=60)

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.sending: dict[int, Delivery] = {}
        self.lanes: dict[str, Receipt] = {}
        self.settled: list[tuple[Delivery, Outcome]] = []
        self.claims = self.elapses = 0
        self.is_away = False
        self.due_at: datetime | None = None
        self.closes: list[Closed] = []
        self.changed = asyncio.Event()
        self._id = 0

    def post(self, *deliveries: Delivery) -> None:
        for d in deliveries:
            self._id += 1
            self.waiting.append(replace(d, id=self._id, born_at=now()))

    def _check(self) -> None:
        if self.is_away:
            raise LedgerUnavailable("connection refused")

    async def claim(self, sinks, limit, budgets):
        self._check()
        self.claims += 1
        taken: list[Delivery] = []
        for d in list(self.waiting):
            busy = {x.lane for x in (*self.sending.values(), *taken)}
            first = next(x for x in self.waiting if x.lane == d.lane)
            if len(taken) < limit and d.sink in sinks and d.lane not in busy and d is first and (d.not_before or now()) <= now():
                taken.append(d)
        for d in taken:
            self.waiting.remove(d)
            self.sending[d.id] = d
        calls = [call_of(d.mode, d.is_unknown, d.lane in self.lanes) for d in taken]
        drawn = [tuple(b.key for b in budgets(d.sink, d.address, call)) for d, call in zip(taken, calls, strict=True)]
        return [replace(d, lane_receipt=self.lanes.get(d.lane), drawn=keys) for d, keys in zip(taken, drawn, strict=True)]

    async def settle(self, delivery, outcome):
        self._check()
        self.sending.pop(delivery.id)
        self.settled.append((delivery, outcome))
        if isinstance(outcome, Receipt) and delivery.mode is Mode.STATE:
            self.lanes[delivery.lane] = outcome
        again = replace(delivery, attempt=delivery.attempt + 1)
        match outcome:
            case RetryAt():
                is_unknown = delivery.is_unknown or outcome.reconcile
                looks = delivery.looks + outcome.has_looked
                self.waiting.insert(0, replace(again, not_before=outcome.at, is_unknown=is_unknown, looks=looks))
            case Absent():
                self.waiting.insert(0, replace(again, not_before=None, is_unknown=False))
            case Found() if delivery.mode is Mode.STATE:
                self.lanes[delivery.lane] = outcome.receipt
                self.waiting.insert(0, replace(again, not_before=None, is_unknown=False, receipt=outcome.receipt))
        self.changed.set()
        return self.closes

    async def due_in(self, sinks, budgets):
        self._check()
        times = [d.not_before or now() for d in self.waiting if d.sink in sinks] + ([self.due_at] if self.due_at else [])
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
        async with asyncio.timeout(10):
            while len(self.settled) < n:
                self.changed.clear()
                await self.changed.wait()


class Window:
    """A sink that does what it is told: answers are taken in order, the last one for good."""

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
        async with asyncio.timeout(10):
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

    def budgets(self, address, call):
        return (Budget(key="bucket"),)

    async def close(self):
        pass


FAST = Policy(base=timedelta(milliseconds=20), floor=timedelta(milliseconds=1))


def a_pump(hall, window, **more) -> Pump:
    return Pump(hall, {"console": window}, FAST, now, jitter=lambda: 0.5, **more)


async def test_drain_delivers_what_is_due_and_says_so():
    """Without being started, drain carries everything that is due and answers True."""
    hall, window = Hall(), Window()
    hall.post(*(a_delivery(a_task(f"t{i}")) for i in range(30)))
    assert await a_pump(hall, window).drain(10) is True
    assert len(window.got) == 30
    assert hall.waiting == []


async def test_a_lane_keeps_its_order_and_gets_its_receipt():
    """News of one task arrives in order, one at a time, each knowing the root message's receipt."""
    hall, window = Hall(), Window()
    hall.post(a_delivery(), *(a_delivery(a_task(), a_checkpoint(key=f"c{i}", text=str(i))) for i in range(8)))
    assert await a_pump(hall, window).drain(10) is True
    assert [d.checkpoint.text for d in window.got[1:]] == [str(i) for i in range(8)]
    assert window.most == 1
    assert all(d.lane_receipt == Receipt(ref={"ts": "1"}) for d in window.got[1:])


async def test_lanes_go_at_once_within_bounds():
    """Different tasks are delivered concurrently, never more at once than the pace allows."""
    hall, window = Hall(), Window()
    window.gate = asyncio.Event()
    hall.post(*(a_delivery(a_task(f"t{i}")) for i in range(20)))
    pump = a_pump(hall, window, pace=Pace(per_sink=5))
    pump.start()
    await window.until(lambda: window.at_once == 5)
    window.gate.set()
    await hall.until(20)
    assert window.most == 5
    await pump.close()


async def test_a_hanging_sink_does_not_hold_up_another():
    """One window that never answers takes none of the other's places."""
    hall, stuck, well = Hall(), Window(), Window()
    stuck.gate = asyncio.Event()
    hall.post(*(a_delivery(a_task(f"t{i}"), sink="stuck") for i in range(40)), *(a_delivery(a_task(f"t{i}")) for i in range(10)))
    pump = Pump(hall, {"stuck": stuck, "console": well}, FAST, now)
    pump.start()
    await hall.until(10)
    assert {d.sink for d, _ in hall.settled} == {"console"}
    await pump.close(timeout=0.01)


async def test_wake_delivers_at_once():
    """A pump that would look again in an hour delivers when it is woken: nothing is polled."""
    hall, window = Hall(), Window()
    pump = Pump(hall, {"console": window}, FAST, now, pace=Pace(longest=3600.0))
    pump.start()
    for i in range(30):
        hall.post(a_delivery(a_task(f"t{i}")))
        pump.wake()
        await hall.until(i + 1)
    await pump.close()


async def test_an_idle_pump_looks_seldom():
    """With nothing due the ledger is not asked again until it is time; with something that cannot be had, ever more seldom."""
    hall, window = Hall(), Window()
    pump = a_pump(hall, window)
    pump.start()
    hall.post(a_delivery(a_task(), sink="another"))  # due, and not ours to carry
    pump.wake()
    await asyncio.sleep(0.5)
    assert hall.claims <= 8
    assert hall.elapses <= 6
    await pump.close()


async def test_what_falls_due_is_elapsed_and_delivered():
    """A moment that the ledger names is waited for, asked for, and its letters carried, without a wake."""
    hall, window = Hall(), Window()
    hall.due_at = now() + timedelta(milliseconds=50)
    pump = a_pump(hall, window)
    pump.start()
    await hall.until(1)
    assert hall.elapses == 1
    await pump.close()


async def test_a_failure_is_retried_with_its_reason():
    """Unavailable is tried again after its backoff, counted, and arrives."""
    hall, window = Hall(), Window(Unavailable("down", reason="refused"), Receipt())
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(10) is True
    (_, first), (_, second) = hall.settled
    assert isinstance(first, RetryAt)
    assert (first.reason, first.reconcile) == ("refused", False)
    assert second == Receipt()
    assert [d.attempt for d in window.got] == [1, 2]


async def test_a_refusal_is_buried():
    """Rejected is given up at once and drain calls that done."""
    hall, window = Hall(), Window(Rejected("no", reason="is_archived"))
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(10) is True
    assert [o for _, o in hall.settled] == [GiveUp(reason="is_archived", error="no")]


async def test_drain_is_honest_about_what_waits():
    """A letter that may not go before the time-out is reported as left, without waiting for the time-out."""
    hall, window = Hall(), Window(Throttled("later", retry_after=timedelta(hours=1)))
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(3600) is False  # it would run into the test's time-out


async def test_drain_keeps_its_time():
    """A window that hangs makes drain answer False in time."""
    hall, window = Hall(), Window()
    window.gate = asyncio.Event()
    hall.post(a_delivery())
    pump = a_pump(hall, window)
    assert await pump.drain(0.05) is False
    await pump.close(timeout=0.01)


async def test_throttled_closes_what_the_call_drew_on():
    """Patience that a far side asks for closes all budgets of the call, or the one it names, for everybody."""
    for closes, expected in (("", ("console", "bucket")), ("bucket", ("bucket",))):
        hall, window = Hall(), Window(Throttled("later", retry_after=timedelta(hours=1), closes=closes))
        hall.post(a_delivery())
        assert await a_pump(hall, window).drain(5) is False
        [(_, outcome)] = hall.settled
        assert (outcome.closes, outcome.is_failure) == (expected, False)


async def test_a_sink_without_a_breaker_has_one():
    """Every call draws on a breaker: the sink's own, or one with the sink's name; budgets that make no sense count as none."""

    class Named(Window):
        def budgets(self, address, call):
            return self.named

    own = Budget(key="own", is_breaker=True)
    for named, drawn in (
        ((), ("console",)),
        ((own,), ("own",)),
        ((Budget(key="x", rate=-1.0),), ("console",)),
        (None, ("console",)),
    ):
        hall, window = Hall(), Named()
        window.named = named
        hall.post(a_delivery())
        assert await a_pump(hall, window).drain(5) is True
        assert window.got[0].drawn == drawn


async def test_a_refusal_is_said_once_with_its_cure(caplog):
    """What a person must mend is logged once for each budget and reason, and again only after a success in between."""
    no = Refused("token revoked", cure="make a new token", reason="token_revoked")
    hall, window = Hall(), Window(no, no, Receipt(), no, Receipt())
    hall.post(a_delivery(a_task("a")), a_delivery(a_task("b")))
    pump = a_pump(hall, window, pace=Pace(per_sink=1))
    with caplog.at_level(logging.ERROR, "spanpost.pump"):
        assert await pump.drain(10) is True
        first = [r.getMessage() for r in caplog.records]
        assert first == ["console refuses (token_revoked): token revoked. make a new token"] * 2
    refused = [o for _, o in hall.settled if isinstance(o, RetryAt)]
    assert all((o.is_refusal, o.is_failure, o.closes) == (True, False, ("console",)) for o in refused)


async def test_unknown_is_looked_up_before_it_is_sent_again():
    """News that had arrived is not posted a second time: what the look found is its outcome."""
    found = Receipt(ref={"ts": "7"})
    hall, window = Hall(), Window(Unknown("reset", reason="reset"), known={1: found})
    hall.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_pump(hall, window).drain(10) is True
    assert len(window.got) == 1
    assert window.asked == [[1]]
    assert hall.settled[-1][1] == Found(receipt=found)


async def test_unknown_that_had_not_arrived_is_sent():
    """None from a look means that nothing arrived: that is settled first, then it is sent."""
    hall, window = Hall(), Window(Unknown("reset"), Receipt(), known={1: None})
    hall.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_pump(hall, window).drain(10) is True
    assert [type(o) for _, o in hall.settled] == [RetryAt, Absent, Receipt]
    assert len(window.got) == 2


async def test_a_state_that_had_arrived_is_edited_once_more():
    """The text that arrived may be old, so an edit follows with the receipt that was found; failing, it stays an edit."""
    found = Receipt(ref={"ts": "7"})
    hall, window = Hall(), Window(Unknown("reset"), Unavailable("down"), Receipt(ref={"ts": "7", "new": 1}), known={1: found})
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(10) is True
    assert [d.lane_receipt for d in window.got] == [None, found, found]
    assert len(window.asked) == 1
    assert hall.settled[-1][1] == Receipt(ref={"ts": "7", "new": 1})


@pytest.mark.parametrize(
    ("known", "has_looked", "is_failure"),
    [({}, True, False), (Unavailable("history is away"), False, True), (ValueError("bug"), False, True)],
    ids=["left-out", "unavailable", "bug"],
)
async def test_what_cannot_be_looked_up_stays_unknown(known, has_looked, is_failure):
    """Left out, or when looking fails, the letter waits and is looked up again; it is not sent; only a look that saw counts."""
    hall, window = Hall(), Window(Unknown("reset"), known=known)
    hall.post(a_delivery(a_task(), a_checkpoint()))
    pump = a_pump(hall, window)
    pump.start()
    await hall.until(4)
    await pump.close()
    assert len(window.got) == 1
    looks = [o for _, o in hall.settled[1:]]
    assert all((o.has_looked, o.is_failure) == (has_looked, is_failure) for o in looks)
    assert hall.waiting[0].looks == (len(looks) if has_looked else 0)


async def test_each_letter_of_a_look_has_its_own_outcome():
    """A look may find one letter, miss another, and be throttled or impossible for others: each is settled by its own answer."""
    found = Receipt(ref={"ts": "7"})
    patience = Throttled("later", retry_after=timedelta(hours=1), closes="looks")
    known = {1: found, 2: None, 3: patience, 4: Unverifiable("no scope")}
    hall, window = Hall(), Window(Receipt(), known=known)
    for name in "abcde":
        hall.post(a_delivery(a_task(name), a_checkpoint(a_task(name)), is_unknown=True))
    pump = a_pump(hall, window)
    pump.start()
    await hall.until(5)
    await pump.close()
    outcomes = {d.id: outcome for d, outcome in hall.settled[:5]}
    assert (outcomes[1], outcomes[2]) == (Found(receipt=found), Absent())
    assert outcomes[3].closes == ("looks",)
    assert (type(outcomes[4]), outcomes[4].reason) == (GiveUp, "unverifiable")
    assert [outcomes[n].has_looked for n in (3, 5)] == [False, True]


async def test_a_look_that_never_answers_changes_nothing():
    """A look that hangs is tried again later; it is a failure of the far side and does not count as having seen nothing."""

    class Blind(Window):
        async def reconcile(self, deliveries):
            self.asked.append([d.id for d in deliveries])
            await asyncio.Event().wait()

    hall, window = Hall(), Blind(Unknown("reset"))
    hall.post(a_delivery(a_task(), a_checkpoint()))
    pump = a_pump(hall, window, pace=Pace(timeout=0.02))
    pump.start()
    await hall.until(2)
    await pump.close()
    looked = hall.settled[1][1]
    assert (looked.reason, looked.is_failure, looked.has_looked, looked.reconcile) == ("timeout", True, False, False)


async def test_a_look_has_its_own_patience():
    """A letter that was old when it was sent is not given up by the first look that finds nothing."""
    hall, window = Hall(), Window(Receipt(), known={})
    hall.post(a_delivery(a_task(), a_checkpoint(), is_unknown=True))
    old = replace(hall.waiting[0], born_at=now() - timedelta(days=2), sent_at=now() - timedelta(seconds=5))
    older = replace(old, sent_at=now() - timedelta(days=2))
    for letter, outcome in ((old, RetryAt), (older, GiveUp)):
        hall.waiting[:], hall.settled[:] = [letter], []
        pump = a_pump(hall, window)
        pump.start()
        await hall.until(1)
        await pump.close()
        assert isinstance(hall.settled[0][1], outcome)
    assert hall.settled[0][1].reconcile is True


async def test_what_was_held_too_long_goes_back_unsent():
    """When the lease is nearly over before the call (the process was frozen), the letter is not sent, and is told to be unsent."""
    hall, window, clock = Hall(), Window(), iter([0.0, 26.0])
    hall.post(a_delivery())
    pump = a_pump(hall, window, monotonic=lambda: next(clock, 1000.0 if hall.settled == [] else 0.0))
    assert await pump.drain(10) is True
    [(_, first), (_, second)] = hall.settled
    assert (first.is_unsent, first.reconcile, second) == (True, False, Receipt(ref={"ts": "1"}))
    assert len(window.got) == 1


async def test_a_lease_that_is_too_short_is_refused():
    """A call that may take as long as the lease lasts would be taken over while it is made: the pump does not start so."""
    with pytest.raises(ConfigError, match="lease"):
        a_pump(Hall(), Window(), pace=Pace(timeout=60.0))


async def test_a_budget_that_closes_is_told():
    """What an outcome closed is told to who watches, with the sink."""

    class Watch:
        told: list[tuple[str, Closed]] = []  # noqa: RUF012

        def delivered(self, delivery, outcome, age): ...

        def closed(self, sink, closed):
            self.told.append((sink, closed))

    hall, window = Hall(), Window()
    hall.closes = [Closed(key="bucket", why="failing", until=now() + timedelta(minutes=1), reason="down")]
    hall.post(a_delivery())
    assert await a_pump(hall, window, watch=Watch()).drain(10) is True
    assert Watch.told == [("console", hall.closes[0])]


async def test_a_call_that_never_answers_is_unknown():
    """After the pace's time-out it may have happened: reconcile."""
    hall, window = Hall(), Window(known={1: Receipt()})
    window.gate = asyncio.Event()
    hall.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_pump(hall, window, pace=Pace(timeout=0.02)).drain(10) is True
    assert (hall.settled[0][1].reason, hall.settled[0][1].reconcile) == ("timeout", True)


async def test_a_bug_is_retried_and_logged_once(caplog):
    """An exception that is no DeliveryError counts as unavailable, is logged once per kind, its secrets scrubbed."""
    bug = ValueError("oops xoxb-123456789012-abcdefghijkl")
    hall, window = Hall(), Window(bug, bug, bug, Receipt())
    hall.post(a_delivery())
    with caplog.at_level(logging.WARNING, "spanpost"):
        assert await a_pump(hall, window).drain(10) is True
    assert [o.reason for _, o in hall.settled[:3]] == ["bug"] * 3
    said = [r.getMessage() for r in caplog.records]
    assert said == ["console raised ValueError, said once: oops [redacted:slack-token]"]


async def test_a_ledger_outage_is_survived(caplog):
    """While the ledger is away nothing is lost, it is said once, and everything arrives after its return."""
    hall, window = Hall(), Window()
    hall.post(*(a_delivery(a_task(f"t{i}")) for i in range(5)))
    hall.is_away = True
    pump = a_pump(hall, window, pace=Pace(outage=(0.01, 0.05)))
    with caplog.at_level(logging.WARNING, "spanpost"):
        pump.start()
        assert await pump.drain(0.1) is False
        hall.is_away = False
        await hall.until(5)
    await pump.close()
    assert len(window.got) == 5
    assert len([r for r in caplog.records if "away" in r.getMessage()]) == 1


async def test_a_receipt_is_brought_home_through_an_outage():
    """When the ledger goes away between delivering and settling, the receipt waits; the message is not sent twice."""
    hall, window = Hall(), Window()
    window.gate = asyncio.Event()
    hall.post(a_delivery())
    pump = a_pump(hall, window, pace=Pace(outage=(0.01, 0.02)))
    pump.start()
    await window.until(lambda: bool(window.got))
    hall.is_away = True
    window.gate.set()
    await window.until(lambda: window.at_once == 0)
    hall.is_away = False
    await hall.until(1)
    await pump.close()
    assert len(window.got) == 1


async def test_who_watches_is_told_and_cannot_stop_it():
    """Outcomes are told with the letter's age; a watcher that raises stops nothing."""

    class Watch:
        told: list[Outcome] = []  # noqa: RUF012

        def closed(self, sink, closed):
            raise RuntimeError

        def delivered(self, delivery, outcome, age):
            self.told.append(outcome)
            assert timedelta(0) <= age < timedelta(seconds=10)
            raise RuntimeError

    hall, window = Hall(), Window()
    hall.post(a_delivery())
    assert await a_pump(hall, window, watch=Watch()).drain(10) is True
    assert Watch.told == [Receipt(ref={"ts": "1"})]


async def test_close_is_safe_to_repeat_and_frees_what_hangs():
    """Closing twice, started or not, ends; what hangs is let go of unsettled, for its lease to run out."""
    hall, window = Hall(), Window()
    window.gate = asyncio.Event()
    hall.post(a_delivery())
    pump = a_pump(hall, window)
    pump.start()
    pump.start()
    await window.until(lambda: bool(window.got))
    await pump.close(timeout=0.01)
    await pump.close()
    assert hall.settled == []
    await a_pump(Hall(), Window()).close()


# --- with a ledger that paces -----------------------------------------------------------------------------------------


class Far(Window):
    """A window before a far side that counts its calls, with budgets as given."""

    def __init__(self, *answers, limits=(), **more) -> None:
        super().__init__(*answers, **more)
        self.limits = limits

    def budgets(self, address, call):
        return self.limits


class Counting(MemoryLedger):
    """A ledger that counts how often it is asked."""

    claims = 0

    async def claim(self, sinks, limit, budgets):
        self.claims += 1
        return await super().claim(sinks, limit, budgets)


async def a_ledger_with(count: int) -> Counting:
    ledger = Counting(Rules(routes=Routes(sinks=("console",))))
    await ledger.record([o for trace in range(1, count + 1) for o in steps(0, trace=trace)])
    return ledger


async def test_a_paced_sink_is_called_at_its_pace():
    """Of thirty lanes two go out, the rest waits for its time, and the pump neither calls nor asks meanwhile."""
    ledger, far = await a_ledger_with(30), Far(limits=(Budget(key="slow", rate=1 / 3600, burst=2.0),))
    pump = a_pump(ledger, far)
    assert await pump.drain(10) is False
    pump.start()
    asked = ledger.claims
    await asyncio.sleep(0.3)
    await pump.close()
    assert len(far.got) == 2
    assert ledger.claims - asked <= 3


async def test_a_far_side_that_is_down_is_left_alone():
    """When every call fails, those under way are the last; thirty lanes wait for the one breaker that every sink has."""
    ledger, far = await a_ledger_with(30), Far(Unavailable("down", reason="connect"))
    pump = a_pump(ledger, far, pace=Pace(per_sink=8))
    assert await pump.drain(10) is False
    assert 5 <= len(far.got) <= 12
    [row] = await ledger.budgets(is_closed=True)
    assert (row.key, row.why, row.reason) == ("console", "failing", "connect")


async def test_patience_is_kept_by_all_lanes():
    """One answer that asks for an hour, and no lane calls again."""
    ledger, far = await a_ledger_with(30), Far(Throttled("slow down", retry_after=timedelta(hours=1)))
    assert await a_pump(ledger, far, pace=Pace(per_sink=1)).drain(10) is False
    assert len(far.got) == 1


async def test_doubt_is_settled_step_by_step():
    """A post that hung is looked up, found, and its message edited; its news follows; nothing is posted twice."""
    found = Receipt(ref={"ts": "7"})
    ledger = await a_ledger_with(1)
    far = Far(Unknown("reset", reason="reset"), Receipt(ref={"ts": "7", "edited": 1}), known={1: found})
    assert await a_pump(ledger, far).drain(10) is True
    assert far.asked == [[1]]
    first, *rest = far.got
    assert first.lane_receipt is None
    assert rest != []
    assert all(d.lane_receipt is not None and d.lane_receipt.ref["ts"] == "7" for d in rest)
    assert {r.state for r in await ledger.deliveries()} == {"delivered"}
