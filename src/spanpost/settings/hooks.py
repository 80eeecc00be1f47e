"""Settings of the section `hooks`: permission prompts of coding agents (`/control/v1/hooks`)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from spanpost.interactions.hooks.rules import HookRules
from spanpost.settings.section import Duration, Section


class PermissionHooksSettings(Section, HookRules):
    """Permission prompts of Claude Code, Codex and Gemini CLI."""

    ask_after: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="How long a prompt is left to the person at the terminal before people are asked.",
    )
    wait: Duration = Field(
        default=timedelta(seconds=590),
        ge=timedelta(seconds=1),
        le=timedelta(hours=24),
        description="How long a hook waits for an answer. Then the program's own prompt stands. Lower if a proxy cuts "
        "idle requests earlier.",
    )
    resume: str = Field(
        default="",
        max_length=60,
        description="Launcher (`launchers.named`) that resumes a headless run when its deferred question is decided, "
        "with the parameters `session` and `cwd`. Empty: nothing is started.",
    )
    input: bool = Field(
        default=True,
        description="Put the tool's input into the question. `false`: people see its tool, its risk and a hash. What "
        "Slack shows of it is switched by `slack.content` and a route's `content`.",
    )
