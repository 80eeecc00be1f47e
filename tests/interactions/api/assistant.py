"""An assistant: the client of the Model Context Protocol, with a `spanpost mcp` of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from mcp import ClientSession, StdioServerParameters, stdio_client

T = TypeVar("T")


async def with_session(
    command: Sequence[str], url: str, token: str, talk: Callable[[ClientSession], Awaitable[T]], *options: str
) -> T:
    """Talk to a server that asks the gateway at `url`; `command` is the command `spanpost`."""
    environment = {**os.environ, "SPANPOST_TOKEN": token, "SPANPOST_URL": url}
    first, *rest = command
    started = StdioServerParameters(command=first, args=[*rest, "mcp", *options], env=environment)
    async with stdio_client(started) as (reads, writes), ClientSession(reads, writes) as session:
        await session.initialize()
        return await talk(session)


async def ask(session: ClientSession, tool: str, **said: Any) -> Any:
    """Return a tool's result, or its error as text."""
    answer = await session.call_tool(tool, said)
    return answer.content[0].text if answer.is_error else answer.structured_content
