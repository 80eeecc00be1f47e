"""Acts over HTTP: the same rules, rows and duplicates as a click in Slack."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query

from spanpost.http.errors import HttpError
from spanpost.interactions.api import schemas
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.cursors import read
from spanpost.interactions.api.errors import INVALID, NOT_FOUND, REFUSED
from spanpost.interactions.api.parts import ApiParts, TheParts, TheReader, Who
from spanpost.interactions.api.people import note_reads
from spanpost.interactions.api.possible import answers_to, interactions_of, launchers_of, place_of
from spanpost.interactions.api.requests import (
    ApprovalListQuery,
    BatchBody,
    Comment,
    DecisionBody,
    IdempotencyKey,
    MessageBody,
    RatingBody,
    StandingListQuery,
    WorkBody,
    uid_of,
)
from spanpost.interactions.api.responses import ApiJson, asked_json, page_json
from spanpost.interactions.api.tasks import task_of
from spanpost.interactions.requested_acts import ActOutcome, RequestedAct, Start, WrongParameters
from spanpost.interactions.subjects import questions_named, subject_of
from spanpost.model.acts import NO_TASK, ContentKind
from spanpost.model.interventions import ApprovalRow, Result, Verb
from spanpost.model.queries import ApprovalFilter, ApprovalKey, TaskQuestion
from spanpost.model.standing_approvals import Scope, StandingQuery
from spanpost.model.task_acts import TASK_ACTS, TaskAct
from spanpost.model.tasks import Task
from spanpost.routing.parameters import Parameter
from spanpost.store.protocols import Reader
from spanpost.tasks.interventions import option_of, verb_of, words_of
from spanpost.tasks.json_form import standing_json
from spanpost.text.locales import ENGLISH

router = APIRouter(tags=["acts"])
_ANSWERS: dict[int | str, dict[str, Any]] = INVALID | NOT_FOUND | REFUSED


@router.get("/api/approvals", response_model=schemas.Items[schemas.QuestionBody], responses=INVALID | NOT_FOUND)
async def approvals(
    caller: Who, reader: TheReader, parts: TheParts, asked: Annotated[ApprovalListQuery, Query()]
) -> ApiJson:
    """List questions to people, newest first."""
    after = read(asked.cursor, ApprovalKey)
    uid = await uid_of(reader, caller, asked.task, "task")
    found = ApprovalFilter(
        tenant=caller.tenant,
        state=asked.state,
        agent=asked.agent,
        risk=asked.risk,
        task_uid=uid,
        begins=asked.begins,
    )
    page = await reader.approvals(found, after, asked.limit)
    await note_reads(parts, caller, ContentKind.QUESTION, [one.row.task_uid for one in page.items])
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
    try:
        row = await _named(parts, caller, key)
    except HttpError:
        asked = Verb(body.decision) if body.decision in (Verb.APPROVE, Verb.DENY) else Verb.CHOOSE
        await _note_unknown(parts, caller, asked, key)
        raise
    if body.scope is not Scope.ONCE and body.decision != Verb.APPROVE:
        raise HttpError(422, "invalid", "goes with the decision approve alone", field="scope")
    word = option_of(row, body.decision)
    verb = verb_of(row, word)
    if verb is None:
        raise HttpError(
            422, "invalid", f"is no answer to it; answer {' or '.join(words_of(row))[:300]}", field="decision"
        )
    option = row.options.index(word) if verb is Verb.CHOOSE else None
    return result_of(
        await _do(parts, caller, verb, row.key, body.comment, idempotency_key, option=option, scope=body.scope)
    )


@router.post("/api/approvals/decide", response_model=schemas.Items[schemas.BatchItem], responses=INVALID)
async def decide_several(
    caller: Who, parts: TheParts, body: BatchBody, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """Give several questions one answer. Each is decided by itself: one that cannot be decided stops no other."""
    verb, items = Verb(body.decision), []
    for key in dict.fromkeys(body.keys):
        items.append(batch_item(key, await _do(parts, caller, verb, key, body.comment, idempotency_key)))
    return ApiJson({"items": items, "next": None})


@router.get("/api/standing-approvals", response_model=schemas.Items[schemas.StandingBody], responses=INVALID)
async def standing_approvals(caller: Who, parts: TheParts, asked: Annotated[StandingListQuery, Query()]) -> ApiJson:
    """List standing approvals, newest first: what people allow beyond one question."""
    query = StandingQuery(tenant=caller.tenant, is_in_force=not asked.all, limit=asked.limit)
    found = await parts.interventions.standing_approvals(query)
    return ApiJson({"items": [standing_json(one) for one in found], "next": None})


@router.post("/api/standing-approvals/{id}/revoke", response_model=schemas.ActResult, responses=_ANSWERS)
async def revoke(
    caller: Who, parts: TheParts, id: UUID, body: Comment | None = None, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """Revoke a standing approval. It covers no question from then on."""
    return result_of(
        await _do(parts, caller, Verb.REVOKE, id, body.comment if body is not None else "", idempotency_key)
    )


# After the other route, whose path this one would take for a key.
@router.get("/api/approvals/{key:path}", response_model=schemas.QuestionBody, responses=NOT_FOUND)
async def approval(caller: Who, parts: TheParts, key: str) -> ApiJson:
    """Return a whole question by its key (or by the agent's id of it)."""
    row = await _named(parts, caller, key)
    await note_reads(parts, caller, ContentKind.QUESTION, [row.task_uid])
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


async def _task_to_change(parts: ApiParts, reader: Reader, caller: Caller, verb: Verb, id: str) -> Task:
    """Return the caller's task with an id. Raises `HttpError`; the try is recorded."""
    try:
        return await task_of(reader, caller, id)
    except HttpError:
        await _note_unknown(parts, caller, verb, id)
        raise


async def _note_unknown(parts: ApiParts, caller: Caller, verb: Verb, id: str) -> None:
    """Record an act on something that is not known in the caller's tenant."""
    await _do(parts, caller, verb, NO_TASK, "", None, parameters={"id": id[:200]})


def _route(act: TaskAct) -> None:
    """Add the route of an act on a task."""

    async def with_comment(
        caller: Who,
        reader: TheReader,
        parts: TheParts,
        id: str,
        body: Comment | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> ApiJson:
        task = await _task_to_change(parts, reader, caller, act.verb, id)
        text = body.comment if body is not None else ""
        return result_of(await _do(parts, caller, act.verb, task.uid, text, idempotency_key))

    async def with_text(
        caller: Who,
        reader: TheReader,
        parts: TheParts,
        id: str,
        body: MessageBody,
        idempotency_key: IdempotencyKey = None,
    ) -> ApiJson:
        task = await _task_to_change(parts, reader, caller, act.verb, id)
        return result_of(await _do(parts, caller, act.verb, task.uid, body.text, idempotency_key))

    async def with_rating(
        caller: Who,
        reader: TheReader,
        parts: TheParts,
        id: str,
        body: RatingBody,
        idempotency_key: IdempotencyKey = None,
    ) -> ApiJson:
        task = await _task_to_change(parts, reader, caller, act.verb, id)
        option = act.options.index(body.rating)
        return result_of(await _do(parts, caller, act.verb, task.uid, body.comment, idempotency_key, option=option))

    does: Callable[..., Any] = with_text if act.needs_text else with_rating if act.options else with_comment
    does.__name__, does.__doc__ = str(act.verb), act.does
    path = f"/api/tasks/{{id:path}}/{act.path}"
    router.post(path, response_model=schemas.ActResult, responses=_ANSWERS)(does)


for _act in TASK_ACTS.values():
    _route(_act)


@router.get("/api/launchers", response_model=schemas.Items[schemas.LauncherBody])
async def launchers(caller: Who, parts: TheParts) -> ApiJson:
    """List the launchers that the caller may start."""
    found = await launchers_of(parts, caller)
    items = [{"name": name, "parameters": list(map(_parameter, parts.launches.declared(name)))} for name in found]
    return ApiJson({"items": items, "next": None})


def _parameter(one: Parameter) -> dict[str, Any]:
    """Return a declared parameter as JSON."""
    return {field: getattr(one, field) for field in schemas.ParameterBody.model_fields}


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
        idempotency_key=idempotency_key_of(caller, idempotency_key, said),
        at=datetime.now(UTC),
    )
    try:
        return result_of(await interactions.start(order))
    except WrongParameters as wrong:
        fields = {f"parameters.{name}": ENGLISH.tell(fault) for name, fault in wrong.faults.items()}
        raise HttpError(422, "invalid", str(wrong), fields=fields) from None


async def _do(
    parts: TheParts,
    caller: Caller,
    verb: Verb,
    key: UUID,
    text: str,
    idempotency_key: str | None,
    *,
    option: int | None = None,
    scope: Scope = Scope.ONCE,
    parameters: dict[str, str] | None = None,
) -> ActOutcome:
    act = RequestedAct(
        verb=verb,
        key=key,
        user=caller.id,
        message=place_of(caller),
        scope=scope,
        option=option,
        text=text,
        parameters=parameters or {},
        idempotency_key=idempotency_key_of(caller, idempotency_key, f"{verb}\0{key}\0{option}\0{scope}\0{text}"),
        at=datetime.now(UTC),
    )
    return await interactions_of(parts, caller).do(act)


def idempotency_key_of(caller: Caller, said: str | None, what: str) -> str:
    """Return the idempotency key of an act."""
    if said is None:
        return f"{caller.provider}\0{uuid4()}"
    # A key with another body is another act, so that no request gets the answer of another.
    return f"{caller.provider}\0{caller.id}\0{said}\0{sha256(what.encode('utf-8', 'replace')).hexdigest()}"


def batch_item(key: UUID, outcome: ActOutcome) -> dict[str, Any]:
    """Return the outcome for one question of several."""
    verdict, reason = outcome.verdict, None
    assert verdict is not None
    try:
        result_of(outcome)
    except HttpError as error:
        reason = str(error.detail)
    return {
        "key": str(key),
        "result": str(verdict.result),
        "decision": verdict.decision or None,
        "by": verdict.by or None,
        "reason": reason,
    }


def result_of(outcome: ActOutcome) -> ApiJson:
    """Return the outcome of an act. Raises `HttpError` if the act has no effect."""
    verdict = outcome.verdict
    assert verdict is not None
    match verdict.result:
        case Result.DONE | Result.COUNTED:
            return ApiJson(
                {
                    "result": str(verdict.result),
                    "task_id": verdict.task_id or None,
                    "decision": verdict.decision or None,
                    "by": verdict.by or None,
                    "order_id": str(verdict.order_id) if verdict.order_id is not None else None,
                    "approvals": verdict.approvals,
                    "needs": verdict.needs,
                    "standing_approval": str(verdict.rule) if verdict.rule is not None else None,
                    "is_repeat": verdict.is_repeat,
                    "message": outcome.sentence,
                }
            )
        case Result.REFUSED:
            raise HttpError(403, "refused", outcome.refusal or "the authorization rules refused it")
        case Result.UNKNOWN:
            raise HttpError(404, "not_found", outcome.sentence)
    raise HttpError(409, str(verdict.result), outcome.sentence)
