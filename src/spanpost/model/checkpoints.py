"""News: what is told about a task."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from spanpost.model.messages import LocaleMessage


class Kind(StrEnum):
    """What a checkpoint tells. Public: rows, JSON, metric labels."""

    START = "start"
    CHECKPOINT = "checkpoint"
    ARTIFACT = "artifact"
    #: A part failed; the task's own failure is its END.
    ERROR = "error"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_RESOLVED = "approval_resolved"
    END = "end"
    # judged
    #: A step changed, or progress crossed a fifth, and nothing said so.
    MILESTONE = "milestone"
    CONTEXT_WARNING = "context_warning"
    #: A limit of the context window is forecast to be near.
    CONTEXT_FORECAST = "context_forecast"
    #: Told where something says so, judged where it is inferred from a drop.
    COMPACTION = "compaction"
    STALLED = "stalled"
    #: A budget that the task spends from is nearly or wholly spent.
    BUDGET_WARNING = "budget_warning"
    #: An alert about the task that came from outside: it fires (status ``waiting``), it is over (``complete``).
    ALERT = "alert"


#: How a compaction is known.
SAID, INFERRED = "said", "inferred"
#: Told because something said so; the rest is judged by spanpost.
TOLD = frozenset(
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
    """One piece of news. Its id is derived from what caused it, so telling twice is the same telling.

    An END is revised in place when a later fact changes the verdict: same id, other `status` and `text`.
    """

    id: UUID
    tenant: str
    #: Internal identity of the task (`Task.uid`).
    task_uid: UUID
    kind: Kind
    #: One of the nine statuses, as of this occurrence.
    status: str
    #: One line, as the agent or spanpost said it: untrusted text.
    text: str
    at: datetime
    #: The message that `text` renders in English, for other languages; None where the words are an agent's. Its values are untrusted.
    message: LocaleMessage | None = None
    trace_id: bytes = b""
    span_id: bytes = b""
    #: Span id of the owner under which it was told: where it moves, the checkpoint moves.
    subtree: bytes = b""
    progress: float | None = None
    #: Longer text behind it (an error's log tail, an approval's detail).
    detail: str = ""
    #: Approval id, artifact key, error type, context threshold or alert id, by kind; of a compaction whether it was `SAID` or `INFERRED`;
    #: of a checkpoint that tells what somebody asked of the task, the verb.
    ref: str = ""

    @property
    def is_told(self) -> bool:
        """True when something said so, False when spanpost judged it."""
        return self.kind in TOLD or (self.kind is Kind.COMPACTION and self.ref == SAID)
