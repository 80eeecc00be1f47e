"""Events of hooks as they arrive: JSON of a program on somebody's machine, untrusted."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from spanpost.interactions.hooks.programs import HookKind, HookProgram
from spanpost.text.repair import mend_value

#: Characters of an id or of a tool's name.
_LONGEST_NAME: Final = 256


class BadEvent(Exception):
    """The body is no event of a hook. The text says why."""


class HookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a hook."""

    program: HookProgram
    name: str
    session: str
    prompt: str = ""
    tool: str = ""
    tool_input: dict[str, Any] = {}
    #: The call's own id; empty where the event has none.
    call: str = ""
    #: The directory in which the program runs, whole and its last name.
    cwd: str = ""
    directory: str = ""
    #: A notice's words.
    message: str = ""

    @property
    def kind(self) -> HookKind:
        """What the hook is called for."""
        return self.program.events.get(self.name, HookKind.OTHER)


def event_of(program: HookProgram, body: bytes) -> HookEvent:
    """Read an event. Raises `BadEvent`."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise BadEvent("the body is no JSON") from None
    if not isinstance(said, dict):
        raise BadEvent("the body is no JSON object")
    said = mend_value(said)[0]
    name, session = _name(said, "hook_event_name"), _name(said, program.session[0])
    if not name:
        raise BadEvent("it has no hook_event_name")
    if program.events.get(name, HookKind.OTHER) is HookKind.OTHER:
        return HookEvent(program=program, name=name, session=session)
    if not session:
        raise BadEvent(f"it has no {program.session[0]}")
    tool_input = said.get("tool_input")
    event = HookEvent(
        program=program,
        name=name,
        session=session,
        prompt=_name(said, program.prompt[0]),
        tool=_name(said, "tool_name"),
        tool_input=tool_input if isinstance(tool_input, dict) else {"input": tool_input} if tool_input else {},
        call=_name(said, "tool_use_id"),
        cwd=_text(said.get("cwd")),
        directory=_directory(said.get("cwd")),
        message=_text(said.get("message")),
    )
    if event.kind in (HookKind.PERMISSION, HookKind.TOOL) and not event.tool:
        raise BadEvent("it has no tool_name")
    return event


def _name(said: dict[str, Any], field: str) -> str:
    """Return an id or a name; empty where there is none. Raises `BadEvent`."""
    value = said.get(field, "") if field else ""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise BadEvent(f"{field} is no text of at most {_LONGEST_NAME} characters")
    return value


def _directory(value: Any) -> str:
    parts = [part for part in _text(value).replace("\\", "/").split("/") if part]
    return parts[-1][:_LONGEST_NAME] if parts else ""


def _text(value: Any) -> str:
    return value[:4096] if isinstance(value, str) else ""
