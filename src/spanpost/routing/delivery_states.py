"""The states of a delivery in the outbox.

Pure: the store passes the row, the outcome and its own clock, and writes the result.

1. A delivery changes by the events of `delivery_transitions` and by nothing else. A function below stands for
   each event.
2. One delivery of an ordering key is under way at a time. `claiming.place` says which one goes first.
3. A worker that sends may crash. Then the delivery may have arrived: it is *unsure*, and the next call looks
   it up.
4. Each delivery goes out once. A newer revision goes out after the one that is under way, whatever its
   outcome.
5. A dead delivery stays dead, until a person retries it, a newer delivery replaces it, or a late worker
   reports that it was sent.

A row that is delivered or dead waits again when something newer is put. PostgreSQL and the memory store call
these functions for every change.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from spanpost.model.deliveries import Delivery, Mode, Receipt, SinkCall, Urgency
from spanpost.model.outcomes import Arrived, GiveUp, NotArrived, Outcome, RetryAt
from spanpost.routing.delivery_transitions import TARGETS, DeliveryEvent, DeliveryState
from spanpost.routing.planned import ON_THE_WAY, Again, PlannedDelivery
from spanpost.text.repair import mend_text

#: Characters of a reason or an error that are kept.
LONGEST: Final = 4000
#: Order of urgency, 0 first.
RANK: Final = {urgency: rank for rank, urgency in enumerate(Urgency)}
#: Ranks below this may use the reserve of a rate limit. That a task began is among them: within the reserve a question
#: goes first, and behind it waits for one more call at most.
URGENT: Final = RANK[Urgency.NORMAL]
#: Urgency of the state of an ended task, and of one with a failure. A state of which something more urgent waits, such
#: as a question, has that urgency.
OVER: Final = (Urgency.END, Urgency.ERROR)
#: Rank of an ordering key of which nothing waits.
LEAST: Final = max(RANK.values())
#: Reason of a delivery whose subject does not exist, or has no message yet: it waits again when it is put
#: again.
GONE: Final = "gone"
#: Errors of these two cases.
NO_SUBJECT: Final = "its task, checkpoint or order no longer exists"
NO_MESSAGE: Final = "its task has no message yet"
#: Reason of a delivery that was given up because no look-up could tell whether it arrived.
UNVERIFIABLE: Final = "unverifiable"

_WAITING, _SENDING, _DELIVERED, _DEAD = DeliveryState
_CLOSED: Final = (_DELIVERED, _DEAD)


class OutboxEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery as the outbox keeps it. Times are of the store's clock."""

    #: Number of the row; 0 before it is stored.
    id: int = 0
    tenant: str = ""
    sink: str
    address: str = ""
    #: Ordering key.
    ordering_key: str
    mode: Mode
    key: str
    urgency: Urgency = Urgency.NORMAL
    task_uid: UUID
    checkpoint_id: UUID | None = None
    state: DeliveryState = DeliveryState.WAITING
    #: Attempts to send it that were begun. A look-up does not count.
    attempt: int = 0
    born_at: datetime
    not_before: datetime | None = None
    #: The newest claim: its worker, when, until when, and of which revision.
    owner: UUID | None = None
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    claimed_revision: int = 0
    #: Counts up with each newer state or checkpoint.
    revision: int = 0
    #: When the last attempt to send it was claimed, and the look-ups since then that found nothing.
    sent_at: datetime | None = None
    lookups: int = 0
    #: An attempt may have arrived: look it up first.
    is_unsure: bool = False
    #: While sending: another worker, whose lease had run out, sent it too.
    is_rechecked: bool = False
    receipt: Receipt | None = None
    reason: str = ""
    error: str = ""
    finalized_at: datetime | None = None

    @property
    def is_state(self) -> bool:
        """True for the state of a task, False for a checkpoint."""
        return self.mode is Mode.STATE

    @property
    def is_unseen(self) -> bool:
        """True for a checkpoint that was never shown."""
        return not self.is_state and self.receipt is None and not self.is_unsure

    @property
    def rank(self) -> int:
        """Order among all that wait, 0 first: what may have arrived is found as long as little was posted after it."""
        return 0 if self.is_unsure else RANK[self.urgency]

    @property
    def is_behind(self) -> bool:
        """True when something newer was put after it was claimed."""
        return self.revision > self.claimed_revision

    @property
    def due_at(self) -> datetime:
        """When it may be claimed."""
        return self.not_before or self.born_at


