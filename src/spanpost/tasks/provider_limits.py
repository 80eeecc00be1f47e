"""Model calls that a provider rejected: a rate limit, or a quota that is spent."""

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

#: Spent for longer than a minute: a short wait does not help. In the words of OpenAI, Anthropic, Google,
#: Azure, Bedrock and LiteLLM.
_QUOTA: Final = re.compile(
    r"insufficient.?quota|quota.{0,20}(exceed|exhaust|spent|reached)|exceed.{0,30}quota"
    r"|billing|credit balance|usage.?limit|spend.?limit",
    re.IGNORECASE,
)
_RATE: Final = re.compile(
    r"rate.?limit|too.?many.?requests|\b429\b|throttl|overloaded|resource.?exhausted|tokens per min|requests per min",
    re.IGNORECASE,
)
#: Characters of a message that are searched; and of a name that is kept.
_SEARCHED: Final = 500
_NAME: Final = 200

QUOTA: Final = "quota"
RATE: Final = "rate_limit"


def kind_of(failure: Failure | None) -> str:
    """Return the kind of limit that a failure met, ``quota`` or ``rate_limit``; empty for any other failure."""
    if failure is None:
        return ""
    text = f"{failure.type[:_SEARCHED]} {failure.message[:_SEARCHED]}"
    return QUOTA if _QUOTA.search(text) else RATE if _RATE.search(text) else ""


def of_account(one: Limited) -> tuple[str, str, str, str, str]:
    """Return the key under which a rejected call is counted."""
    return one.tenant, one.account, one.provider, one.model, one.kind


def limited(placed: Sequence[Placed], folded: Folded) -> list[Limited]:
    """Return the model calls whose rejection this batch is the first to report."""
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
