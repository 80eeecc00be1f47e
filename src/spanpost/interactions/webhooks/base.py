"""Webhooks: providers, and the acts for their requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from spanpost.interactions.webhooks.schemes import WINDOW, Scheme
from spanpost.routing.matching import Wanted


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
    #: Largest difference between a request's signed time and ours, seconds.
    window: float = WINDOW
    does: tuple[Does, ...] = ()
