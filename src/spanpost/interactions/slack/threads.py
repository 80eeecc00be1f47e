"""Acts in a task's thread without a button of spanpost: a reply, or Slack's own *Stop*."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from spanpost.interactions.acts import Interactions
from spanpost.interactions.protocols import PersonMessage
from spanpost.interactions.requested_acts import ActOutcome, RequestedAct
from spanpost.interactions.slack.payloads import Reply, Stop, moment
from spanpost.interactions.slack.web import Trouble, Web
from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Verb

log = logging.getLogger("spanpost.interactions")

#: By then a message's receipt is stored, even if the process that posted it was killed.
_RECEIPT_STORED_AFTER: Final = timedelta(minutes=3)


def has_stored_receipt(root: PersonMessage) -> bool:
    """Tell whether a thread is so old that the receipt of its root must be stored."""
    return datetime.now(UTC) - moment(root.ts) > _RECEIPT_STORED_AFTER


async def do(
    interactions: Interactions, root: PersonMessage, make: Callable[[UUID], RequestedAct], *, is_known: bool
) -> tuple[bool, ActOutcome | None]:
    """Do an act on a thread's task.

    None: the thread is not a task's. False: not known yet, Slack shall send it again. `is_known`: a thread
    without a receipt is not a task's. Otherwise its root may have been posted a moment ago.
    """
    try:
        asked = await interactions.task_of_message(root)
        return (is_known, None) if asked is None else (True, await interactions.do(make(asked.key)))
    except StoreUnavailable:
        return False, None


def said(reply: Reply, text: str) -> Callable[[UUID], RequestedAct]:
    """Return a function that makes a message to the agent from a reply."""
    common: dict[str, Any] = {
        "user": reply.user,
        "message": reply.root,
        "is_foreign": reply.is_foreign,
        "idempotency_key": reply.idempotency_key,
    }
    return lambda key: RequestedAct(verb=Verb.MESSAGE, key=key, text=text, at=reply.at, **common)


def stopped(stop: Stop) -> Callable[[UUID], RequestedAct]:
    """Return a function that makes a cancel from Slack's own *Stop*."""
    common: dict[str, Any] = {
        "user": stop.user,
        "message": stop.root,
        "is_foreign": stop.is_foreign,
        "idempotency_key": stop.idempotency_key,
    }
    return lambda key: RequestedAct(verb=Verb.CANCEL, key=key, at=stop.at, **common)


async def rest(web: Web, root: PersonMessage) -> None:
    """Set a thread's session to active: Slack shows it as working until the app sets its status."""
    try:
        await web.call("agents.sessions.setStatus", channel_id=root.channel, thread_ts=root.ts, status="active")
    except Trouble as trouble:
        log.warning("a stopped task is still shown as working in Slack: %s", trouble)
