"""The coding CLIs whose hooks are understood: their events, and the answers that they read.

Rules. An answer grants, refuses or defers one call; ``{}`` leaves it to the program's own prompt. Before a call
that may run unasked, only the answer to a deferred one grants. A program that cannot be granted anything by a
hook (Gemini CLI) is only refused or left alone. Codex refuses an answer with members that it does not know, so
no answer has any.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec


class HookKind(StrEnum):
    """What a hook is called for."""

    #: The program is about to ask its user whether a call may run.
    PERMISSION = "permission"
    #: A call is about to run, whether anybody is asked or not.
    TOOL = "tool"
    #: A call has run, or its prompt is over: what was asked about it is settled.
    DONE = "done"
    #: the program says that it waits.
    NOTICE = "notice"
    #: Anything else: no opinion.
    OTHER = "other"


class HookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a hook. `is_allowed` None: no opinion."""

    is_allowed: bool | None = None
    #: It answers a call that may wait without a process: without a decision the run ends there.
    may_defer: bool = False
    reason: str = ""


NO_OPINION: Final = HookAnswer()


class HookProgram(msgspec.Struct, frozen=True, kw_only=True):
    """One coding CLI. Its name is that of its telemetry in `readers` and of the path."""

    #: The name in the path of the endpoint, and on the command line.
    name: str
    #: The name of its records in `readers.events.CLIS`.
    records: str
    #: Its name for people.
    title: str
    events: Mapping[str, HookKind]
    #: Fields of the event, and the telemetry attributes that have the same value.
    session: tuple[str, str] = ("session_id", "session.id")
    prompt: tuple[str, str] = ("", "")
    #: It shows no prompt of its own while its hook runs: there is nobody to leave the prompt to.
    is_blocking: bool = False
    #: The command that resumes a run which ended at a deferred call; empty: it cannot defer.
    resumes: str = ""
    #: It takes a plain decision, and only a refusal.
    is_plain: bool = False

    def answer(self, event: str, answer: HookAnswer) -> dict[str, Any]:
        """Return an answer in the words of the program; empty: no opinion."""
        kind = self.events.get(event, HookKind.OTHER)
        if self.is_plain:
            return {"decision": "deny", "reason": answer.reason} if answer.is_allowed is False else {}
        if kind is HookKind.PERMISSION and answer.is_allowed is not None:
            decision: dict[str, Any] = {"behavior": "allow" if answer.is_allowed else "deny"}
            if not answer.is_allowed:
                decision["message"] = answer.reason
            return {"hookSpecificOutput": {"hookEventName": event, "decision": decision}}
        if kind is HookKind.TOOL and (word := self._before_a_call(answer)):
            decided = {"permissionDecision": word, "permissionDecisionReason": answer.reason}
            return {"hookSpecificOutput": {"hookEventName": event, **decided}}
        return {}

    def _before_a_call(self, answer: HookAnswer) -> str:
        if answer.is_allowed is False:
            return "deny"
        if not answer.may_defer or not self.resumes:  # an allowance would skip the program's own prompt
            return ""
        return "allow" if answer.is_allowed else "defer"


_CLAUDE_CODE = HookProgram(
    name="claude-code",
    records="claude-code",
    title="Claude Code",
    events={
        "PermissionRequest": HookKind.PERMISSION,
        "PreToolUse": HookKind.TOOL,
        # It keeps the connection of its hook when the person at the terminal answers: these say so.
        "PostToolUse": HookKind.DONE,
        "Stop": HookKind.DONE,
        "SessionEnd": HookKind.DONE,
    },
    prompt=("prompt_id", "prompt.id"),
    resumes="claude -p --resume",
)
_CODEX = HookProgram(
    name="codex",
    records="codex-cli",
    title="Codex",
    events={"PermissionRequest": HookKind.PERMISSION, "PreToolUse": HookKind.TOOL},
    session=("session_id", "conversation.id"),
    prompt=("turn_id", "turn.id"),
    is_blocking=True,
)
_GEMINI_CLI = HookProgram(
    name="gemini-cli",
    records="gemini-cli",
    title="Gemini CLI",
    events={"BeforeTool": HookKind.TOOL, "Notification": HookKind.NOTICE},
    is_plain=True,
)

#: By the name in the path.
PROGRAMS: Final[Mapping[str, HookProgram]] = {one.name: one for one in (_CLAUDE_CODE, _CODEX, _GEMINI_CLI)}
