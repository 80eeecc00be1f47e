"""MCP's elicitation: a question of a server's tool goes to a person, who answers in Slack, on the board or
by the API.

    from mcp import Client
    from spanpost.agent.adapters.mcp import Elicitation

    async with agent_task("Travel", task_id="trip-7"):
        async with Client("https://hotel.example/mcp", elicitation_callback=Elicitation("hotel")) as client:
            await client.call_tool("book_hotel", {"city": "Oslo"})

Approve accepts, deny declines, and a choice has a button. Text is written as the comment of the approval. A
passed deadline is MCP's ``cancel``, which is no refusal. Made for mcp 2 (2.3): its `Client` and its
`ClientSession`.
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

#: Key of a person's comment in the result's metadata: the protocol has no field for it.
COMMENT = "spanpost/comment"
#: Maximum number of stored refusals; older ones are dropped.
_KEPT = 100
#: Maximum characters of a server's untrusted texts.
_QUESTION, _DETAIL = 2_000, 10_000


class Elicitation:
    """Answers a server's elicitations with people's decisions: the `elicitation_callback` of one client.

    `server` is the name that people read. `name` returns a question's id. Without `name`, a question in a
    task with a `task_id` is identified by its words and their number of repetitions, so a restarted task
    finds earlier answers. In any other case each question is new.
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
        """Return sentences for the model about the refusals since the last call: who denied and why, or no
        decision.

        The server receives only ``decline`` or ``cancel``, so it cannot explain it to the model.
        """
        refusals = list(self._refusals)
        self._refusals.clear()
        return refusals

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult | types.ErrorData:
        """Ask a person the server's question, and return the answer."""
        form = None if isinstance(params, types.ElicitRequestURLParams) else read_form(params.requested_schema)
        lines = [f"asked by the MCP server {self._server}"]
        if isinstance(params, types.ElicitRequestURLParams):
            lines += [params.url, "To approve is to say that you open it; nothing opens it for you."]
        elif form is not None:
            lines += [field.shown for field in form.fields] + ([form.hint] if form.hint else [])
        try:
            question = _clipped(params.message.strip(), _QUESTION) or "The server asks"
            return await self._ask(question, lines, form, self._id(params))
        except ControlUnavailable as error:
            # The reason may name an address that the server must not learn.
            _log.warning("a question of the MCP server %s cannot be asked: %s", self._server, error)
            return types.ErrorData(code=types.INTERNAL_ERROR, message="no person can be asked at the moment")

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

    async def _ask(self, question: str, lines: list[str], form: Form | None, id: str | None) -> types.ElicitResult:
        """Ask until the answer fills in the form.

        After an unfit answer the question is asked again, with the reason.
        """
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
        is_undecided = decision.expired and not decision.denied
        return types.ElicitResult(action="cancel" if is_undecided else "decline", _meta=_meta(decision))


def _meta(decision: Decision) -> dict[str, Any] | None:
    return {COMMENT: decision.comment} if decision.comment else None


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
