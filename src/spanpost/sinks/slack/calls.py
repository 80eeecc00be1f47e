"""Requests to Slack's Web API, its responses, and the places that messages go to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class SlackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the Web API."""

    method: str
    arguments: dict[str, Any] = {}
    #: Upload address that Slack has just named, and the file's content. Such a request has no method.
    upload_to: str = ""
    content: bytes = b""
    #: Errors are returned, not raised: the delivery goes on without this call.
    is_optional: bool = False

    @property
    def is_form(self) -> bool:
        """Tell whether the method takes a form, not JSON."""
        return self.is_reading or self.method.startswith("files.")

    @property
    def is_reading(self) -> bool:
        """Tell whether the call changes nothing at Slack, so that it is never in doubt."""
        if self.method.startswith("conversations."):
            return self.method != "conversations.join"
        return self.method in ("auth.test", "chat.getPermalink", "users.lookupByEmail")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """Slack's answer: the HTTP status, the body, and the headers in use."""

    status: int = 200
    body: dict[str, Any] = {}
    #: Seconds, from the header ``Retry-After``.
    retry_after: float | None = None
    #: Slack's clock (the header ``Date``), in seconds since 1970.
    date: float | None = None
    #: Scopes of the token (the header ``X-OAuth-Scopes``); None when the answer names none.
    scopes: tuple[str, ...] | None = None

    @property
    def error(self) -> str:
        """Slack's error code; empty without an error, or if the answer is not Slack's."""
        error = self.body.get("error")
        return error[:100] if isinstance(error, str) else ""


#: A conversation with Slack without a network: yields requests, is sent responses, returns a result.
Talk = Generator[SlackRequest, Response, T]


class SlackPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Target of a delivery, and the keys of the rate limits of calls there."""

    workspace: str = "default"
    #: As set or routed: an id (``C…``) or a name.
    channel: str
    #: Channel for a task's message if this channel refuses it.
    fallback: str = ""
    #: Why this channel refused a message recently, so that the fallback is used at once. Empty: it did not.
    refused: str = ""

    @property
    def whole(self) -> str:
        """Key of the workspace."""
        return f"slack:{self.workspace}"

    @property
    def address(self) -> str:
        """Key of the channel."""
        return f"slack:{self.workspace}/{self.channel}"

    def method(self, name: str) -> str:
        """Key of a method, for the whole workspace."""
        return f"slack:{self.workspace}:{name}"
