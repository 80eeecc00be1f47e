"""Alerts over HTTP: listed, acknowledged and silenced, by the same rules and rows as a click in Slack."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from spanpost.http.errors import HttpError
from spanpost.interactions.alerts import AlertActs
from spanpost.interactions.api import schemas
from spanpost.interactions.api.acts import idempotency_key_of, result_of
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.errors import INVALID, NOT_FOUND, REFUSED
from spanpost.interactions.api.parts import ApiParts, TheParts, Who
from spanpost.interactions.api.possible import interactions_of, place_of
from spanpost.interactions.api.requests import Comment, IdempotencyKey, QueryBody
from spanpost.interactions.api.responses import ApiJson
from spanpost.interactions.requested_acts import RequestedAct
from spanpost.model.alerts import Alert
from spanpost.model.interventions import Verb
from spanpost.text.locales import ENGLISH
from spanpost.text.sanitise import scrub

router = APIRouter(tags=["alerts"])
_ANSWERS: dict[int | str, dict[str, Any]] = INVALID | NOT_FOUND | REFUSED


class SilenceBody(BaseModel):
    """The silence of an alert, as a person asked for it."""

    state: str = Field(description="`setting`, `active`, `ending`, `ended` or `failed`.")
    by: str
    until: datetime
    comment: str
    id: str = Field(description="Alertmanager's id of it.")
    failure: str | None = Field(description="Why Alertmanager did not do what was asked last.")


class AlertBody(BaseModel):
    """An alert. Its texts are a monitor's."""

    id: UUID
    name: str
    severity: str
    summary: str
    description: str
    source: str
    starts_at: datetime
    ends_at: datetime | None
    labels: dict[str, str]
    links: dict[str, str] = Field(description="By name: `Runbook`, `Dashboard`, `Panel`, `Query`, `Silence`.")
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    silence: SilenceBody | None


class AlertListQuery(QueryBody):
    """Which alerts to list."""

    state: Literal["firing", "resolved", "all"] = "firing"
    limit: Annotated[int, Field(ge=1, le=500)] = 50


class SilenceRequest(Comment):
    """How long an alert is to be silenced."""

    span: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,4}[mhd]|morning)$")] = Field(
        default="1h", alias="for", description="`30m`, `4h`, `2d`, or `morning`: until tomorrow at nine."
    )
    until: AwareDatetime | None = Field(default=None, description="The end; stands in place of `for`.")


@router.get("/api/alerts", response_model=schemas.Items[AlertBody], responses=INVALID)
async def alerts(caller: Who, parts: TheParts, asked: Annotated[AlertListQuery, Query()]) -> ApiJson:
    """List alerts, newest first."""
    is_firing = {"firing": True, "resolved": False, "all": None}[asked.state]
    found = await _acts(parts).store.listed(caller.tenant, is_firing, asked.limit)
    return ApiJson({"items": [alert_json(one) for one in found], "next": None})


@router.post("/api/alerts/{id}/acknowledge", response_model=schemas.ActResult, responses=_ANSWERS)
async def acknowledge(
    caller: Who, parts: TheParts, id: UUID, body: Comment | None = None, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """Say that you look after an alert. It no longer mentions people."""
    return await _do(parts, caller, Verb.ACKNOWLEDGE, id, body.comment if body is not None else "", idempotency_key)


@router.post("/api/alerts/{id}/silence", response_model=schemas.ActResult, responses=_ANSWERS)
async def silence(
    caller: Who, parts: TheParts, id: UUID, body: SilenceRequest, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """Silence an alert in the Alertmanager that it came from. Answered once Alertmanager has taken it."""
    until = body.until or _acts(parts).until(body.span, datetime.now(UTC))
    return await _do(parts, caller, Verb.SILENCE, id, body.comment, idempotency_key, until)


@router.post("/api/alerts/{id}/unsilence", response_model=schemas.ActResult, responses=_ANSWERS)
async def unsilence(
    caller: Who, parts: TheParts, id: UUID, body: Comment | None = None, idempotency_key: IdempotencyKey = None
) -> ApiJson:
    """End the silence of an alert."""
    return await _do(parts, caller, Verb.UNSILENCE, id, body.comment if body is not None else "", idempotency_key)


def _acts(parts: ApiParts) -> AlertActs:
    assert parts.alerts is not None
    return parts.alerts


async def _do(
    parts: ApiParts,
    caller: Caller,
    verb: Verb,
    key: UUID,
    text: str,
    idempotency_key: str | None,
    until: datetime | None = None,
) -> ApiJson:
    said = f"{verb}\0{key}\0{text}" + (f"\0{until.isoformat()}" if until is not None else "")
    act = RequestedAct(
        verb=verb,
        key=key,
        user=caller.id,
        message=place_of(caller),
        text=text,
        parameters={"until": until.isoformat()} if until is not None else {},
        idempotency_key=idempotency_key_of(caller, idempotency_key, said),
        at=datetime.now(UTC),
    )
    outcome = await interactions_of(parts, caller).do(act)
    if outcome.failure is not None:
        raise HttpError(502, f"alertmanager_{outcome.failure}", ENGLISH.say(f"alert.failed_{outcome.failure}"))
    return result_of(outcome)


def alert_json(alert: Alert) -> dict[str, Any]:
    """Return an alert as JSON."""
    silence = alert.silence
    return {
        "id": str(alert.id),
        "name": alert.name,
        "severity": alert.severity,
        "summary": alert.summary,
        "description": alert.description,
        "source": alert.source,
        "starts_at": alert.starts_at.isoformat(),
        "ends_at": alert.ends_at.isoformat() if alert.ends_at is not None else None,
        "labels": alert.labels,
        "links": alert.links,
        "acknowledged_by": alert.acknowledged_by or None,
        "acknowledged_at": alert.acknowledged_at.isoformat() if alert.acknowledged_at is not None else None,
        "silence": {
            "state": str(silence.state),
            "by": silence.by,
            "until": silence.until.isoformat(),
            "comment": scrub(silence.comment),
            "id": silence.id,
            "failure": str(silence.failure) if silence.failure is not None else None,
        }
        if silence is not None
        else None,
    }
