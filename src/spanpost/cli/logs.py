"""Logging of the command line on stderr: text for people, JSON lines for programs.

The library adds no handlers: logging belongs to the application. Every line passes the redaction, as the
last defence against a secret in a message.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spanpost.settings import LogSettings


#: Fields of JSON lines, where a line has them: what it is about, and of a request how it was answered.
FIELDS: Final = (
    "tenant", "task_id", "trace_id", "request_id", "method", "path", "status", "reason", "duration_ms", "client",
)  # fmt: skip


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from spanpost.text.sanitise import scrub

        return scrub(f"{record.levelname.lower()}: {super().format(record)}")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from spanpost.text.sanitise import scrub

        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(super().format(record)),
        }
        for name in FIELDS:
            if (value := getattr(record, name, "")) not in ("", None):
                entry[name] = scrub(value) if isinstance(value, str) else value
        return json.dumps(entry, ensure_ascii=True)


def configure(settings: LogSettings, *, quiet: bool = False) -> None:
    """Write the library's log to stderr. Safe to repeat: the last settings win.

    `quiet` is for short commands: they log only problems, unless a level was set.
    """
    logger = logging.getLogger("spanpost")
    for handler in [h for h in logger.handlers if getattr(h, "is_of_command_line", False)]:
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.is_of_command_line = True  # type: ignore[attr-defined]
    handler.setFormatter(_JsonFormatter("%(message)s") if settings.json_lines else _TextFormatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel("WARNING" if quiet and "level" not in settings.model_fields_set else settings.level)
    logger.propagate = False