def _changed(entry: OutboxEntry, event: DeliveryEvent, state: DeliveryState, **fields: Any) -> OutboxEntry:
    if state not in TARGETS.get((event, entry.state), ()):
        raise ValueError(
            f"delivery {entry.id}: {event} leads from {entry.state} to {state}, which the table does not have"
        )
    return msgspec.structs.replace(entry, state=state, **fields)


def _anew(now: datetime) -> dict[str, Any]:
    """Return the fields of a delivery that was never tried."""
    return {"attempt": 0, "born_at": now, "not_before": None, "reason": "", "error": ""}


def _short(text: str) -> str:
    return mend_text(text, LONGEST)[0]


# --- putting --------------------------------------------------------------------------------------------------------


def begin(planned: PlannedDelivery, now: datetime, *, tenant: str = "") -> OutboxEntry:
    """Return a new delivery."""
    return OutboxEntry(
        tenant=tenant,
        sink=planned.sink,
        address=planned.address,
        ordering_key=planned.ordering_key,
        mode=planned.mode,
        key=planned.key,
        urgency=planned.urgency,
        task_uid=planned.task_uid,
        checkpoint_id=planned.checkpoint_id,
        born_at=now,
    )


def comes_after(new: tuple[datetime, UUID] | None, known: tuple[datetime, UUID] | None) -> bool:
    """Return whether a checkpoint is newer than another, by their times and ids; None: it is not recorded."""
    return new is not None and (known is None or new > known)


def _of_both(entry: OutboxEntry, urgency: Urgency) -> Urgency:
    """Return the urgency of a waiting state that moved on: the more urgent, but that of an end for an edit that shows
    a run's start and its end.
    """
    both = entry.urgency, urgency
    if entry.receipt is not None and Urgency.START in both and (over := [one for one in both if one in OVER]):
        return over[0]
    return min(both, key=RANK.__getitem__)


def put(
    entry: OutboxEntry,
    planned: PlannedDelivery,
    now: datetime,
    *,
    is_newer: bool = False,
    is_recorded_now: bool = False,
) -> OutboxEntry:
    """Put a delivery onto the one with the same key. Returns the same object when nothing changes.

    `is_newer`: the delivery's checkpoint is newer than the stored one. `is_recorded_now`: it was recorded in
    this transaction.
    """
    if planned.mode is Mode.STATE:
        urgency = _of_both(entry, planned.urgency) if entry.state is _WAITING else planned.urgency
        return _put_again(
            entry, now, address=planned.address, key=planned.key, task_uid=planned.task_uid, urgency=urgency
        )
    is_gone = entry.state is _DEAD and entry.reason == GONE
    shown: dict[str, Any] = {"task_uid": planned.task_uid, "checkpoint_id": planned.checkpoint_id}
    counts = is_newer or planned.again is Again.CHANGED
    if planned.again is Again.COUNTED and not is_newer:
        # A late one is counted, once. The newer one stays shown.
        counts = is_recorded_now and planned.checkpoint_id != entry.checkpoint_id
        shown = {"task_uid": entry.task_uid, "checkpoint_id": entry.checkpoint_id}
    if planned.again is Again.NEVER:
        counts = False
    if is_gone:  # it was set aside unseen, and is sent after all, to its task's current message
        moved = {
            "ordering_key": planned.ordering_key,
            "address": planned.address,
            "urgency": planned.urgency,
            "task_uid": planned.task_uid,
        }
        return _put_again(entry, now, by=int(counts), **{**moved, **(shown if counts else {})})
    if not counts:
        return entry
    if entry.state in _CLOSED:
        # A higher count is not urgent: the message already shows the error.
        shown["urgency"] = Urgency.NORMAL if planned.again is Again.COUNTED else planned.urgency
        if planned.again is Again.NEWEST:
            shown["receipt"] = None
    # It is shown again in its message, though its task may have another one by now.
    return _put_again(entry, now, **shown)


