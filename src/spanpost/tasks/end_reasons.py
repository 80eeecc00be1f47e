"""Why a run ended, as one word of a closed set: what stopped it, where telemetry says so.

Rules. The type and the message of the error that ended a run are searched for the words of frameworks and
providers. A run that ended well is judged by why its last model call, or its root span, says that it stopped.
A run for which none of the reasons is known ends with `error`, `complete` or `cancelled`.
"""

from __future__ import annotations

import re
from typing import Final

from spanpost.model.readings import Finish
from spanpost.tasks.fact_values import FailureWords

MAX_STEPS, GUARDRAIL, CONTENT_FILTER, REFUSED, TIMED_OUT = (
    "max_steps", "guardrail", "content_filter", "refused", "timed_out",
)  # fmt: skip
#: The reasons that have words of their own (`end.<reason>` in the locales).
REASONS: Final = (MAX_STEPS, GUARDRAIL, CONTENT_FILTER, REFUSED, TIMED_OUT)
#: All values of `Task.end_reason`: `said` is the agent's own status, `interrupted` a process that is gone.
ALL_REASONS: Final = ("complete", "error", "cancelled", "waiting", "said", "interrupted", "merged", *REASONS)

#: Types of exceptions, best first.
_TYPES: Final = (
    (
        MAX_STEPS,
        re.compile(r"Max(?:imum)?_?(?:Turns?|Steps?|Iter\w*|Rounds?|Loops?)|GraphRecursion|UsageLimitExceeded"
                   r"|(?:Llm|LLM)CallsLimit|(?:Turn|Step|Iteration|Request)s?LimitE|max_(?:turns|steps|iterations)"),
    ),
    (GUARDRAIL, re.compile(r"guard_?rail|tripwire", re.IGNORECASE)),
    (CONTENT_FILTER, re.compile(r"content_?(?:filter|polic|safety)|moderation", re.IGNORECASE)),
    (REFUSED, re.compile(r"(?<!Connection)(?:Refus|refus)(?:al|ed)")),
    (TIMED_OUT, re.compile(r"time_?d?_?out|deadline_?exceeded", re.IGNORECASE)),
)  # fmt: skip
#: Words at the head of a message, for failures whose type says nothing.
_WORDS: Final = (
    (
        MAX_STEPS,
        re.compile(
            r"\bmax(?:imum)?[ _](?:number of |of )?(?:agent |model |tool (?:call )?)?"
            r"(?:turns|steps|iterations|rounds|loops)"
            r"|\brecursion limit\b|\b(?:turn|step|iteration)s? limit\b", re.IGNORECASE,
        ),
    ),
    (GUARDRAIL, re.compile(r"\bguardrails?\b|\btripwire\b", re.IGNORECASE)),
    (
        CONTENT_FILTER,
        re.compile(r"\bcontent[ _](?:filter|management policy|policy)|\bResponsibleAIPolicyViolation\b", re.IGNORECASE),
    ),
    (TIMED_OUT, re.compile(r"\btimed out\b|\bdeadline exceeded\b|\btimeout (?:of|after|exceeded)\b", re.IGNORECASE)),
)  # fmt: skip
#: Characters of a message that are searched.
_GLANCE: Final = 400
_FINISHES: Final = {
    Finish.FILTER: CONTENT_FILTER,
    Finish.REFUSAL: REFUSED,
    Finish.GUARDRAIL: GUARDRAIL,
    Finish.STEPS: MAX_STEPS,
}


def of_failure(failure: FailureWords | None) -> str:
    """Return why a run failed; `error` where no reason of its own is known."""
    if failure is None:
        return "error"
    kind = failure.type.rpartition(".")[2]
    by_type = next((reason for reason, pattern in _TYPES if pattern.search(kind) is not None), None)
    if by_type is not None:
        return by_type
    said = failure.message[:_GLANCE]
    return next((reason for reason, pattern in _WORDS if pattern.search(said) is not None), "error")


def of_finish(*finishes: int) -> str:
    """Return why a run ended that ended well, from why its root span and its last model call stopped."""
    return next((_FINISHES[Finish(one)] for one in finishes if one in _FINISHES), "complete")
