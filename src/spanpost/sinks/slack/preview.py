"""Replacement for Slack without a token: it writes each call down, and answers as Slack would."""

from __future__ import annotations

import json
import sys
from typing import Final, Protocol, TextIO

from spanpost.model.errors import Unavailable
from spanpost.sinks.slack.calls import Response, SlackRequest

#: Prefix of a preview's made-up `ts`; none of Slack's begins so.
PREVIEWED: Final = "0."


class Transport(Protocol):
    """**Protocol:** make calls of the Web API.

    Raises `Unavailable` when nothing was sent, and `DeliveryUncertain` when the call may have been sent.
    """

    async def call(self, request: SlackRequest) -> Response: ...

    async def close(self) -> None: ...


class Preview:
    """Writes each call as a line of JSON and answers as Slack would."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._posted = 0

    async def call(self, request: SlackRequest) -> Response:
        """Write the call; posts get a made-up `ts`."""
        file = self._file or sys.stderr
        # ASCII only: no character may control a terminal.
        arguments = request.arguments | (
            {"content": request.content.decode("utf-8", "replace")} if request.upload_to else {}
        )
        said = json.dumps({"method": request.method, "arguments": arguments})
        try:
            file.write(said + "\n")
            file.flush()
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot write the preview: {error}", reason="closed") from error
        ts = request.arguments.get("ts")
        if ts is None and request.method == "chat.postMessage":
            self._posted += 1
            ts = f"{PREVIEWED}{self._posted:06d}"
        if request.upload_to:
            return Response(body={"ok": True})
        if request.method == "files.getUploadURLExternal":
            return Response(
                body={"ok": True, "upload_url": "https://files.slack.com/preview", "file_id": f"F{self._posted:06d}"}
            )
        return Response(body={"ok": True, "channel": request.arguments.get("channel", ""), "ts": ts})

    async def close(self) -> None: ...
