"""The letters of the memory ledger as they lie there: by lane, by what waits first, by the task that they name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec

from spanpost.domain.alerts import Alert
from spanpost.domain.checkpoints import Checkpoint
from spanpost.domain.deliveries import Budget, Call, Mode, Receipt
from spanpost.domain.orders import Order
from spanpost.domain.tasks import Task
from spanpost.fold import paces
from spanpost.fold.batch import Rules
from spanpost.fold.carrying import carries
from spanpost.fold.letters import ON_THE_WAY, Letter
from spanpost.fold.paces import Bucket
from spanpost.ledger.memory_lanes import RANK, Lane, Waiting


class Knows(Protocol):
    """**Protocol:** what letters ask of the ledger that keeps their tasks."""

    rules: Rules

    def task(self, uid: UUID) -> Task | None: ...

    def checkpoint(self, id: UUID) -> Checkpoint | None: ...

    def order_of(self, id: UUID) -> Order | None: ...

    def alert(self, id: UUID) -> Alert | None: ...

    def below(self, root: Task) -> tuple[Task, ...]: ...

    def shown(self, task: Task) -> Task: ...


class Kept(msgspec.Struct):
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

    def renew(self, now: datetime) -> None:
        """Have it be as one that was never tried."""
        self.attempt, self.born_at, self.not_before, self.reason, self.error = 0, now, None, "", ""


class Shelf:
    """Letters, lanes and buckets of one process, and what every room of them asks."""

    def __init__(self, knows: Knows, clock: Callable[[], datetime], lease: timedelta, jitter: Callable[[], float]) -> None:
        self._knows = knows
        self._clock = clock
        self._lease = lease
        self._jitter = jitter
        self._letters: dict[int, Kept] = {}
        self._ids: dict[tuple[str, str], int] = {}
        #: Letters of state by the task that they name.
        self._states: dict[UUID, dict[int, None]] = {}
        #: Letters that wait or are under way.
        self._open: dict[Lane, dict[int, Kept]] = {}
        self._sending: dict[int, Kept] = {}
        self._waiting = Waiting()
        self._receipts: dict[Lane, Receipt] = {}
        self._buckets: dict[str, Bucket] = {}
        self._budgets: dict[str, Budget] = {}
        self._numbers = itertools.count(1)
        #: News of nothing, as yet; and what of it was met since the last claim began and may have somewhere to go.
        self._strays: list[Kept] = []
        self._aside: dict[int, None] = {}
        #: Since this was asked last: states that were put to wait, and lanes whose state gave way to a newer one before it was sent.
        self._fresh: set[int] = set()
        self._coalesced: set[Lane] = set()

    def _forget(self, row: Kept) -> None:
        del self._letters[row.id]
        self._aside.pop(row.id, None)
        self._ids.pop((row.letter.sink, row.letter.key), None)
        if row.is_state and (known := self._states.get(row.letter.task_uid)) is not None:
            known.pop(row.id, None)
            if not known:
                del self._states[row.letter.task_uid]

    def _set(self, row: Kept, state: str) -> None:
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

    def _place(self, lane: Lane) -> None:
        """Bring up to date what waits first in a lane."""
        head, rank = self._head(lane)
        if head is None:
            self._waiting.drop(lane)
        else:
            sort = (lane[0], head.letter.address, self._call(head), rank)
            self._waiting.put(lane, sort, head.not_before or head.born_at, head.id)

    def _head(self, lane: Lane) -> tuple[Kept | None, int]:
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

    def _call(self, row: Kept) -> Call:
        has_receipt = row.receipt is not None and bool(row.receipt.ref)
        return paces.call_of(row.letter.mode, row.is_unknown, row.lane in self._receipts, has_receipt)

    def _order(self, letter: Letter) -> Order | None:
        return self._knows.order_of(letter.checkpoint_id) if letter.checkpoint_id is not None else None

    def _root(self, task: Task | None) -> Task | None:
        return (self._knows.task(task.root_uid) or task) if task is not None and task.root_uid is not None else task

    def _carrier(self, letter: Letter) -> tuple[Task | None, Task | None]:
        """Return the task whose message stands in a letter's lane, None where that ended; and the root where it goes on."""
        root = self._root(self._knows.task(letter.task_uid))
        if root is None or not carries(letter.lane, letter.sink, letter.address, root, self._knows.rules.routes):
            return None, root
        return root, root
