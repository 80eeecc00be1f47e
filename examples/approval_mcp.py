"""A tool of an MCP server that asks the person behind the client.

Run ``python approval_mcp.py``, and answer at the terminal. Offline.

The server runs in this process, to keep the example short; a real one is named by its address or its command.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from at_the_terminal import answer_questions
from mcp import Client
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel, Field

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.mcp import Elicitation

hotel = MCPServer("hotel")


class Room(BaseModel):
    """The room to book."""

    room: Literal["garden", "street"]


class Stay(BaseModel):
    """The number of nights."""

    nights: int = Field(ge=1, le=14, description="how many nights")


@hotel.tool()
async def book_room(city: str, ctx: Context) -> str:
    """Book a room. A person says which one, and for how long."""
    room = await ctx.elicit(f"Which room in {city}?", Room)
    if room.action != "accept":
        return f"not booked: {room.action}"
    stay = await ctx.elicit(f"How long in {city}?", Stay)
    return (
        f"booked {room.data.room} for {stay.data.nights} nights"
        if stay.action == "accept"
        else f"not booked: {stay.action}"
    )


async def travel() -> str:
    """Call the tool. The model receives its result, and what people said to a refusal."""
    asked = Elicitation("hotel", risk="costs money")
    async with agent_task("Book a trip", agent="travel", task_id="trip-9"):
        async with Client(hotel, mode="legacy", elicitation_callback=asked) as client:
            result = await client.call_tool("book_room", {"city": "Oslo"})
        return "; ".join([str(result.structured_content["result"]), *asked.refusals()])


if __name__ == "__main__":
    answer_questions(spanpost.attach())
    print(asyncio.run(travel()))
