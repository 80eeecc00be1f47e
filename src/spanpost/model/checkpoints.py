"""A checkpoint: a notification event of a task (not saved state)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.messages import LocaleMessage


class Kind(StrEnum):
    """What a checkpoint reports. Public: rows, JSON, metric labels."""

    START = "start"
    CHECKPOINT = "checkpoint"
    ARTIFACT = "artifact"
    #: A part failed; the task's own failure is its END.
    ERROR = "error"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_RESOLVED = "approval_resolved"
    END = "end"
    # concluded by spanpost
    #: A step changed, or progress crossed a fifth, and no checkpoint reported it.
    MILESTONE = "milestone"
    CONTEXT_WARNING = "context_warning"
    #: A limit of the context window is forecast to be near.
    CONTEXT_FORECAST = "context_forecast"
    #: Reported by the agent, or inferred from a drop.
    COMPACTION = "compaction"
    STALLED = "stalled"
    #: An agent repeats itself without progress (`Task.loop`).
    LOOP = "loop"
    #: The task's budget is nearly or wholly spent.
    BUDGET_WARNING = "budget_warning"
    #: An alert from a monitor about the task: it fires (status ``waiting``) or is resolved (``complete``).
    ALERT = "alert"


#: How a compaction is known: reported or inferred.
SAID, INFERRED = "said", "inferred"
#: Kinds that are reported; spanpost concludes the others.
REPORTED_KINDS = frozenset(
    {
        Kind.START,
        Kind.CHECKPOINT,
        Kind.ARTIFACT,
        Kind.ERROR,
        Kind.APPROVAL_REQUESTED,
        Kind.APPROVAL_RESOLVED,
        Kind.END,
        Kind.BUDGET_WARNING,
        Kind.ALERT,
    }
)


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One checkpoint. Its id is derived from its cause, so a repetition has the same id.

    An END is revised in place when a later fact changes the verdict: same id, other `status` and `text`.
    """

    id: UUID
    tenant: str
    #: Internal identity of the task (`Task.uid`).
    task_uid: UUID
    kind: Kind
    #: One of the nine statuses at that moment.
    status: str
    #: One line, in the agent's or spanpost's words: untrusted text.
    text: str
    at: datetime
    #: The message that `text` renders in English, for other languages; None: an agent's own words. Its
    #: values are untrusted.
    message: LocaleMessage | None = None
    trace_id: bytes = b""
    span_id: bytes = b""
    #: The owning span under which it was reported: the checkpoint moves with that span's subtree.
    subtree: bytes = b""
    progress: float | None = None
    #: Longer text: an error's log tail, an approval's detail.
    detail: str = ""
    #: Approval id, artifact key, error type, context threshold or alert id, by kind; of a compaction `SAID`
    #: or `INFERRED`; of a checkpoint that reports an intervention, its verb.
    ref: str = ""

    @property
    def is_reported(self) -> bool:
        """True when it was reported, False when spanpost concluded it."""
        return self.kind in REPORTED_KINDS or (self.kind is Kind.COMPACTION and self.ref == SAID)
