"""The pump: carries letters, in order, at once, honestly."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from spanpost.domain.deliveries import Budget, Delivery, Mode, Receipt
from spanpost.domain.errors import LedgerUnavailable, Rejected, Throttled, Unavailable, Unknown
from spanpost.domain.outcomes import GiveUp, Outcome, RetryAt
from spanpost.domain.records import Recorded
from spanpost.fold.retries import Policy
from spanpost.ledger.base import DeliveryRow
from spanpost.ledger.pump import Pace, Pump
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

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.sending: dict[int, Delivery] = {}
        self.lanes: dict[str, Receipt] = {}
        self.settled: list[tuple[Delivery, Outcome]] = []
        self.claims = self.elapses = 0
        self.is_away = False
        self.due_at: datetime | None = None
        self.changed = asyncio.Event()
        self._id = 0

    def post(self, *deliveries: Delivery) -> None:
        for d in deliveries:
            self._id += 1
            self.waiting.append(replace(d, id=self._id, born_at=now()))

    def _check(self) -> None:
        if self.is_away:
            raise LedgerUnavailable("connection refused")

    async def claim(self, sinks, limit):
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
        return [replace(d, lane_receipt=self.lanes.get(d.lane)) for d in taken]

    async def settle(self, delivery, outcome):
        self._check()
        self.sending.pop(delivery.id)
        self.settled.append((delivery, outcome))
        if isinstance(outcome, Receipt) and delivery.mode is Mode.STATE:
            self.lanes[delivery.lane] = outcome
        if isinstance(outcome, RetryAt):
            again = replace(delivery, attempt=delivery.attempt + 1, not_before=outcome.at, is_unknown=outcome.reconcile)
            self.waiting.insert(0, again)
        self.changed.set()

    async def due_in(self):
        self._check()
        times = [d.not_before or now() for d in self.waiting] + ([self.due_at] if self.due_at else [])
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


async def test_throttling_holds_for_the_bucket():
    """What one letter was told is kept for the others of the bucket: no second call before its time."""
    hall, window = Hall(), Window(Throttled("later", retry_after=timedelta(hours=1)), Receipt())
    hall.post(a_delivery(a_task("a")))
    pump = a_pump(hall, window)
    await pump.drain(5)
    hall.post(a_delivery(a_task("b")))
    assert await pump.drain(5) is False
    assert len(window.got) == 1
    assert [o.reason for _, o in hall.settled] == ["throttled", "throttled"]


async def test_unknown_is_reconciled_before_it_is_sent_again():
    """News that had arrived is not posted a second time."""
    found = Receipt(ref={"ts": "7"})
    hall, window = Hall(), Window(Unknown("reset", reason="reset"), known={1: found})
    hall.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_pump(hall, window).drain(10) is True
    assert len(window.got) == 1
    assert window.asked == [[1]]
    assert hall.settled[-1][1] == found


async def test_unknown_that_had_not_arrived_is_sent():
    """None from reconcile means that nothing arrived: it is delivered now."""
    hall, window = Hall(), Window(Unknown("reset"), Receipt(), known={1: None})
    hall.post(a_delivery(a_task(), a_checkpoint()))
    assert await a_pump(hall, window).drain(10) is True
    assert len(window.got) == 2


async def test_a_state_that_had_arrived_is_edited_once_more():
    """The text that arrived may be old, so an edit follows with the receipt that was found."""
    found = Receipt(ref={"ts": "7"})
    hall, window = Hall(), Window(Unknown("reset"), Receipt(ref={"ts": "7", "new": 1}), known={1: found})
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(10) is True
    assert window.got[1].lane_receipt == found
    assert hall.settled[-1][1] == Receipt(ref={"ts": "7", "new": 1})


async def test_a_failed_edit_after_doubt_stays_in_doubt():
    """When the edit after reconciling fails, the found receipt is not lost: it is reconciled again, never posted anew."""
    found = Receipt(ref={"ts": "7"})
    hall, window = Hall(), Window(Unknown("reset"), Unavailable("down"), Receipt(), known={1: found})
    hall.post(a_delivery())
    assert await a_pump(hall, window).drain(10) is True
    assert [len(window.asked), len(window.got)] == [2, 3]
    assert all(d.lane_receipt == found for d in window.got[1:])


@pytest.mark.parametrize("known", [{}, Unavailable("history is away"), ValueError("bug")], ids=["left-out", "unavailable", "bug"])
async def test_what_cannot_be_reconciled_stays_unknown(known):
    """Left out, or when looking fails, the letter waits and is asked again; it is not sent."""
    hall, window = Hall(), Window(Unknown("reset"), known=known)
    hall.post(a_delivery(a_task(), a_checkpoint()))
    pump = a_pump(hall, window)
    pump.start()
    await hall.until(4)
    await pump.close()
    assert len(window.got) == 1
    assert all(o.reconcile for _, o in hall.settled)


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
    assert said == ["console raised ValueError, said once: oops [redacted]"]


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

        def recorded(self, recorded):
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
    assert not pump.is_busy
    assert hall.settled == []
    await a_pump(Hall(), Window()).close()