def wake(entry: OutboxEntry, now: datetime) -> OutboxEntry:
    """Have a delivery claimed again: its task may have another message by now, or its rows have changed."""
    urgency = entry.urgency if entry.state is _WAITING else Urgency.NORMAL
    # A checkpoint's revision counts its repetitions: what is shown again is none.
    is_counted = entry.is_state or entry.state is _SENDING
    return _put_again(entry, now, by=int(is_counted), urgency=urgency)


def count_more(entry: OutboxEntry, by: int) -> OutboxEntry:
    """Add the revisions of a delivery that this one continues."""
    return msgspec.structs.replace(entry, revision=entry.revision + by)


def _put_again(entry: OutboxEntry, now: datetime, *, by: int = 1, **fields: Any) -> OutboxEntry:
    state = _SENDING if entry.state is _SENDING else _WAITING
    if entry.state in _CLOSED:
        fields |= _anew(now)
    return _changed(entry, DeliveryEvent.PUT_AGAIN, state, revision=entry.revision + by, **fields)


# --- claiming -------------------------------------------------------------------------------------------------------


def claim(
    entry: OutboxEntry, call: SinkCall, now: datetime, lease: timedelta, owner: UUID | None = None
) -> OutboxEntry:
    """Lease a delivery, to send it or to look it up."""
    sent: dict[str, Any] = (
        {} if call is SinkCall.RECONCILE else {"attempt": entry.attempt + 1, "sent_at": now, "lookups": 0}
    )
    return _changed(
        entry,
        DeliveryEvent.CLAIM,
        _SENDING,
        owner=owner,
        claimed_at=now,
        lease_until=now + lease,
        claimed_revision=entry.revision,
        **sent,
    )


def expire(entry: OutboxEntry) -> OutboxEntry:
    """Take over a delivery whose lease ran out."""
    return _changed(
        entry, DeliveryEvent.EXPIRE, _WAITING, is_unsure=True, is_rechecked=False, owner=None, lease_until=None
    )


def skip(entry: OutboxEntry) -> OutboxEntry:
    """Finish a delivery that need not be sent."""
    return _changed(entry, DeliveryEvent.SKIP, _DELIVERED, claimed_revision=entry.revision, reason="", error="")


def set_aside(entry: OutboxEntry, error: str) -> OutboxEntry:
    """Give up a delivery until it is put again."""
    return _changed(entry, DeliveryEvent.SET_ASIDE, _DEAD, reason=GONE, error=_short(error))


# --- finishing ------------------------------------------------------------------------------------------------------


def is_same_claim(entry: OutboxEntry, delivery: Delivery) -> bool:
    """Return whether this delivery is the newest claim of the entry."""
    return (entry.claimed_at, entry.attempt) == (delivery.claimed_at, delivery.attempt)


def is_held(entry: OutboxEntry, delivery: Delivery, owner: UUID | None = None) -> bool:
    """Return whether this claim still holds the lease: only then its outcome counts."""
    return entry.state is _SENDING and entry.owner == owner and is_same_claim(entry, delivery)


def has_sent(delivery: Delivery, outcome: Outcome) -> bool:
    """Return whether a claim that lost its lease may have posted something: then it is looked up again."""
    if delivery.is_unknown:
        return False
    return (isinstance(outcome, Receipt) and not outcome.skipped) or (
        isinstance(outcome, (RetryAt, GiveUp)) and outcome.reconcile
    )


def wait_of(outcome: Outcome, now: datetime) -> timedelta:
    """Return the time until the moment that an outcome names, `now` by the clock that named it.

    The store adds it to its own clock, so that clocks that differ change nothing.
    """
    at = outcome.at if isinstance(outcome, RetryAt) else outcome.until if isinstance(outcome, GiveUp) else None
    return max(at - now, timedelta(0)) if at is not None else timedelta(0)


def kept_receipt(outcome: Outcome) -> Receipt | None:
    """Return the receipt of an outcome; None where the sink did nothing, and the previous receipt stays."""
    if isinstance(outcome, Arrived):
        return outcome.receipt
    return outcome if isinstance(outcome, Receipt) and (outcome.ref or not outcome.skipped) else None


