"""Acts over HTTP: the same rules, rows and duplicates as a click in Slack."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query

from spanpost.http.errors import HttpError
from spanpost.interactions.acts import ActOutcome, RequestedAct, Start
from spanpost.interactions.api import schemas
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.cursors import read
from spanpost.interactions.api.errors import INVALID, NOT_FOUND, REFUSED
from spanpost.interactions.api.parts import ApiParts, TheParts, TheReader, Who
from spanpost.interactions.api.possible import answers_to, interactions_of, launchers_of, place_of
from spanpost.interactions.api.requests import (
    ApprovalListQuery,
    Comment,
    DecisionBody,
    IdempotencyKey,
    MessageBody,
    WorkBody,
    uid_of,
)
from spanpost.interactions.api.responses import ApiJson, asked_json, page_json
from spanpost.interactions.api.tasks import task_of
from spanpost.interactions.subjects import questions_named, subject_of
from spanpost.model.interventions import ApprovalRow, Result, Verb
from spanpost.model.queries import ApprovalFilter, ApprovalKey, TaskQuestion
from spanpost.tasks.interventions import option_of, verb_of, words_of

router = APIRouter(tags=["acts"])
_ANSWERS: dict[int | str, dict[str, Any]] = INVALID | NOT_FOUND | REFUSED

#: Reasons why an act has no effect.
_NO_EFFECT = {
    Result.DECIDED: "it was decided before, and the first answer stands",
    Result.VOID: "the agent has asked this again in other words: answer that question",
    Result.HIDDEN: "part of the question is hidden or was cut, so it cannot be approved; it can be denied",
    Result.EXPIRED: "the time for an answer is over",
    Result.TOO_LATE: "the task has ended, or is in a state in which this cannot be done",
}


@router.get("/api/approvals", response_model=schemas.Items[schemas.QuestionBody], responses=INVALID | NOT_FOUND)
async def approvals(
    caller: Who, reader: TheReader, parts: TheParts, asked: Annotated[ApprovalListQuery, Query()]
) -> ApiJson:
    """List questions to people, newest first."""
    after = read(asked.cursor, ApprovalKey)
    uid = await uid_of(reader, caller, asked.task, "task")
    found = ApprovalFilter(tenant=caller.tenant, state=asked.state, agent=asked.agent, risk=asked.risk, task_uid=uid)
    page = await reader.approvals(found, after, asked.limit)
    may = await answers_to(parts, caller, page.items)
    return page_json(page, map(asked_json, page.items, may))


@router.post("/api/approvals/{key:path}/decision", response_model=schemas.ActResult, responses=_ANSWERS)
async def decide(
    caller: Who,
    parts: TheParts,
    key: str,
    body: DecisionBody,
    idempotency_key: IdempotencyKey = None,
) -> ApiJson:
    """Decide a question by its key (or by the agent's id of it). The first decision stands."""
    row = await _named(parts, caller, key)
    word = option_of(row, body.decision)
    verb = verb_of(row, word)
    if verb is None:
        raise HttpError(
            422, "invalid", f"is no answer to it; answer {' or '.join(words_of(row))[:300]}", field="decision"
        )
    option = row.options.index(word) if verb is Verb.CHOOSE else None
    return result_of(await _do(parts, caller, verb, row.key, body.comment, idempotency_key, option=option))


# After the other route, whose path this one would take for a key.
@router.get("/api/approvals/{key:path}", response_model=schemas.QuestionBody, responses=NOT_FOUND)
async def approval(caller: Who, parts: TheParts, key: str) -> ApiJson:
    """Return a whole question by its key (or by the agent's id of it)."""
    row = await _named(parts, caller, key)
    asked = await subject_of(parts.reader, parts.interventions, row.key, place_of(caller))
    question = TaskQuestion(row=row, task=asked.task if asked is not None else None)
    [may] = await answers_to(parts, caller, [question])
    return ApiJson(asked_json(question, may))


async def _named(parts: ApiParts, caller: Caller, key: str) -> ApprovalRow:
    """Return the one question with a key or an id. Raises `HttpError`."""
    found = await questions_named(parts.interventions, caller.tenant, key) if "\0" not in key else ()
    if not found:
        raise HttpError(404, "not_found", "no question is known by that key")
    if len(found) > 1:
        keys = ", ".join(str(one.key) for one in found[:5])
        raise HttpError(409, "several", f"that id was asked in {len(found)} wordings: name one by its key ({keys})")
    return found[0]


def _on_task(verb: Verb, does: str) -> Callable[..., Any]:
    async def act(
        caller: Who,
        reader: TheReader,
        parts: TheParts,
        id: str,
        body: Comment | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> ApiJson:
        task = await task_of(reader, caller, id)
        return result_of(
            await _do(parts, caller, verb, task.uid, body.comment if body is not None else "", idempotency_key)
        )

    act.__name__ = str(verb)
    act.__doc__ = does
    return act


for _verb, _does in (
    (Verb.CANCEL, "Ask a task to stop. It runs on until the agent reacts."),
    (Verb.PAUSE, "Ask a task to pause."),
    (Verb.RESUME, "Ask a paused task to continue."),
    (Verb.RETRY, "Start a task again, as a new one, if a launcher for it is configured."),
    (Verb.MUTE, "Mute a task: fewer notifications."),
    (Verb.UNMUTE, "Unmute a task."),
):
    router.post(f"/api/tasks/{{id:path}}/{_verb}", response_model=schemas.ActResult, responses=_ANSWERS)(
        _on_task(_verb, _does)
    )


@router.post("/api/tasks/{id:path}/messages", response_model=schemas.ActResult, responses=_ANSWERS)
async def message(
    caller: Who,
    reader: TheReader,
    parts: TheParts,
    id: str,
    body: MessageBody,
    idempotency_key: IdempotencyKey = None,
) -> ApiJson:
    """Send a message to a task's agent."""
    task = await task_of(reader, caller, id)
    return result_of(await _do(parts, caller, Verb.MESSAGE, task.uid, body.text, idempotency_key))


@router.get("/api/launchers", response_model=schemas.Items[schemas.LauncherBody])
async def launchers(caller: Who, parts: TheParts) -> ApiJson:
    """List the launchers that the caller may start."""
    found = await launchers_of(parts, caller)
    return ApiJson({"items": [{"name": name} for name in found], "next": None})


@router.post("/api/launchers/{name}/start", response_model=schemas.ActResult, responses=_ANSWERS)
async def start(
    caller: Who, parts: TheParts, name: str, body: WorkBody | None = None, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """Order new work from a launcher. The task that results carries the `order_id`."""
    interactions, place = interactions_of(parts, caller), place_of(caller)
    if name not in parts.launches.launchers and (await interactions.may_start(name, caller.id, place)).is_granted:
        raise HttpError(404, "not_found", "there is no launcher by that name; /api/launchers lists them")
    work = body if body is not None else WorkBody()
    said = f"{Verb.START}\0{name}\0{work.text}\0{sorted(work.parameters.items())}"
    order = Start(
        launcher=name,
        text=work.text,
        parameters=work.parameters,
        user=caller.id,
        message=place,
        idempotency_key=_idempotency_key_of(caller, idempotency_key, said),
        at=datetime.now(UTC),
    )
    return result_of(await interactions.start(order))


async def _do(
    parts: TheParts,
    caller: Caller,
    verb: Verb,
    key: UUID,
    text: str,
    idempotency_key: str | None,
    *,
    option: int | None = None,
) -> ActOutcome:
    act = RequestedAct(
        verb=verb,
        key=key,
        user=caller.id,
        message=place_of(caller),
        option=option,
        text=text,
        idempotency_key=_idempotency_key_of(caller, idempotency_key, f"{verb}\0{key}\0{option}\0{text}"),
        at=datetime.now(UTC),
    )
    return await interactions_of(parts, caller).do(act)


def _idempotency_key_of(caller: Caller, said: str | None, what: str) -> str:
    """Return the idempotency key of an act."""
    if said is None:
        return f"{caller.provider}\0{uuid4()}"
    # A key with another body is another act, so that no request gets the answer of another.
    return f"{caller.provider}\0{caller.id}\0{said}\0{sha256(what.encode('utf-8', 'replace')).hexdigest()}"


def result_of(outcome: ActOutcome) -> ApiJson:
    """Return the outcome of an act. Raises `HttpError` if the act has no effect."""
    verdict = outcome.verdict
    assert verdict is not None
    match verdict.result:
        case Result.DONE:
            return ApiJson(
                {
                    "result": "done",
                    "task_id": verdict.task_id or None,
                    "decision": verdict.decision or None,
                    "by": verdict.by or None,
                    "order_id": str(verdict.order_id) if verdict.order_id is not None else None,
                    "is_repeat": verdict.is_repeat,
                }
            )
        case Result.REFUSED:
            raise HttpError(403, "refused", outcome.refusal or "the authorization rules refused it")
        case Result.UNKNOWN:
            raise HttpError(404, "not_found", outcome.refusal or "there is no such thing")
    why = _NO_EFFECT[verdict.result]
    if verdict.decision == Verb.RETRY:
        why = f"it is being tried again already{f', as {verdict.by[:100]} asked' if verdict.by else ''}"
    elif verdict.decision:
        why += f" ({verdict.decision[:100]}{f' by {verdict.by[:100]}' if verdict.by else ''})"
    raise HttpError(409, str(verdict.result), why)
