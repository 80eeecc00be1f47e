"""What goes to Slack's Web API and comes back, and the places that calls are made to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class SlackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the Web API."""

    method: str
    arguments: dict[str, Any] = {}
    #: Where a file's content goes, and the content: no method, an address that Slack has just named.
    upload_to: str = ""
    content: bytes = b""
    #: What goes wrong with it is answered, not raised: the delivery goes on without.
    is_optional: bool = False

    @property
    def is_form(self) -> bool:
        """True for methods that take forms, not JSON."""
        return self.is_reading or self.method.startswith("files.")

    @property
    def is_reading(self) -> bool:
        """True when the call changes nothing at Slack, so that it is never in doubt."""
        if self.method.startswith("conversations."):
            return self.method != "conversations.join"
        return self.method in ("auth.test", "chat.getPermalink")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What Slack answered: the HTTP status, the body, and of the headers what is used."""

    status: int = 200
    body: dict[str, Any] = {}
    #: Seconds, as the header gives them.
    retry_after: float | None = None
    #: Slack's clock (the header ``Date``), in seconds since 1970.
    date: float | None = None
    #: Scopes of the token (the header ``X-OAuth-Scopes``); None when the answer names none.
    scopes: tuple[str, ...] | None = None

    @property
    def error(self) -> str:
        """Slack's word for what went wrong; empty when nothing did, or the answer is not Slack's."""
        error = self.body.get("error")
        return error[:100] if isinstance(error, str) else ""


#: A conversation with Slack, without a network: yields requests, is sent responses.
Talk = Generator[SlackRequest, Response, T]


class SlackPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a delivery goes, and the keys of the budgets that calls there draw on."""

    workspace: str = "default"
    #: As it was set or routed: an id (``C…``), or a name.
    channel: str
    #: Where a task's message goes when this channel takes none.
    fallback: str = ""
    #: Why this channel took none a while ago: then the fallback at once. Empty: nothing is known against it.
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
