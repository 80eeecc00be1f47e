"""Webhooks: their providers, and what is done with a request."""

from __future__ import annotations

import msgspec

from spanpost.interactions.webhooks.schemes import Scheme
from spanpost.model.interventions import Verb
from spanpost.routing.matching import Wanted


class Does(msgspec.Struct, frozen=True, kw_only=True):
    """The act for a request that meets the conditions. Texts are templates."""

    when: tuple[tuple[str, Wanted], ...] = ()
    start: str = ""
    text: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    task: str = ""
    verb: Verb = Verb.MESSAGE
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
