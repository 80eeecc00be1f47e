"""Cursors of lists and of the stream: opaque text, refused if it is not ours."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from spanpost.http.errors import HttpError
from spanpost.model.queries import Position

T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 400


def written(key: object) -> str | None:
    """Return a key as a cursor; None for None."""
    return (
        urlsafe_b64encode(msgspec.json.encode(msgspec.to_builtins(key))).decode().rstrip("=")
        if key is not None
        else None
    )


def read(text: str | None, kind: type[T], field: str = "cursor") -> T | None:
    """Return the key of a cursor. Raises `HttpError`."""
    if not text:
        return None
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        found = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
        # The driver converts to UTC as well, where a time at the calendar's edge overflows.
        fields = msgspec.structs.asdict(found)  # type: ignore[arg-type]
        times = {name: _utc(value) for name, value in fields.items() if isinstance(value, datetime)}
        return msgspec.structs.replace(found, **times)  # type: ignore[type-var]
    except (ValueError, OverflowError, UnicodeError, msgspec.MsgspecError):
        raise HttpError(
            422, "invalid", "is no cursor of this list; leave it out for the first page", field=field
        ) from None


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("no zone")
    return at.astimezone(UTC)


def position_text(position: Position) -> str:
    """Return a position in the stream as an event's id."""
    micros = (position.at - _EPOCH) // timedelta(microseconds=1)
    return f"{position.number}.{micros}.{position.id.hex}"


def position_of(text: str) -> Position:
    """Return the position of an event's id. Raises `HttpError`."""
    try:
        number, micros, id = text.split(".")
        if not (number.isascii() and number.isdigit() and len(number) < 20 and len(id) == 32 and len(micros) < 20):
            raise ValueError("no place")
        return Position(int(number), _EPOCH + timedelta(microseconds=int(micros)), UUID(id))
    except (ValueError, OverflowError):
        raise HttpError(
            422, "invalid", "is no id of this stream; leave it out to begin now", field="Last-Event-ID"
        ) from None
