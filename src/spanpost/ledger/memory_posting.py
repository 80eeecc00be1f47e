"""Letters are put, change hands and are taken back, in memory: the same rules as `outbox` and `handovers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from uuid import UUID

import msgspec

from spanpost.domain.deliveries import Mode, Urgency
from spanpost.fold.carrying import anew
from spanpost.fold.letters import Again, Letter
from spanpost.ledger.memory_lanes import RANK
from spanpost.ledger.memory_shelf import Kept, Shelf


class Posting(Shelf):
    """What recording does with letters."""

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
            row = Kept(next(self._numbers), letter, about.tenant if about is not None else "default", now)
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
            row.renew(now)
            self._fresh.add(row.id)
            self._set(row, "waiting")
        else:
            if row.id not in self._fresh:
                self._coalesced.add(row.lane)
            self._place(row.lane)

    def _again(self, row: Kept, letter: Letter, is_new: bool) -> None:
        """Show news anew that was put before, where it is of the sort."""
        if row.state == "dead" and row.reason == "gone":  # it was taken back, and is told after all
            row.letter = letter
            row.renew(self._clock())
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
            row.renew(self._clock())
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

    def inherit(self, uid: UUID, heir: UUID) -> None:
        """Have the messages of a task that is no more be its heir's."""
        for number in list(self._states.get(uid, ())):
            self._name(self._letters[number], heir)

    def _name(self, row: Kept, uid: UUID) -> None:
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

    def _lead_on(self, row: Kept) -> None:
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

    def take_coalesced(self) -> dict[str, int]:
        """Return how many states gave way to newer ones since this was asked last, by sink."""
        taken = dict(Counter(sink for sink, _ in self._coalesced))
        self._coalesced.clear()
        self._fresh.clear()
        return taken
