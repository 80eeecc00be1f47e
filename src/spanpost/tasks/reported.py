"""What was reported of a task before: the value that the close of a batch compares with what is known now.

Every value here is frozen: a step of the close returns the next one, and `Fold.close` stores the last.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from spanpost.model.checkpoints import Checkpoint
from spanpost.tasks.amounts import ZERO, Amounts, Models, minus, models_minus, models_plus, plus
from spanpost.tasks.budget_draws import Draw
from spanpost.tasks.work import Key

#: In place of a root's uid: nothing of the task is shown any more.
NOWHERE = b"-"
#: Checkpoints held for a task that is not announced yet; the newest are kept.
HELD_CAP = 50


class ReportedRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The start and the end of a run as last reported, so that only changes are reported."""

    start: str = ""
    end: str = ""
    #: Its end was counted. Counters cannot go back, so a run that resumes after all does not end twice.
    is_counted: bool = False

    @property
    def is_reported(self) -> bool:
        return bool(self.start or self.end)


class CountedUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The figures of a task that counters have."""

    whole: Amounts = ZERO
    #: The same by model.
    models: Models = {}
    #: The highest figures that counters were given. Counters cannot go back: an excess is not added again.
    most: Amounts = ZERO

    def plus(self, other: CountedUse) -> CountedUse:
        """Return the sum."""
        return CountedUse(
            plus(self.whole, other.whole), models_plus(self.models, other.models), plus(self.most, other.most)
        )

    def minus(self, other: CountedUse) -> CountedUse:
        """Return the difference."""
        return CountedUse(
            minus(self.whole, other.whole), models_minus(self.models, other.models), minus(self.most, other.most)
        )


NOTHING_COUNTED = CountedUse()


class Held(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A milestone held for one message (store clock, seconds), and the time of the last one reported."""

    reported_at: float = 0.0
    checkpoint: Checkpoint | None = None
    #: The task of the milestone.
    of: Key = b""
    due_at: float = 0.0


class UnaskedQuestion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A question that is open, and when people are asked (store clock)."""

    checkpoint: Checkpoint
    #: The task of the question.
    of: Key
    due_at: float

    def is_of(self, id: str) -> bool:
        """Tell whether it is the question with this id."""
        return self.checkpoint.ref == id


class Reached(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last milestone that a task reached: its run, its fifth, its step."""

    root: Key = b""
    band: int = 0
    step: str = ""


class Reported(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was reported of a task."""

    is_announced: bool = False
    #: A timer runs; when it ends the task is announced after all.
    is_settling: bool = False
    #: Uid of the message in use: the task's own, or that of a task whose message it took over
    #: (`succession`).
    message_uid: bytes = b""
    #: A message shows or showed it: its own, or that of a task merged into it.
    has_message: bool = False
    #: Uid of the root under which it was last shown; `NOWHERE` while nothing of it is shown.
    shown_below: bytes = b""
    #: The status last shown.
    status: str = ""
    #: Where routes last sent its messages.
    places: tuple[str, ...] = ()
    #: Checkpoints held until the task is announced.
    held: tuple[Checkpoint, ...] = ()
    #: Of a root task: milestones held for its messages, by ordering key.
    held_back: dict[str, Held] = {}
    #: Of a root task: open questions that people are not asked yet.
    unasked: tuple[UnaskedQuestion, ...] = ()
    #: Ids of closed questions that need no further delivery: people were not asked, or their message shows how
    #: they were settled.
    closed_questions: tuple[str, ...] = ()
    reached: Reached | None = None
    runs: dict[Key, ReportedRun] = {}
    counted: CountedUse = NOTHING_COUNTED
    #: What it drew from budgets, by budget.
    drawn: dict[str, Draw] = {}
    #: A timer runs for figures that are not counted yet.
    is_counting: bool = False
    has_started: bool = False
    is_over: bool = False
    #: Its parent task knows that it failed.
    is_failed: bool = False
    #: Its newest event when its stall timer was set, and when it was found stalled.
    watched_ns: int = 0
    quiet_ns: int = 0

    @property
    def waits(self) -> list[Checkpoint]:
        """Its checkpoints that are held for any reason."""
        milestones = [held.checkpoint for held in self.held_back.values() if held.checkpoint is not None]
        return [*self.held, *milestones, *(one.checkpoint for one in self.unasked)]

    def holding(self, checkpoint: Checkpoint) -> Reported:
        """Return the value that also holds a new checkpoint."""
        return msgspec.structs.replace(self, held=(*self.held, checkpoint)[-HELD_CAP:])

    def taking(self, checkpoints: Iterable[Checkpoint]) -> Reported:
        """Return the value that also holds checkpoints of another task."""
        known = {c.id for c in self.held}
        more = [*self.held, *(c for c in checkpoints if c.id not in known)]
        return msgspec.structs.replace(self, held=tuple(sorted(more, key=lambda c: (c.at, c.id))[-HELD_CAP:]))

    def holding_nothing(self) -> Reported:
        """Return the value without held checkpoints."""
        return msgspec.structs.replace(self, held=(), held_back={}, unasked=())


NOT_REPORTED = Reported()
