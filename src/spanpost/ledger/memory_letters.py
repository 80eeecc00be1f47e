"""The letters of the memory ledger: the same rules as `outbox` and `claims`, over dictionaries."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec

from spanpost.domain import fleet
from spanpost.domain.alerts import Alert
from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Budget, Call, Delivery, Mode, Receipt, Urgency
from spanpost.domain.orders import Order
from spanpost.domain.outcomes import Absent, Found, GiveUp, Outcome, RetryAt
from spanpost.domain.tasks import Task
from spanpost.fold import paces
from spanpost.fold.batch import Rules
from spanpost.fold.carrying import anew, carries, lanes_of, last
from spanpost.fold.letters import ON_THE_WAY, Again, Letter
from spanpost.fold.orders import blank_task
from spanpost.fold.paces import Bucket, Closed
from spanpost.ledger.base import BudgetRow, Budgets, DeliveryRow, OrderRow, alert_of, has_sent, row_of, wait_of
from spanpost.ledger.memory_lanes import RANK, Head, Lane, Sort, Waiting, is_urgent


class Knows(Protocol):
    """**Protocol:** what letters ask of the ledger that keeps their tasks."""

    rules: Rules

    def task(self, uid: UUID) -> Task | None: ...

    def checkpoint(self, id: UUID) -> Checkpoint | None: ...

    def order_of(self, id: UUID) -> Order | None: ...
    def alert(self, id: UUID) -> Alert | None: ...

    def below(self, root: Task) -> tuple[Task, ...]: ...

    def shown(self, task: Task) -> Task: ...


class _Letter(msgspec.Struct):
    """A delivery as it is kept."""

    id: int
    letter: Letter
    tenant: str
    born_at: datetime
    state: str = "waiting"
    attempt: int = 0
    not_before: datetime | None = None
    lease_until: datetime | None = None
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    looks: int = 0
    is_unknown: bool = False
    #: While sending: somebody whose lease was over sent it too.
    recheck: bool = False
    receipt: Receipt | None = None
    reason: str = ""
    error: str = ""
    #: Counts up when a state letter is replaced while it is under way: the newest is sent after.
    revision: int = 0
    sent_revision: int = -1
    #: How often news was told by now.
    count: int = 1

    @property
    def lane(self) -> Lane:
        return self.letter.sink, self.letter.lane

    @property
    def is_state(self) -> bool:
        return self.letter.mode is Mode.STATE

    @property
    def is_untold(self) -> bool:
        """News that nobody saw."""
        return not self.is_state and self.receipt is None and not self.is_unknown


class Letters:
    """Letters, lanes and buckets of one process."""

    def __init__(self, knows: Knows, clock: Callable[[], datetime], lease: timedelta, jitter: Callable[[], float]) -> None:
        self._knows = knows
        self._clock = clock
        self._lease = lease
        self._jitter = jitter
        self._letters: dict[int, _Letter] = {}
        self._ids: dict[tuple[str, str], int] = {}
        #: Letters of state by the task that they name.
        self._states: dict[UUID, dict[int, None]] = {}
        #: Letters that wait or are under way.
        self._open: dict[Lane, dict[int, _Letter]] = {}
        self._sending: dict[int, _Letter] = {}
        self._waiting = Waiting()
        self._receipts: dict[Lane, Receipt] = {}
        self._buckets: dict[str, Bucket] = {}
        self._budgets: dict[str, Budget] = {}
        self._numbers = itertools.count(1)
        #: News of nothing, as yet; and what of it was met since the last claim began and may have somewhere to go.
        self._strays: list[_Letter] = []
        self._aside: dict[int, None] = {}
        #: Since this was asked last: states that were put to wait, and lanes whose state gave way to a newer one before it was sent.
        self._fresh: set[int] = set()
        self._coalesced: set[Lane] = set()

    # --- putting ------------------------------------------------------------------------------------------------------

    def post(self, letter: Letter, *, is_new: bool) -> None:
        """Put a letter into its lane; news that was told before is nothing new, a state replaces the one that waits.

        `is_new`: its checkpoint was not recorded before.
        """
        now = self._clock()
        known = self._ids.get((letter.sink, letter.key))
        if known is None and letter.is_quiet:
            return
        if known is None:
            about = self._knows.task(letter.task_uid) or self._order(letter)
            row = _Letter(next(self._numbers), letter, about.tenant if about is not None else "default", now)
            self._ids[letter.sink, letter.key] = row.id
            self._letters[row.id] = row
            if row.is_state:
                self._states.setdefault(letter.task_uid, {})[row.id] = None
            self._fresh.add(row.id)
            self._set(row, "waiting")
            return
        row = self._letters[known]
        if letter.mode is Mode.NEWS:
            self._again(row, letter, is_new)
            return
        if RANK[letter.urgency] > RANK[row.letter.urgency] and row.state == "waiting":
            letter = msgspec.structs.replace(letter, urgency=row.letter.urgency)
        self._name(row, letter.task_uid)
        row.letter = letter
        row.revision += 1
        if row.state in ("delivered", "dead"):
            row.attempt, row.born_at, row.not_before, row.reason, row.error = 0, now, None, "", ""
            self._fresh.add(row.id)
            self._set(row, "waiting")
        else:
            if row.id not in self._fresh:
                self._coalesced.add(row.lane)
            self._place(row.lane)

    # --- messages that change hands: as `handovers` ---------------------------------------------------------------------

    def inherit(self, uid: UUID, heir: UUID) -> None:
        """Have the messages of a task that is no more be its heir's."""
        for number in list(self._states.get(uid, ())):
            self._name(self._letters[number], heir)

    def _name(self, row: _Letter, uid: UUID) -> None:
        known = self._states.get(row.letter.task_uid, {})
        known.pop(row.id, None)
        if not known:
            self._states.pop(row.letter.task_uid, None)
        row.letter = msgspec.structs.replace(row.letter, task_uid=uid)
        self._states.setdefault(uid, {})[row.id] = None

    def wake(self, woken: Iterable[UUID]) -> None:
        """Look at the messages of tasks anew, and take news that was never sent out of those that ended."""
        uids = set(woken)
        rows = [self._letters[number] for uid in uids for number in self._states.get(uid, ())]
        for row in sorted(rows, key=lambda row: row.lane):
            if self._carrier(row.letter)[0] is None:
                for news in list(self._open.get(row.lane, {}).values()):
                    if news.is_untold and news.state == "waiting":
                        self._lead_on(news)
            self.post(msgspec.structs.replace(row.letter, urgency=Urgency.NORMAL), is_new=False)
        for number in list(self._aside) if uids else ():
            news = self._letters[number]
            if (task := self._knows.task(news.letter.task_uid)) is not None and task.uid in uids:
                self._lead_on(news)

    def _lead_on(self, row: _Letter) -> None:
        """Send news where the news of its task goes now; where that is nowhere it stays."""
        letter, task = row.letter, self._knows.task(row.letter.task_uid)
        checkpoint = self._knows.checkpoint(letter.checkpoint_id) if letter.checkpoint_id is not None else None
        root = self._root(task)
        if task is None or root is None or checkpoint is None or not root.is_announced:
            return
        self._set(row, "delivered")  # for a moment, so that its lane knows
        self._forget(row)
        for found in anew(checkpoint, letter.sink, task, root, self._knows.rules.routes):
            if found.mode is Mode.NEWS:
                self.post(found, is_new=False)
                self._letters[self._ids[found.sink, found.key]].count += row.count - 1
            elif not self._is_begun(found):
                self.post(found, is_new=False)

    def _is_begun(self, state: Letter) -> bool:
        """Tell whether a message stands, or is about to."""
        known = self._letters.get(self._ids.get((state.sink, state.key), 0))
        return (state.sink, state.lane) in self._receipts or (known is not None and known.state in ("waiting", "sending"))

    def _is_stray(self, row: _Letter) -> bool:
        """Tell whether news waits where nothing was ever shown, and where nothing will be: its task's message is another, or none yet."""
        return row.is_untold and row.lane not in self._receipts and self._carrier(row.letter)[0] is None

    def _set_aside(self, row: _Letter, error: str) -> None:
        """Give up news of nothing, until there is something that it tells of."""
        row.reason, row.error = "gone", error
        self._set(row, "dead")

    def _root(self, task: Task | None) -> Task | None:
        return (self._knows.task(task.root_uid) or task) if task is not None and task.root_uid is not None else task

    def _carrier(self, letter: Letter) -> tuple[Task | None, Task | None]:
        """Return the task whose message stands in a letter's lane, None where that ended; and the root where it goes on."""
        root = self._root(self._knows.task(letter.task_uid))
        if root is None or not carries(letter.lane, letter.sink, letter.address, root, self._knows.rules.routes):
            return None, root
        return root, root

    def take_coalesced(self) -> dict[str, int]:
        """Return how many states gave way to newer ones since this was asked last, by sink."""
        taken = dict(Counter(sink for sink, _ in self._coalesced))
        self._coalesced.clear()
        self._fresh.clear()
        return taken

    def fleet(self) -> list[fleet.Letters]:
        """Return what waits and what was given up, by sink."""
        now = self._clock()
        found: dict[str, list[_Letter]] = {}
        for row in self._letters.values():
            if row.state != "delivered":
                found.setdefault(row.letter.sink, []).append(row)
        out = []
        for sink, rows in found.items():
            waits = [max((now - row.born_at).total_seconds(), 0.0) for row in rows if row.state != "dead"]
            out.append(fleet.Letters(sink=sink, waiting=len(waits), oldest=max(waits, default=0.0), dead=len(rows) - len(waits)))
        return out

    def _again(self, row: _Letter, letter: Letter, is_new: bool) -> None:
        """Show news anew that was put before, where it is of the sort."""
        if row.state == "dead" and row.reason == "gone":  # it was taken back, and is told after all
            row.letter, row.attempt, row.born_at, row.not_before, row.reason, row.error = letter, 0, self._clock(), None, "", ""
            self._set(row, "waiting")
            return
        if letter.again is Again.NEVER:
            return
        if letter.again is not Again.CHANGED and not self._is_newer(letter, row.letter):
            if letter.again is not Again.COUNTED or not is_new or letter.checkpoint_id == row.letter.checkpoint_id:
                return
            # It came late: it counts, and the newer one is shown.
            letter = msgspec.structs.replace(letter, task_uid=row.letter.task_uid, checkpoint_id=row.letter.checkpoint_id)
        if letter.again is Again.COUNTED:
            row.count += 1
        if row.state in ("delivered", "dead"):
            # What stands there already told the worst of it.
            urgency = Urgency.NORMAL if letter.again is Again.COUNTED else letter.urgency
            if letter.again is Again.NEWEST:
                row.receipt = None
            # It is told again where it stands, though its task's message is another by now.
            row.letter = msgspec.structs.replace(letter, urgency=urgency, lane=row.letter.lane, address=row.letter.address)
            row.revision += 1
            row.attempt, row.born_at, row.not_before, row.reason, row.error = 0, self._clock(), None, "", ""
            self._set(row, "waiting")
            return
        row.letter = msgspec.structs.replace(letter, urgency=row.letter.urgency, lane=row.letter.lane, address=row.letter.address)
        row.revision += 1
        self._place(row.lane)

    def _is_newer(self, letter: Letter, known: Letter) -> bool:
        if letter.checkpoint_id is None or known.checkpoint_id is None:
            return False
        new, old = self._knows.checkpoint(letter.checkpoint_id), self._knows.checkpoint(known.checkpoint_id)
        return new is not None and (old is None or (new.at, new.id) > (old.at, old.id))

    def withdraw(self, retracted: Collection[UUID]) -> None:
        """Take back news that was not sent yet."""
        taken = set(retracted)
        for row in [row for rows in self._open.values() for row in rows.values()] if taken else ():
            if row.letter.checkpoint_id in taken and row.state == "waiting" and row.receipt is None and not row.is_unknown:
                self._set(row, "dead")
                self._forget(row)

    def forget(self, tasks: Collection[UUID]) -> None:
        """Let go of what was delivered or given up of these tasks."""
        for row in list(self._letters.values()):
            if row.letter.task_uid in tasks and row.state in ("delivered", "dead"):
                self._forget(row)
                self._receipts.pop(row.lane, None)
                self._place(row.lane)

    def tidy(self, sink: str, lane: str, kept: int) -> None:
        """Let go of what was delivered or given up in a lane, the newest letters excepted."""
        rows = [row for row in self._letters.values() if row.lane == (sink, lane)]
        for row in rows[:-kept]:
            if row.state in ("delivered", "dead"):
                self._forget(row)

    def _forget(self, row: _Letter) -> None:
        del self._letters[row.id]
        self._aside.pop(row.id, None)
        self._ids.pop((row.letter.sink, row.letter.key), None)
        if row.is_state and (known := self._states.get(row.letter.task_uid)) is not None:
            known.pop(row.id, None)
            if not known:
                del self._states[row.letter.task_uid]

    def _set(self, row: _Letter, state: str) -> None:
        row.state = state
        if state in ("waiting", "sending"):
            self._open.setdefault(row.lane, {})[row.id] = row
        elif row.lane in self._open:
            self._open[row.lane].pop(row.id, None)
            if not self._open[row.lane]:
                del self._open[row.lane]
        if state == "dead" and row.reason == "gone" and row.is_untold:
            self._aside[row.id] = None
        else:
            self._aside.pop(row.id, None)
        if state == "sending":
            self._sending[row.id] = row
        else:
            self._sending.pop(row.id, None)
        self._place(row.lane)

    # --- claiming -----------------------------------------------------------------------------------------------------

    def claim(self, sinks: Sequence[str], limit: int, budgets: Budgets) -> list[Delivery]:
        """Lease the first letter of each lane that is due and has its calls, most urgent lanes first."""
        out = self._claimed(sinks, limit, budgets)
        strays, self._strays = self._strays, []
        for row in strays:
            self._lead_on(row)
        if strays and not out:
            out = self._claimed(sinks, limit, budgets)
        return out

    def _claimed(self, sinks: Sequence[str], limit: int, budgets: Budgets) -> list[Delivery]:
        now = self._clock()
        self._take_over(now)
        able: list[tuple[Sort, Head, tuple[Budget, ...]]] = []
        for sort, first in self._waiting.firsts():
            if sort[0] in sinks and first[0] <= now:
                limits = budgets(*sort[:3])
                self._budgets.update((b.key, b) for b in limits)
                able.append((sort, first, limits))
        able = [(s, f, b) for s, f, b in able if paces.all_left(self._buckets, b, now, is_urgent=is_urgent(s)) > 0]
        able = [able[i] for i in paces.in_turn([(first[0], limits) for _, first, limits in able], self._buckets)]
        best = [(sort[3], first[0], first[1], i) for i, (sort, first, _) in enumerate(able)]
        heapq.heapify(best)
        out: list[Delivery] = []
        while best and len(out) < limit:
            rank, _, number, i = heapq.heappop(best)
            sort, _, limits = able[i]
            drawn = paces.draw(self._buckets, limits, now, is_urgent=is_urgent(sort), lease=self._lease)
            if drawn is None:
                continue  # nor may the others of its sort
            delivery = self._lend(self._letters[number], sort[2], tuple(b.key for b in limits), now)
            if delivery is not None:
                self._buckets.update(drawn)
                out.append(delivery)
            following = self._waiting.first(sort)
            if following is not None and following[0] <= now:
                heapq.heappush(best, (rank, following[0], following[1], i))
        return out

    def _take_over(self, now: datetime) -> None:
        for row in list(self._sending.values()):
            if row.lease_until is not None and row.lease_until <= now:
                row.is_unknown, row.recheck = True, False
                self._set(row, "waiting")

    def _place(self, lane: Lane) -> None:
        """Bring up to date what waits first in a lane."""
        head, rank = self._head(lane)
        if head is None:
            self._waiting.drop(lane)
        else:
            sort = (lane[0], head.letter.address, self._call(head), rank)
            self._waiting.put(lane, sort, head.not_before or head.born_at, head.id)

    def _head(self, lane: Lane) -> tuple[_Letter | None, int]:
        """Return the letter of a lane that goes first and the rank of the most urgent; None while one is under way, or without any."""
        rows = self._open.get(lane, {}).values()
        if not rows or any(row.state == "sending" for row in rows):
            return None, 3
        has_receipt = lane in self._receipts
        head = min(
            rows,
            key=lambda row: (
                (3 if has_receipt else 0) if row.is_state else 2 if row.letter.key.endswith(ON_THE_WAY) else 1,
                row.id,
            ),
        )
        return head, min(RANK[row.letter.urgency] for row in rows)

    def _call(self, row: _Letter) -> Call:
        has_receipt = row.receipt is not None and bool(row.receipt.ref)
        return paces.call_of(row.letter.mode, row.is_unknown, row.lane in self._receipts, has_receipt)

    def _lend(self, row: _Letter, call: Call, drawn: tuple[str, ...], now: datetime) -> Delivery | None:
        letter = row.letter
        task, root = self._carrier(letter) if row.is_state else (self._knows.task(letter.task_uid), None)
        has_moved = row.is_state and task is None
        if has_moved:
            if row.lane not in self._receipts and not row.is_unknown:
                self._set(row, "delivered")  # nothing was ever shown, and what would be shown goes on in another message
                return None
            task = root or Task(uid=letter.task_uid, tenant=row.tenant, task_id="")
        checkpoint = self._knows.checkpoint(letter.checkpoint_id) if letter.checkpoint_id is not None else None
        order = self._order(letter) if checkpoint is None else None
        if order is not None:
            task = task or blank_task(order)
        if task is None or (letter.mode is Mode.NEWS and checkpoint is None and order is None):
            self._set_aside(row, "what it told of is no more")
            return None
        if checkpoint is not None and self._is_stray(row):
            self._set_aside(row, "the task that it tells of has no message yet")
            self._strays.append(row)
            return None
        sent_before = row.sent_at
        row.lease_until, row.claimed_at = now + self._lease, now
        row.sent_revision = row.revision
        if call is not Call.LOOK:
            row.attempt, row.sent_at, row.looks = row.attempt + 1, now, 0
        self._set(row, "sending")
        delivery = Delivery(
            id=row.id,
            tenant=row.tenant,
            sink=letter.sink,
            address=letter.address,
            lane=letter.lane,
            mode=letter.mode,
            key=letter.key,
            urgency=letter.urgency,
            task=self._knows.shown(task),
            children=self._knows.below(task),
            checkpoint=checkpoint,
            order=order,
            alert=self._knows.alert(about) if (about := alert_of(task, checkpoint)) is not None else None,
            attempt=row.attempt,
            born_at=row.born_at,
            not_before=row.not_before,
            lane_receipt=self._receipts.get(row.lane),
            receipt=row.receipt,
            is_unknown=row.is_unknown,
            count=row.count,
            claimed_at=now,
            sent_at=sent_before,
            looks=row.looks,
            drawn=drawn,
        )
        if not has_moved:
            return delivery
        lanes = lanes_of(letter.sink, root, self._knows.rules.routes) if root is not None else ()
        elsewhere = next((self._receipts[letter.sink, x] for x in lanes if (letter.sink, x) in self._receipts), None)
        return last(delivery, self._knows.shown(root) if root is not None else None, elsewhere)

    def _order(self, letter: Letter) -> Order | None:
        return self._knows.order_of(letter.checkpoint_id) if letter.checkpoint_id is not None else None

    def due_in(self, sinks: Sequence[str] | None, budgets: Budgets) -> float | None:
        """Seconds until a letter may be claimed; None when nothing waits."""
        now = self._clock()
        waits = [row.lease_until for row in self._sending.values() if row.lease_until and (sinks is None or row.lane[0] in sinks)]
        for sort, first in self._waiting.firsts():
            if sinks is None or sort[0] in sinks:
                opens = paces.all_open_at(self._buckets, budgets(*sort[:3]), now, is_urgent=is_urgent(sort))
                waits.append(max(first[0], opens))
        return max(0.0, (min(waits) - now).total_seconds()) if waits else None

    # --- settling -----------------------------------------------------------------------------------------------------

    def settle(self, delivery: Delivery, outcome: Outcome) -> list[Closed]:
        """Say what became of a claimed letter. A lease that another took over settles nothing of it."""
        row = self._letters.get(delivery.id)
        is_same = row is not None and (row.claimed_at, row.attempt) == (delivery.claimed_at, delivery.attempt)
        is_held = row is not None and is_same and row.state == "sending"
        if row is not None and is_held:
            self._write(row, delivery, outcome)
        elif row is not None and row.claimed_at != delivery.claimed_at and has_sent(delivery, outcome):
            if row.state == "sending":
                row.recheck = True
            else:
                row.is_unknown, row.not_before = True, None
                self._set(row, "waiting")
        if (is_same and not is_held) or (paces.is_uncalled(outcome) and not is_held):
            return []
        now = self._clock()
        concerned: dict[str, Bucket] = {}
        said = outcome if isinstance(outcome, (RetryAt, GiveUp)) else None
        for key in paces.concerned(delivery.drawn, outcome):
            budget = self._budgets.get(key) or Budget(key=key)
            bucket = self._buckets.get(key)
            if bucket is None and said is not None and (key in said.closes or (said.is_failure and budget.is_breaker)):
                bucket = paces.full(budget, now)
            if bucket is not None:
                concerned[key] = bucket
        changed, closed = paces.settled(
            concerned,
            self._budgets,
            outcome,
            now,
            claimed_at=delivery.claimed_at,
            wait=wait_of(outcome, now),
            jitter=self._jitter(),
        )
        self._buckets.update(changed)
        if row is not None and is_held and paces.is_held((concerned | changed).values(), outcome):
            # Due now, that is after all that wait already: what it failed by is open, and lets one call through at a time.
            row.not_before = now
            self._place(row.lane)
        return closed

    def _write(self, row: _Letter, delivery: Delivery, outcome: Outcome) -> None:
        row.lease_until = None
        is_rechecked, row.recheck = row.recheck, False
        was_unknown, row.is_unknown = row.is_unknown, is_rechecked
        state = "waiting"
        match outcome:
            case Receipt():
                if outcome.ref or not outcome.skipped:
                    self._keep(row, outcome)
                row.reason, row.error, row.not_before = "", "", None
                if row.revision > row.sent_revision:
                    row.attempt, row.born_at = 0, self._clock()
                elif is_rechecked:
                    row.attempt = 0
                else:
                    state = "delivered"
            case Found():
                self._keep(row, outcome.receipt)
                row.reason, row.error, row.not_before = "", "", None
                # What a look found of what is edited may be old text: the newest is sent after it.
                if row.is_state or is_rechecked or delivery.receipt is not None or row.revision > row.sent_revision:
                    row.attempt = 0
                else:
                    state = "delivered"
            case Absent():
                row.not_before = None
                # News that has a receipt was delivered, whatever a look cannot see.
                if not row.is_state and row.receipt is not None and not is_rechecked:
                    state = "delivered"
            case RetryAt():
                row.not_before, row.reason, row.error = outcome.at, outcome.reason, outcome.error or outcome.reason
                row.is_unknown = was_unknown or outcome.reconcile or is_rechecked
                row.looks += outcome.has_looked
                if outcome.is_unsent:
                    row.attempt, row.sent_at = max(row.attempt - (not delivery.is_unknown), 0), delivery.sent_at
            case GiveUp():
                row.not_before, row.reason, row.error = None, outcome.reason, outcome.error or outcome.reason
                row.is_unknown = was_unknown or outcome.reconcile or is_rechecked
                if not is_rechecked:
                    state = "dead"
        self._set(row, state)

    def _keep(self, row: _Letter, receipt: Receipt) -> None:
        row.receipt = receipt
        if row.is_state:
            self._receipts[row.lane] = receipt

    # --- looking ------------------------------------------------------------------------------------------------------

    def listed(self, state: str | None, sink: str | None, limit: int) -> list[DeliveryRow]:
        """List letters, oldest first."""
        rows = []
        for row in self._letters.values():
            if (state is not None and row.state != state) or (sink is not None and row.letter.sink != sink):
                continue
            task = self._knows.task(row.letter.task_uid)
            checkpoint = self._knows.checkpoint(row.letter.checkpoint_id) if row.letter.checkpoint_id is not None else None
            rows.append(
                DeliveryRow(
                    id=row.id,
                    sink=row.letter.sink,
                    address=row.letter.address,
                    lane=row.letter.lane,
                    mode=row.letter.mode,
                    state=row.state,
                    task_id=task.task_id if task is not None else "",
                    kind=checkpoint.kind if checkpoint is not None else "state" if row.is_state else "order",
                    attempt=row.attempt,
                    born_at=row.born_at,
                    not_before=row.not_before,
                    reason=row.reason,
                    error=row.error,
                )
            )
            if len(rows) >= limit:
                break
        return rows

    def shown_in(self, sink: str, ref: Mapping[str, Any]) -> UUID | None:
        """Return the task of a message, by a part of its receipt's `ref`; that of a lane's state before that of news."""
        found = [r for r in self._letters.values() if r.lane[0] == sink and r.receipt is not None and _holds(r.receipt, ref)]
        best = max(found, key=lambda row: (row.is_state, row.id), default=None)
        return best.letter.task_uid if best is not None else None

    def refs(self, sink: str, uids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
        """Return where a sink shows the state of these tasks; of several places the newest."""
        rows = [row for row in self._letters.values() if row.lane[0] == sink and row.is_state and row.letter.task_uid in uids]
        rows.sort(key=lambda row: row.id)
        return {row.letter.task_uid: dict(row.receipt.ref) for row in rows if row.receipt is not None}

    def of(self, order: Order) -> OrderRow:
        """Return an order with what became of its letter."""
        row = self._letters.get(self._ids.get((order.carrier, str(order.id)), 0))
        if row is None:
            return OrderRow(order=order)
        ref = row.receipt.ref if row.receipt is not None else {}
        return OrderRow(order=order, state=row.state, reason=row.reason, error=row.error, ref=ref)

    def revive(self, ids: Sequence[int] | None, sink: str | None) -> int:
        """Set dead letters waiting again."""
        chosen = [
            row
            for row in self._letters.values()
            if row.state == "dead" and (ids is None or row.id in ids) and (sink is None or row.letter.sink == sink)
        ]
        for row in chosen:
            row.attempt, row.not_before, row.born_at = 0, None, self._clock()
            # What nobody could look up is sent without another look: that is what the person decided.
            row.is_unknown = row.is_unknown and row.reason != "unverifiable"
            self._set(row, "waiting")
        return len(chosen)

    def bury(self, ids: Sequence[int]) -> int:
        """Give up waiting letters by hand."""
        chosen = [row for number in ids if (row := self._letters.get(number)) is not None and row.state == "waiting"]
        for row in chosen:
            row.reason, row.error = "buried", "buried by hand"
            self._set(row, "dead")
        return len(chosen)

    def states(self) -> dict[str, int]:
        """Count letters by state."""
        return dict(Counter(row.state for row in self._letters.values()))

    def budgets(self, *, is_closed: bool) -> list[BudgetRow]:
        """List budgets, those that are closed for longest first."""
        now = self._clock()
        found = [(b, self._budgets.get(b.key) or Budget(key=b.key)) for b in self._buckets.values()]
        rows = [row_of(bucket, budget, now) for bucket, budget in found]
        rows.sort(key=lambda row: (row.state == "open", -(row.until or now).timestamp(), row.key))
        return [row for row in rows if not is_closed or row.state != "open"]

    def reopen(self, keys: Iterable[str]) -> int:
        """Open closed budgets by hand."""
        closed = {row.key for row in self.budgets(is_closed=True)} & set(keys)
        self._buckets.update({key: paces.reopened(self._buckets[key]) for key in closed})
        return len(closed)


def _holds(receipt: Receipt, ref: Mapping[str, Any]) -> bool:
    return all(receipt.ref.get(name) == value for name, value in ref.items())
