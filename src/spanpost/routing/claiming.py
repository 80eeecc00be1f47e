"""Which delivery of an ordering key goes first, whether it is sent, and what the sink receives. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.deliveries import Delivery, Mode, Receipt, SinkCall
from spanpost.model.launch_orders import Order
from spanpost.model.tasks import Task
from spanpost.routing import rate_limiting
from spanpost.routing.delivery_states import OVER, OutboxEntry
from spanpost.routing.planned import ON_THE_WAY


def place(*, is_state: bool, is_on_the_way: bool, has_message_receipt: bool, is_over: bool) -> int:
    """Return the rank of a waiting delivery within its ordering key, 0 first; equals go in the order of
    their numbers.

    The state goes first until it has a message, because checkpoints are posted below it. Then checkpoints,
    newest-only ones after the rest; then the edit of the state. `is_over`: its urgency is of `OVER`. Then the edit
    goes before the checkpoints: they may wait for minutes in a full channel, and a person must see an end at once.
    """
    if is_state:
        return 3 if has_message_receipt and not is_over else 0
    return 2 if is_on_the_way else 1


def first(entries: Iterable[OutboxEntry], *, has_message_receipt: bool) -> OutboxEntry | None:
    """Return the waiting delivery of one ordering key that goes first."""
    return min(
        entries,
        key=lambda e: (
            place(
                is_state=e.is_state,
                is_on_the_way=e.key.endswith(ON_THE_WAY),
                has_message_receipt=has_message_receipt,
                is_over=e.urgency in OVER,
            ),
            e.id,
        ),
        default=None,
    )


def call_of(entry: OutboxEntry, *, has_message_receipt: bool) -> SinkCall:
    """Return the call that the sink will get."""
    has_receipt = entry.receipt is not None and bool(entry.receipt.ref)
    return rate_limiting.call_of(entry.mode, entry.is_unsure, has_message_receipt, has_receipt)


class Claimed(StrEnum):
    """The effect of a delivery's turn."""

    #: The sink gets it.
    DELIVER = "deliver"
    #: `skip`: its message ended before it was posted.
    SKIP = "skip"
    #: `set_aside`: its subject does not exist.
    GONE = "gone"
    #: It is deleted: it was never shown, and its checkpoint was retracted while it was under way.
    WITHDRAWN = "withdrawn"
    #: A checkpoint below a message that was never posted and never will be: it moves to its task's current
    #: message.
    STRAY = "stray"


def decide_claim(
    entry: OutboxEntry, *, has_subject: bool, is_carried: bool, is_bound: bool, has_message_receipt: bool
) -> Claimed:
    """Decide what happens to a delivery when its turn comes.

    `has_subject`: its task, checkpoint or order exists. `is_carried`: its ordering key is that of its root
    task's message (`message_owner`). `is_bound`: it is a checkpoint, which belongs below such a message.
    """
    if entry.is_state:
        is_shown = has_message_receipt or entry.is_unsure
        return Claimed.DELIVER if is_carried or is_shown else Claimed.SKIP
    if not has_subject:
        return Claimed.WITHDRAWN if entry.is_unseen else Claimed.GONE
    if is_bound and entry.is_unseen and not has_message_receipt and not is_carried:
        return Claimed.STRAY
    return Claimed.DELIVER


def as_delivery(
    entry: OutboxEntry,
    *,
    sent_before: datetime | None,
    task: Task,
    children: tuple[Task, ...],
    checkpoint: Checkpoint | None,
    order: Order | None,
    alert: Alert | None,
    message_receipt: Receipt | None,
    drawn: tuple[str, ...],
) -> Delivery:
    """Return a claimed entry as the sink gets it. `sent_before`: `sent_at` before this claim."""
    return Delivery(
        id=entry.id,
        tenant=entry.tenant,
        sink=entry.sink,
        address=entry.address,
        ordering_key=entry.ordering_key,
        mode=entry.mode,
        key=entry.key,
        urgency=entry.urgency,
        task=task,
        children=children,
        checkpoint=checkpoint,
        order=order,
        alert=alert,
        attempt=entry.attempt,
        # To delete a message twice does no harm: nothing is looked up before.
        is_unknown=entry.is_unsure and entry.mode is not Mode.ERASE,
        # Similar errors are counted. Any other checkpoint that is shown again was reported once: its subject
        # changed.
        count=entry.revision + 1 if checkpoint is not None and checkpoint.kind is Kind.ERROR else 1,
        born_at=entry.born_at,
        not_before=entry.not_before,
        message_receipt=message_receipt,
        receipt=entry.receipt,
        claimed_at=entry.claimed_at,
        sent_at=sent_before,
        lookups=entry.lookups,
        drawn=drawn,
    )


def alert_of(task: Task | None, checkpoint: Checkpoint | None) -> UUID | None:
    """Return the id of the alert that a delivery is about, if it may be about one."""
    if checkpoint is not None:
        with suppress(ValueError):
            return UUID(checkpoint.ref) if checkpoint.kind is Kind.ALERT else None
    # A task that merely claims to be an alert has a trace id that no alert has.
    return UUID(bytes=task.trace_id) if task is not None and task.is_alert and len(task.trace_id) == 16 else None