def finish(
    entry: OutboxEntry,
    outcome: Outcome,
    now: datetime,
    *,
    wait: timedelta = timedelta(0),
    sent_before: datetime | None = None,
    is_paced: bool = False,
) -> OutboxEntry:
    """Return the entry after the outcome of a claim that holds its lease.

    `wait` is `wait_of` the outcome, `sent_before` is `Delivery.sent_at`. `is_paced`: a circuit breaker paces
    the next try, so the delivery needs no wait of its own.
    """
    is_rechecked, is_behind = entry.is_rechecked, entry.is_behind
    left: dict[str, Any] = {
        "owner": None,
        "lease_until": None,
        "is_rechecked": False,
        "finalized_at": now,
        "not_before": None,
    }
    match outcome:
        case Receipt() | Arrived():
            receipt, is_found = kept_receipt(outcome), isinstance(outcome, Arrived)
            # What was found may show an older text, if there ever was another.
            is_old = entry.is_state or entry.receipt is not None or entry.revision > 0
            left |= {"receipt": receipt or entry.receipt, "is_unsure": is_rechecked, "reason": "", "error": ""}
            state = _WAITING if (is_found and is_old) or is_behind or is_rechecked else _DELIVERED
            event = DeliveryEvent.FOUND if is_found else DeliveryEvent.RECEIPT
            if state is _WAITING:
                left["attempt"] = 0
            if is_behind and entry.key.endswith(ON_THE_WAY):
                left["receipt"] = None  # the newer one is a message of its own
        case NotArrived():
            # A checkpoint with a receipt was delivered, even if the look-up does not find it.
            was_shown = not entry.is_state and entry.receipt is not None
            left["is_unsure"] = is_rechecked
            state = _DELIVERED if was_shown and not is_behind and not is_rechecked else _WAITING
            event, is_behind = DeliveryEvent.ABSENT, is_behind and was_shown
        case RetryAt():
            left |= {
                "not_before": now if is_paced else now + wait,
                **_reason_and_error(outcome),
                "is_unsure": entry.is_unsure or is_rechecked,
            }
            if outcome.is_unsent:
                left |= {"attempt": max(entry.attempt - (not entry.is_unsure), 0), "sent_at": sent_before}
            else:
                left["is_unsure"] |= outcome.reconcile
                left["lookups"] = entry.lookups + outcome.has_looked
            event, state, is_behind = DeliveryEvent.RETRY, _WAITING, False
        case GiveUp():
            left |= {**_reason_and_error(outcome), "is_unsure": entry.is_unsure or outcome.reconcile or is_rechecked}
            event, state = DeliveryEvent.GIVE_UP, _WAITING if is_behind or is_rechecked else _DEAD
    if is_behind:  # the newer one has its own age, and no attempts yet
        left |= {"attempt": 0, "born_at": now}
    return _changed(entry, event, state, **left)


def report_late(entry: OutboxEntry) -> OutboxEntry:
    """Note that a worker whose lease had run out sent it: it is looked up again, also while another worker has it."""
    if entry.state is _SENDING:
        return _changed(entry, DeliveryEvent.REPORT_LATE, _SENDING, is_rechecked=True)
    return _changed(entry, DeliveryEvent.REPORT_LATE, _WAITING, is_unsure=True, not_before=None)


def _reason_and_error(outcome: RetryAt | GiveUp) -> dict[str, str]:
    return {"reason": _short(outcome.reason), "error": _short(outcome.error or outcome.reason)}


# --- people ---------------------------------------------------------------------------------------------------------


def revive(entry: OutboxEntry, now: datetime) -> OutboxEntry:
    """Return a dead delivery to waiting, with its last error."""
    # After "unverifiable" it is sent without another look-up: that is what the person decided.
    is_unsure = entry.is_unsure and entry.reason != UNVERIFIABLE
    return _changed(entry, DeliveryEvent.REVIVE, _WAITING, attempt=0, not_before=None, born_at=now, is_unsure=is_unsure)


def discard(entry: OutboxEntry) -> OutboxEntry:
    """Give up a waiting delivery by hand."""
    return _changed(entry, DeliveryEvent.DISCARD, _DEAD, reason="discarded", error="discarded by hand")
