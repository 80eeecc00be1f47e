"""The rules of permission hooks: how long people at the terminal have, and how long a hook waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class HookRules:
    """When people are asked, and what they are shown."""

    #: The question is open for so long before people are asked.
    ask_after: timedelta = timedelta(seconds=10)
    #: Longest wait of a hook: then its program's own prompt stands.
    wait: timedelta = timedelta(seconds=590)
    #: Launcher that resumes a headless run when its deferred question is decided; empty: none.
    resume: str = ""
    #: Whether the question has the tool's input.
    input: bool = True
