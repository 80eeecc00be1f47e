"""`POST /control/v1/hooks/{program}`: a permission hook asks, waits, and gets its program's answer.

Rules. The request is held open until a person decides, the wait is over or the client goes away. Only a
decision that a person or a standing approval made through spanpost is an answer; everything else is no
opinion, and the program's own prompt stands. When nothing waits any more, the question is withdrawn.
With ``?defer=true`` a call of a headless run is answered at once: `answering`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse

from spanpost import semconv as c
from spanpost.control_protocol import DEFER, HOOKS, WAIT
from spanpost.http.asgi import TooLong, address_of, read_body
from spanpost.http.authentication import Authenticator
from spanpost.http.errors import HttpError
from spanpost.http.routing import HttpRoute
from spanpost.http.shares import Sender
from spanpost.http.tokens import SenderTokens
from spanpost.interactions.answers import Answers, UnknownQuestion
from spanpost.interactions.hooks.answering import NOT_RECORDED, NOT_RESUMABLE, answer_of, deferred
from spanpost.interactions.hooks.events import BadEvent, HookEvent, event_of
from spanpost.interactions.hooks.programs import NO_OPINION, PROGRAMS, HookAnswer, HookKind, HookProgram
from spanpost.interactions.hooks.questions import (
    HookQuestion,
    deferred_of,
    notice_of,
    nth,
    question_of,
    records_of,
)
from spanpost.interactions.hooks.rules import HookRules
from spanpost.interactions.keeper import Keeper
from spanpost.interactions.waiting import Waiters
from spanpost.model.access_tokens import TokenScope
from spanpost.model.interventions import ApprovalRow, InterventionState
from spanpost.model.queries import ApprovalQuery
from spanpost.model.recorded import BudgetAct, Recorded
from spanpost.store.protocols import Interventions, Reader
from spanpost.tasks.asking import HOOK

log = logging.getLogger("spanpost.interactions.hooks")

#: Bytes of an event. A longer input is answered at the terminal.
MOST_BODY: Final = 1024 * 1024
#: The same prompt is asked so often in one prompt or turn; then it is left to the terminal.
MOST_TIMES: Final = 20
#: Why a question is withdrawn.
GONE, TIME_OVER = "the hook hung up: it was settled where the agent runs", "nobody answered in time"
AT_TERMINAL: Final = "it was settled where the agent runs"


class HooksEndpoint:
    """The endpoint. `key` returns the store's key; `take` publishes withdrawals and refusals."""

    def __init__(
        self,
        answers: Answers,
        reader: Reader,
        interventions: Interventions,
        sender_tokens: SenderTokens,
        waiters: Waiters,
        rules: HookRules,
        *,
        key: Callable[[], bytes],
        take: Callable[[Recorded], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._answers = answers
        self._reader = reader
        self._interventions = interventions
        self._authenticator = Authenticator(sender_tokens)
        self._waiters = waiters
        self.rules = rules
        self._key = key
        self._take = take
        self._now = now
        self._keeper = Keeper()
        #: Requests that wait for each question.
        self._waiting: Counter[tuple[str, str]] = Counter()

    @property
    def routes(self) -> list[HttpRoute]:
        """The route of this endpoint."""
        return [HttpRoute(HOOKS, self._called, ["POST"])]

    async def close(self, seconds: float) -> None:
        """Wait for withdrawals that are under way."""
        await self._keeper.close(seconds)

    async def _called(self, request: Request) -> JSONResponse:
        tenant = self._authenticator.tenant(request.scope, TokenScope.CONTROL)
        program = PROGRAMS.get(request.scope["path"].removeprefix(HOOKS))
        if program is None:
            known = ", ".join(PROGRAMS)
            raise HttpError(404, "not_found", f"there is no such program; there is {known}")
        asked, is_deferring = _query(request, program)
        wait = min(asked, self.rules.wait.total_seconds())
        try:
            body = await read_body(request.receive, MOST_BODY)
        except TooLong:
            raise HttpError(413, "too_large", f"it is longer than {MOST_BODY} bytes: answer it there") from None
        try:
            event = event_of(program, body)
        except BadEvent as error:
            raise HttpError(400, "invalid", str(error)) from None
        if is_deferring and event.kind is HookKind.TOOL:
            return _json(program, event, await self._deferred(tenant, event))
        return _json(program, event, await self._answer(request, tenant, event, wait))

    async def _deferred(self, tenant: str, event: HookEvent) -> HookAnswer:
        """Answer a call of a headless run at once. An error refuses it."""
        try:
            refused = await self._refused(tenant, event)
            if refused is not None:
                return refused
            rules = self.rules
            question = deferred_of(event, tenant, self._key(), rules)
            if question is None:
                return HookAnswer(is_allowed=False, reason=NOT_RESUMABLE)
            record = partial(self._record, tenant, question, event, None)
            return await deferred(self._answers, tenant, event, question, record, rules.resume)
        except Exception as error:
            log.warning("a deferred call of a headless run is refused: %s", error)
            return HookAnswer(is_allowed=False, reason=NOT_RECORDED)

    async def _refused(self, tenant: str, event: HookEvent) -> HookAnswer | None:
        """Return the refusal by a budget that is used up."""
        agent = {c.NAME: event.program.title}
        refusal = await self._answers.refusal(tenant, event.session, agent, event.tool, event.tool_input)
        if refusal is None:
            return None
        self._take(Recorded(budget_acts=[BudgetAct(refusal.budget, tenant, "refuse")]))
        return HookAnswer(is_allowed=False, reason=refusal.reason)

    async def _answer(self, request: Request, tenant: str, event: HookEvent, wait: float) -> HookAnswer:
        if event.kind is HookKind.NOTICE:
            await self._tell(tenant, event)
        if event.kind is HookKind.DONE:
            await self._withdraw_done(tenant, event)
        if event.kind not in (HookKind.PERMISSION, HookKind.TOOL):
            return NO_OPINION
        refused = await self._refused(tenant, event)
        if refused is not None:
            return refused
        if event.kind is HookKind.TOOL:
            return NO_OPINION

        async def otherwise() -> HookAnswer:
            return NO_OPINION

        sender = Sender(tenant, address_of(request.scope))
        answer: HookAnswer = await self._waiters.wait(
            sender,
            self._asked(tenant, event, wait),
            otherwise,
            request.receive,
            self._authenticator.until_refused(request.scope, TokenScope.CONTROL),
        )
        return answer

    async def _tell(self, tenant: str, event: HookEvent) -> None:
        task = await self._reader.refer(tenant, event.session)
        for record in notice_of(event, tenant, self._now(), task, shows=self.rules.input):
            await self._answers.ask(record)

    async def _withdraw_done(self, tenant: str, event: HookEvent) -> None:
        """Withdraw the questions of a session that are settled: of one call, or of all where it names none."""
        task = await self._reader.refer(tenant, event.session)
        mark = question_of(event, tenant, self._key(), self.rules).mark if event.tool else ""
        for asked in task.open_approvals if task is not None else ():
            if asked.key is not None and asked.id.startswith(HOOK) and mark in ("", asked.mark):
                self._take(await self._interventions.withdraw(asked.key, AT_TERMINAL))

    async def _asked(self, tenant: str, event: HookEvent, wait: float) -> HookAnswer:
        """Ask, wait and return the answer. However this ends, a question that nothing waits for is withdrawn."""
        # A record that is under way is finished: else it would not be known whether there is a question.
        opening = asyncio.ensure_future(self._open(tenant, event, wait))
        reason = GONE
        try:
            question = await asyncio.shield(opening)
            if question is None:
                return NO_OPINION
            answer = await self._answers.approval(tenant, question.id, question.mark, wait=wait)
            reason = TIME_OVER
            return answer_of(answer)
        except UnknownQuestion:  # it could not be recorded
            return NO_OPINION
        finally:
            self._keeper.keep(asyncio.ensure_future(self._leave(tenant, opening, reason)))

    async def _open(self, tenant: str, event: HookEvent, wait: float) -> HookQuestion | None:
        """Return the event's open question; record it where there is none. None: it cannot be asked."""
        first = question_of(event, tenant, self._key(), self.rules)
        for n in range(1, MOST_TIMES + 1):
            question = nth(first, n)
            # From now on another request does not withdraw it.
            self._waiting[tenant, question.id] += 1
            try:
                row = await self._row(tenant, question.id)
                if row is None:
                    await self._record(tenant, question, event, wait)
                    return question
                if row.state is InterventionState.OPEN and row.mark == question.mark:
                    return question
            except BaseException:
                self._give_back(tenant, question)
                raise
            self._give_back(tenant, question)
            if row.state is InterventionState.OPEN:
                return None  # somebody else uses its id
        return None

    def _give_back(self, tenant: str, question: HookQuestion) -> bool:
        """Count a request less; return whether none waits for the question any more."""
        self._waiting[tenant, question.id] -= 1
        if self._waiting[tenant, question.id] > 0:
            return False
        del self._waiting[tenant, question.id]
        return True

    async def _record(self, tenant: str, question: HookQuestion, event: HookEvent, wait: float | None) -> None:
        task = await self._reader.refer(tenant, event.session)
        await self._answers.ask_all(records_of(question, event, tenant, self.rules, self._now(), wait, task))

    async def _row(self, tenant: str, id: str) -> ApprovalRow | None:
        rows = await self._interventions.approvals(ApprovalQuery(tenant=tenant, approval_id=id, limit=1))
        return rows[0] if rows else None

    async def _leave(self, tenant: str, opening: asyncio.Future[HookQuestion | None], reason: str) -> None:
        """Withdraw a question that no request waits for any more. One that is decided stays as it is."""
        try:
            question = await opening
            if question is None or not self._give_back(tenant, question):
                return
            row = await self._row(tenant, question.id)
            if row is not None:
                self._take(await self._interventions.withdraw(row.key, reason))
        except Exception as error:  # its deadline closes it
            log.warning("a question of a permission hook is not withdrawn now: %s", error)


def _query(request: Request, program: HookProgram) -> tuple[float, bool]:
    """Return the seconds that the client waits at most, unbounded without them, and whether its calls are deferred."""
    try:
        query = dict(parse_qsl((request.scope.get("query_string") or b"").decode(), max_num_fields=8))
        wait = float(query.pop(WAIT, "inf"))
    except (ValueError, UnicodeDecodeError):
        raise HttpError(400, "invalid", "wait must be a number of seconds", field=WAIT) from None
    defer = query.pop(DEFER, "false")
    if query or not wait >= 0 or defer not in ("true", "false"):
        raise HttpError(400, "invalid", "the query is not understood; there is wait, in seconds, and defer=true")
    if defer == "true" and not program.resumes:
        raise HttpError(400, "invalid", f"a run of {program.title} cannot be deferred", field=DEFER)
    return wait, defer == "true"


def _json(program: HookProgram, event: HookEvent, answer: HookAnswer) -> JSONResponse:
    return JSONResponse(program.answer(event.name, answer), headers={"cache-control": "no-store"})
