"""A delivery: one checkpoint or state on its way to one sink, and what came back."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.launch_orders import Order
from spanpost.model.summaries import Summary
from spanpost.model.tasks import Task


class Mode(StrEnum):
    """How deliveries of one lane relate: each matters, or only the newest."""

    #: Each is delivered, in order.
    CHECKPOINT = "checkpoint"
    #: Only the newest matters; a newer one replaces a waiting one.
    STATE = "state"


class Urgency(StrEnum):
    """What goes first when the dispatcher must choose, most urgent first: approval, end, error, then the rest."""

    APPROVAL = "approval"
    END = "end"
    ERROR = "error"
    NORMAL = "normal"


class SinkCall(StrEnum):
    """What a sink will be asked to do with a delivery: the kind of call it makes at the far side."""

    #: Show something new.
    POST = "post"
    #: Change what is shown: a state whose lane has a receipt, or news that is told again (`fold.letters.Again`).
    EDIT = "edit"
    #: Look whether an earlier attempt arrived (`Sink.reconcile`).
    LOOKUP = "look"


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket of calls, shared through the store by every process that draws on `key`.

    It can be *paced* (`rate`), it is *closed* while the far side asks for patience or refuses, and with `is_breaker` it closes
    by itself when calls fail in a row.
    """

    #: Names what is limited, for all processes alike: ``slack:default:chat.update``.
    key: str
    #: Calls gained per second; None: as many as one likes while it is open.
    rate: float | None = None
    #: Calls that may be saved up, one at least.
    burst: float = 1.0
    #: Of the burst, what only approvals, ends and errors may draw.
    reserve: float = 0.0
    #: Failures in a row (`Unavailable`, `Unknown`) of calls that draw on it close it, and one probe at a time opens it again.
    is_breaker: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink brings back. `ref` is what it needs to edit next time (Slack: team, channel, ts)."""

    ref: dict[str, Any] = {}
    #: The sink did nothing on purpose (an unchanged rendering, a muted route) and says why.
    skipped: str = ""
    #: It stands elsewhere than it was addressed to, and why: a short word, as of `DeliveryError.reason`.
    diverted: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to one sink. One delivery per lane is under way at a time, which keeps order."""

    #: Store's number; 0 before it is stored.
    id: int = 0
    tenant: str
    sink: str
    #: Where the route sends it; the sink's own address (Slack: "workspace/#channel"); empty: the sink's default.
    address: str = ""
    #: What is delivered in order: sink, address and root task.
    ordering_key: str
    mode: Mode
    #: Unique per (sink, key): what makes telling twice the same telling.
    key: str
    urgency: Urgency = Urgency.NORMAL
    #: The task as known when the delivery was claimed (its newest state), with its child tasks beside.
    task: Task
    children: tuple[Task, ...] = ()
    #: News carries its checkpoint; state does not.
    checkpoint: Checkpoint | None = None
    #: An order carries itself (`domain.orders`); its task is the one that it is about, or a blank one.
    order: Order | None = None
    #: It tells of many tasks; its task is a blank one.
    summary: Summary | None = None
    #: Where it tells of an alert: that alert as it is now.
    alert: Alert | None = None
    #: Which attempt to send it this is, from 1; a look does not count.
    attempt: int = 1
    #: An earlier attempt may have arrived (`RetryAt.reconcile`, or its lease ran out while sending): reconcile first.
    is_unknown: bool = False
    #: Of news that is told again in one place (`Letter.again`): how often it was told by now.
    count: int = 1
    born_at: datetime
    not_before: datetime | None = None
    #: Receipt of the lane's state (the root message) and of this very delivery, where there was one.
    message_receipt: Receipt | None = None
    receipt: Receipt | None = None
    #: By the store's clock: when this was claimed, and when an attempt to send it was claimed last before (None: never).
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    #: Since `sent_at`: how often a look (`Sink.reconcile`) found nothing yet and left it out.
    lookups: int = 0
    #: Keys of the budgets that the call drew on.
    drawn: tuple[str, ...] = ()
    #: The last state of a message: what it told of goes on in another. `task` is what it is to show at last: ended, for the reason
    #: `spanpost.model.tasks.MERGED`, under the name and the id of the task that it went on as part of (empty: nobody knows).
    has_moved: bool = False
    #: Then: the receipt of that other message, where it stands already.
    moved_to: Receipt | None = None
