"""Model calls that a provider held back: a limit of its rate, or a quota that is spent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from spanpost import semconv as c
from spanpost.model.readings import Failure, Role
from spanpost.model.recorded import Limited
from spanpost.model.tasks import Task
from spanpost.tasks.folded import Folded, Placed

#: Spent for longer than a minute: waiting a little does not help. OpenAI, Anthropic, Google, Azure, Bedrock and LiteLLM say it so.
_QUOTA: Final = re.compile(
    r"insufficient.?quota|quota.{0,20}(exceed|exhaust|spent|reached)|exceed.{0,30}quota|billing|credit balance|usage.?limit|spend.?limit",
    re.IGNORECASE,
)
_RATE: Final = re.compile(
    r"rate.?limit|too.?many.?requests|\b429\b|throttl|overloaded|resource.?exhausted|tokens per min|requests per min", re.IGNORECASE
)
#: Characters of a message that are looked at; and of a name that is kept.
_LOOKED: Final = 500
_NAME: Final = 200

QUOTA: Final = "quota"
RATE: Final = "rate_limit"


def kind_of(failure: Failure | None) -> str:
    """Return which limit a failure is of, ``quota`` or ``rate_limit``; empty for any other."""
    if failure is None:
        return ""
    said = f"{failure.type[:_LOOKED]} {failure.message[:_LOOKED]}"
    return QUOTA if _QUOTA.search(said) else RATE if _RATE.search(said) else ""


def of_account(one: Limited) -> tuple[str, str, str, str, str]:
    """Return what a held-back call is counted under."""
    return one.tenant, one.account, one.provider, one.model, one.kind


def limited(placed: Sequence[Placed], folded: Folded) -> list[Limited]:
    """Return the model calls of a batch that are known for the first time to have been held back."""
    found = []
    tasks: dict[UUID, Task] = {}
    for position in folded.ended_spans:
        o, r = placed[position].observation, placed[position].reading
        if r.role is not Role.LLM or not (kind := kind_of(r.failure)):
            continue
        tasks = tasks or {task.uid: task for task in folded.tasks}
        uid, _ = folded.recorded.get(position, (None, b""))
        task = tasks.get(uid) if uid is not None else None
        account = o.attributes.get(c.ACCOUNT) or o.origin.resource.get(c.ACCOUNT)
        found.append(
            Limited(
                tenant=o.tenant,
                account=account[:_NAME] if isinstance(account, str) else "",
                provider=(r.provider or "")[:_NAME],
                model=(r.model or "")[:_NAME],
                kind=kind,
                agent_name=task.agent_name if task is not None else r.agent_label,
                environment=task.environment if task is not None else r.environment,
            )
        )
    return found
