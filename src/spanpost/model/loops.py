"""A loop: the finding that an agent repeats itself without progress."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class LoopKind(StrEnum):
    """What repeats. Public: rows, JSON, the `ref` of checkpoints."""

    #: One tool with the same arguments.
    SAME_CALL = "same_call"
    #: A few calls in turn: A, B, A, B.
    CYCLE = "cycle"
    #: One tool with the same error.
    SAME_ERROR = "same_error"
    #: One tool with the same long result, whatever its arguments.
    SAME_RESULT = "same_result"
    #: Many calls that were all made before, in no pattern.
    NO_PROGRESS = "no_progress"


class Loop(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An agent's calls since its last progress, when they repeat.

    `count` is how often the most frequent call was made; of `NO_PROGRESS` the number of calls.
    """

    kind: LoopKind
    #: What repeats, as a hash: the same for the same calls of the same agent run.
    id: str
    #: Names of the tools: untrusted text.
    tools: tuple[str, ...]
    count: int
    #: The newest of the calls.
    at: datetime | None = None
    #: A person let it be (`Verb.DISMISS`), and it has not doubled since.
    is_dismissed: bool = False
