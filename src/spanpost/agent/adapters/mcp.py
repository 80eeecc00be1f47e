"""MCP's elicitation: what a server's tool asks of the person behind the client is asked of a person, who answers where people look.

    from mcp import Client
    from spanpost.agent.adapters.mcp import Elicitation

    async with agent_task("Travel", task_id="trip-7"):
        async with Client("https://hotel.example/mcp", elicitation_callback=Elicitation("hotel")) as client:
            await client.call_tool("book_hotel", {"city": "Oslo"})

Approve accepts and deny declines; a choice is made by its button; what has to be written is the comment of who approves. A time that is
over is MCP's ``cancel``, which is no refusal. Made for mcp 2 (2.3), its `Client` as well as its `ClientSession`.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from json import dumps
from typing import Any

from mcp import types

from spanpost.agent.adapters.form import DECLINE, Form, read_form
from spanpost.agent.adapters.scope import refused, scoped
from spanpost.agent.control import AtExpiry, ControlUnavailable, Decision, approval
from spanpost.agent.task import current_task

__all__ = ["Elicitation"]

_log = logging.getLogger("spanpost.control")

#: Under which name a server finds what a person said beside the answer: the protocol has no place of its own for it.
COMMENT = "spanpost/comment"
#: Refusals that are kept for who asks; older ones are let go.
_KEPT = 100
#: Characters of what a server says that are shown; it may say anything.
_QUESTION, _DETAIL = 2_000, 10_000


class Elicitation:
    """Answers a server's elicitations by people's decisions: the `elicitation_callback` of one client.

    `server` is what people read of who asks. `name` gives a question the id of its decision. Without it a question of a task with a
    `task_id` is known by its words, and by how often these words were asked here: so a task that began anew finds the answers that
    were given meanwhile. In any other case it is asked anew.
    """

    def __init__(
        self,
        server: str,
        *,
        name: Callable[[Any], str | None] | None = None,
        risk: str = "",
        expires_in: timedelta | float | None = None,
        at_expiry: AtExpiry | None = None,
    ) -> None:
        self._server = server
        self._name = name
        self._risk = risk
        self._expires_in = expires_in
        self._at_expiry: AtExpiry | None = at_expiry
        self._asked: Counter[str] = Counter()
        self._refusals: deque[str] = deque(maxlen=_KEPT)

    def refusals(self) -> list[str]:
        """Return what a model is to be told, since this was asked last: who denied and why, and that nobody decided.

        A server hears no more than ``decline`` or ``cancel``, and cannot tell the model.
        """
        told = list(self._refusals)
        self._refusals.clear()
        return told

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult | types.ErrorData:
        """Ask a person what the server asks, and answer the server."""
        form = None if isinstance(params, types.ElicitRequestURLParams) else read_form(params.requested_schema)
        lines = [f"asked by the MCP server {self._server}"]
        if isinstance(params, types.ElicitRequestURLParams):
            lines += [params.url, "To approve is to say that you open it; nothing opens it for you."]
        elif form is not None:
            lines += [field.shown for field in form.fields] + ([form.hint] if form.hint else [])
        try:
            question = _clipped(params.message.strip(), _QUESTION) or "The server asks"
            return await self._settle(question, lines, form, self._id(params))
        except ControlUnavailable as error:
            # The reason may name what the server need not know.
            _log.warning("the MCP server %s asked, and nobody can be asked: %s", self._server, error)
            return types.ErrorData(code=types.INTERNAL_ERROR, message="nobody can be asked just now")

    def _id(self, params: Any) -> str | None:
        if self._name is not None:
            return self._name(params)
        task = current_task()
        if task is None or not task.task_id:
            return None
        said = params.model_dump(mode="json", include={"mode", "message", "requested_schema", "url"})
        words = blake2b(dumps([self._server, said], sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
        self._asked[words] += 1
        return scoped(f"mcp/{words}/{self._asked[words]}")

    async def _settle(self, question: str, lines: list[str], form: Form | None, id: str | None) -> types.ElicitResult:
        """Ask until the answer fills in the form; who answers beside it is told why and asked again, under an id that follows."""
        options = form.options if form is not None else []
        why, times = "", 1
        while True:
            decision = await approval(
                question,
                id=f"{id}/{times}" if id is not None and times > 1 else id,
                options=options,
                detail=_clipped("\n".join([*([why] if why else []), *lines]), _DETAIL),
                risk=self._risk,
                expires_in=self._expires_in,
                at_expiry=self._at_expiry,
            )
            is_given = decision.decision in options and decision.decision != DECLINE if options else decision.approved
            if decision.expired or not is_given:
                return self._refuse(decision)
            if form is None:
                return types.ElicitResult(action="accept")
            try:
                content = form.filled(decision.decision, decision.comment)
            except ValueError as error:
                why, times = f"The answer was not taken: {error}", times + 1
                continue
            return types.ElicitResult(action="accept", content=dict(content), _meta=_meta(decision))

    def _refuse(self, decision: Decision) -> types.ElicitResult:
        self._refusals.append(refused(decision))
        is_nobodys = decision.expired and not decision.denied
        return types.ElicitResult(action="cancel" if is_nobodys else "decline", _meta=_meta(decision))


def _meta(decision: Decision) -> dict[str, Any] | None:
    return {COMMENT: decision.comment} if decision.comment else None


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
