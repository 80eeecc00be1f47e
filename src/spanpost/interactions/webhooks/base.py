"""Webhooks: what they need of the store, and their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from spanpost.interactions.webhooks.schemes import Scheme
from spanpost.model.interventions import ApprovalRow, Intervention, Verdict
from spanpost.model.launch_orders import Order, Taken
from spanpost.model.tasks import Task
from spanpost.routing.matching import Wanted


class WebhookRecorder(Protocol):
    """**Protocol:** what webhooks need of the store. All methods raise `StoreUnavailable`."""

    async def order(self, order: Order, *, signature: str = "") -> Taken:
        """Place an order once, and have it delivered."""
        ...

    async def intervene(self, intervention: Intervention) -> Verdict: ...

    async def refer(self, tenant: str, ref: str) -> Task | None: ...

    async def questions_named(self, tenant: str, ref: str) -> Sequence[ApprovalRow]:
        """Return a question by its key; or by an agent's id all that it may mean, one for each wording."""
        ...


@dataclass(frozen=True, kw_only=True)
class Does:
    """The act for a request that meets the conditions. Texts are templates."""

    when: Mapping[str, Wanted] = field(default_factory=dict)
    start: str = ""
    text: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    verb: Literal["message", "cancel", "pause", "resume", "mute", "unmute"] = "message"
    approval: str = ""
    decision: str = ""
    by: str = ""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A program that sends requests."""

    name: str
    tenant: str
    scheme: Scheme
    keys: tuple[bytes, ...]
    idempotency_key: str = ""
    does: tuple[Does, ...] = ()
