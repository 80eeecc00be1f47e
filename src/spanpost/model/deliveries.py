"""A delivery: one checkpoint or state on its way to one sink, and the sink's receipt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from spanpost.model.alerts import Alert
from spanpost.model.checkpoints import Checkpoint
from spanpost.model.launch_orders import Order
from spanpost.model.summaries import Summary
from spanpost.model.tasks import Task


class Mode(StrEnum):
    """Relation of the deliveries of one ordering key: each matters, or only the newest."""

    #: Each is delivered, in order.
    CHECKPOINT = "checkpoint"
    #: Only the newest is delivered; it replaces one that waits.
    STATE = "state"
    #: The message that the receipt names is deleted (`spanpost erase`).
    ERASE = "erase"


class Urgency(StrEnum):
    """Order of delivery when calls are limited, most urgent first."""

    #: A question to a person, or its answer.
    APPROVAL = "approval"
    #: The message of a task that begins.
    START = "start"
    #: A failure, or an alert.
    ERROR = "error"
    #: A part failed, or the context or the budget is nearly used up.
    WARNING = "warning"
    #: The end of a root task.
    END = "end"
    NORMAL = "normal"
    #: Anything else of a sub-agent.
    MINOR = "minor"


class SinkCall(StrEnum):
    """The kind of call that a sink makes for a delivery."""

    #: Show something new.
    POST = "post"
    #: Change what is shown: a state whose message exists, or a checkpoint that is repeated in place
    #: (`Again`).
    EDIT = "edit"
    #: Ask whether an earlier attempt arrived (`Sink.reconcile`).
    RECONCILE = "reconcile"
    #: Delete what was shown.
    DELETE = "delete"


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A rate limit: a bucket of calls that every process shares through the store by `key`.

    `rate` limits the pace. The limit closes while the remote side throttles or refuses calls, and with
    `is_breaker` (circuit breaker) after failures in a row.
    """

    #: Names what is limited, the same in all processes: ``slack:default:chat.update``.
    key: str
    #: Calls gained per second; None: not limited while open.
    rate: float | None = None
    #: Calls that may be saved up, at least one.
    burst: float = 1.0
    #: Part of the burst that only deliveries more urgent than normal may use.
    reserve: float = 0.0
    #: Failures in a row (`Unavailable`, `DeliveryUncertain`) close it; it then opens again by one probe at a
    #: time.
    is_breaker: bool = False


#: Returns the rate limits that a call draws on: (sink, address, call).
RateLimits: TypeAlias = Callable[[str, str, SinkCall], tuple[RateLimit, ...]]


def unlimited(sink: str, address: str, call: SinkCall) -> tuple[RateLimit, ...]:
    """Return no rate limits."""
    return ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A sink's proof of delivery. `ref` is what it needs for the next edit (Slack: team, channel, ts)."""

    ref: dict[str, Any] = {}
    #: Why the sink did nothing on purpose (an unchanged rendering, a muted route); empty: it delivered.
    skipped: str = ""
    #: Why it was delivered to another place than its address: a short word, as `DeliveryError.reason`; else
    #: empty.
    diverted: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to one sink. To keep the order, one delivery of an ordering key is sent at a time."""

    #: The store's number; 0 before it is stored.
    id: int = 0
    tenant: str
    sink: str
    #: Where the route sends it: the sink's own address (Slack: "workspace/#channel"); empty: the sink's
    #: default.
    address: str = ""
    #: Deliveries with the same key arrive in order. Made of sink, address and root task.
    ordering_key: str
    mode: Mode
    #: Unique per sink: a repetition has the same key.
    key: str
    urgency: Urgency = Urgency.NORMAL
    #: The task when the delivery was claimed (its newest state), and its child tasks.
    task: Task
    children: tuple[Task, ...] = ()
    #: The checkpoint that it carries; None for a state.
    checkpoint: Checkpoint | None = None
    #: The launch order that it carries; `task` is then the one it is about, or a blank one.
    order: Order | None = None
    #: The summary of many tasks that it carries; `task` is then a blank one.
    summary: Summary | None = None
    #: The alert that it is about, as it is now.
    alert: Alert | None = None
    #: Number of this attempt to send, from 1; reconciling does not count.
    attempt: int = 1
    #: An earlier attempt may have arrived (`RetryAt.reconcile`, or its lease ended while sending): reconcile
    #: first.
    is_unknown: bool = False
    #: Number of repetitions so far of a checkpoint that is repeated in place (`Again`).
    count: int = 1
    born_at: datetime
    not_before: datetime | None = None
    #: Receipt of the root message of its ordering key, and of this delivery; None: there is none yet.
    message_receipt: Receipt | None = None
    receipt: Receipt | None = None
    #: Store clock: when this was claimed, and when the attempt before was claimed (None: there was none).
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    #: Number of reconciliations since `sent_at` that found nothing yet and decided nothing.
    lookups: int = 0
    #: Keys of the rate limits that the call used.
    drawn: tuple[str, ...] = ()
    #: The last state of a message whose task was merged. `task` is then what it shows at last: ended, with
    #: reason `spanpost.model.tasks.MERGED`, under the name and the id of the successor (empty: unknown).
    has_moved: bool = False
    #: The receipt of the successor's message, once it exists.
    moved_to: Receipt | None = None


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as an operator lists it."""

    id: int
    sink: str
    address: str
    ordering_key: str
    mode: str
    #: waiting, sending, delivered, dead
    state: str
    task_id: str
    kind: str
    attempt: int
    born_at: datetime
    not_before: datetime | None = None
    reason: str = ""
    error: str = ""


class RateLimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rate limit and its circuit breaker, as an operator lists them."""

    key: str
    #: open (calls pass), closed (no calls), or probing (one call at a time until one succeeds).
    state: str
    #: throttled, refused or failing; empty while calls pass.
    why: str = ""
    #: Closed: when calls pass again. Probing: when the wait for the probe's result ends.
    until: datetime | None = None
    reason: str = ""
    error: str = ""
    rate: float | None = None
    burst: float = 1.0
    reserve: float = 0.0
