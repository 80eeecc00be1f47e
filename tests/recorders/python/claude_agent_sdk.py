"""Scenarios of the Claude Agent SDK (its bundled Claude Code) with openinference-instrumentation-claude-agent-sdk."""

# /// script
# dependencies = ["claude-agent-sdk", "openinference-instrumentation-claude-agent-sdk"]
# ///

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.claude_agent_sdk import ClaudeAgentSDKInstrumentor

ClaudeAgentSDKInstrumentor().instrument()

from claude_agent_sdk import (  # noqa: E402
    AgentDefinition,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultAllow,
    PermissionResultDeny,
    query,
)

ANSWERS = {
    "ok": ['tool:Bash:{"command": "ls", "description": "List"}', "text:notes.txt"],
    "toolfail": ['tool:Bash:{"command": "ls /none", "description": "List"}', "text:There is none."],
    "err400": ['tool:Bash:{"command": "ls", "description": "List"}', "error:400"],
    "timeout": ['tool:Bash:{"command": "ls", "description": "List"}', "hang:"],
    "cancel": ['tool:Bash:{"command": "ls", "description": "List"}', "hang:"],
    "interrupt": ['tool:Bash:{"command": "ls", "description": "List"}', "hang:"],
    "conv": ['tool:Bash:{"command": "ls", "description": "List"}', "text:notes.txt", "text:The same.", "text:Bye."],
    "approval": ['tool:Bash:{"command": "touch new", "description": "Make"}', "text:Made."],
    "deny": ['tool:Bash:{"command": "touch new", "description": "Make"}', "text:Not made."],
    "maxsteps": ['tool:Bash:{"command": "ls", "description": "List"}'],
    "parallel": ["text:It rains."],
    "agenttool": [
        'tool:Task:{"description": "Weather", "prompt": "Weather?", "subagent_type": "weather_expert"}',
        'tool:Bash:{"command": "ls", "description": "List"}',
        "text:It rains.",
        "text:Rain, says the expert.",
    ],
}
home, work = tempfile.mkdtemp(), tempfile.mkdtemp()
Path(work, "notes.txt").write_text("Rain in Oslo.\n")
quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_MAX_RETRIES": "0"}


def options(**more: Any) -> ClaudeAgentOptions:
    given: dict[str, Any] = {
        "cwd": work,
        "env": {**quiet, "HOME": home, "CLAUDE_CONFIG_DIR": home, "IS_SANDBOX": "1"},
        "model": "claude-sonnet-4-5",
        "allowed_tools": ["Bash", "Read", "Task", "Agent"],
        "tools": ["Bash", "Read", "Task"],
        "setting_sources": [],
        "permission_mode": "default",
    }
    return ClaudeAgentOptions(**{**given, **more})


async def ask(prompt: str = "List the files", **more: Any) -> str:
    said = ""
    async for message in query(prompt=prompt, options=options(**more)):
        said = type(message).__name__
    return said


async def conv() -> None:
    async with ClaudeSDKClient(options()) as client:
        for prompt in ("List the files", "Once more", "Thank you"):
            await client.query(prompt)
            async for _ in client.receive_response():
                pass


async def interrupt() -> None:
    async with ClaudeSDKClient(options()) as client:
        await client.query("List the files")
        asyncio.get_running_loop().call_later(6, lambda: asyncio.ensure_future(client.interrupt()))
        async for _ in client.receive_response():
            pass


async def asked(is_approved: bool) -> None:
    async def decide(name: str, given: dict[str, Any], context: Any) -> Any:
        await asyncio.sleep(1)
        return PermissionResultAllow() if is_approved else PermissionResultDeny(message="A person said no.")

    async with ClaudeSDKClient(options(allowed_tools=[], can_use_tool=decide)) as client:
        await client.query("Make a file")
        async for _ in client.receive_response():
            pass


async def cancelled() -> None:
    task = asyncio.ensure_future(ask())
    await asyncio.sleep(6)
    task.cancel()
    await task


if __name__ == "__main__":
    os.chdir(work)
    expert = AgentDefinition(description="Knows the weather", prompt="Say the weather.", tools=["Bash"])
    common.main(
        {
            "ok": ask,
            "toolfail": ask,
            "err400": ask,
            "timeout": lambda: asyncio.wait_for(ask(), 6),
            "cancel": cancelled,
            "interrupt": interrupt,
            "conv": conv,
            "approval": lambda: asked(True),
            "deny": lambda: asked(False),
            "maxsteps": lambda: ask(max_turns=2),
            "parallel": lambda: common.at_once(lambda prompt: ask(prompt)),
            "agenttool": lambda: ask("Ask the expert", agents={"weather_expert": expert}),
        }
    )
