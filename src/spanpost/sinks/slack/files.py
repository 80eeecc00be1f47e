"""A long log as a file in the thread: Slack's two calls, and the upload between them.

Nothing here raises: the reply is posted without its file, and the receipt says why. A file that was uploaded
and not shared is visible to no one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from spanpost.sinks.slack.calls import Response, SlackRequest

URL, SHARE = "files.getUploadURLExternal", "files.completeUploadExternal"
NAME: Final = "log.txt"


class File(msgspec.Struct, frozen=True):
    """A file that is uploaded and not shared yet; without an id, the reason."""

    id: str = ""
    missing: str = ""


def upload(text: str | None) -> Generator[SlackRequest, Response, File | None]:
    """Upload a text; None without a text."""
    if text is None:
        return None
    content = text.encode("utf-8", "replace")
    asked = yield SlackRequest(method=URL, arguments={"filename": NAME, "length": len(content)}, is_optional=True)
    address, id = asked.body.get("upload_url"), asked.body.get("file_id")
    if asked.body.get("ok") is not True or not isinstance(address, str) or not isinstance(id, str):
        return File(missing=asked.error or "bad_answer")
    sent = yield SlackRequest(method="upload", upload_to=address, content=content, is_optional=True)
    return File(id=id) if sent.body.get("ok") is True else File(missing=sent.error or f"http_{sent.status}")


def share(file: File, channel: str, thread: str) -> Generator[SlackRequest, Response, str]:
    """Share an uploaded file in a thread; return the error, empty on success."""
    if file.missing:
        return file.missing
    shown = msgspec.json.encode([{"id": file.id, "title": NAME}]).decode()
    where = {"files": shown, "channel_id": channel, "thread_ts": thread}
    response = yield SlackRequest(method=SHARE, arguments=where, is_optional=True)
    return "" if response.body.get("ok") is True else response.error or "bad_answer"
