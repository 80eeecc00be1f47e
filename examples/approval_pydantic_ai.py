"""A tool in Pydantic AI that a person has to agree to.

Run ``python approval_pydantic_ai.py``, and answer at the terminal.

The model is Pydantic AI's `FunctionModel` with scripted answers, so it runs offline and costs nothing.
"""

from __future__ import annotations

import asyncio

from at_the_terminal import answer_questions
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.pydantic_ai import run


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Ask for the booking, then report the result."""
    for part in messages[-1].parts:
        if isinstance(part, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"Well: {part.content}")], finish_reason="stop")
    return ModelResponse(parts=[ToolCallPart("book_hotel", {"city": "Oslo", "nights": 2})], finish_reason="tool_call")


booking = Agent(FunctionModel(answer), name="booking", output_type=[str, DeferredToolRequests])


@booking.tool_plain(requires_approval=True)
def book_hotel(city: str, nights: int) -> str:
    """Book a hotel room. A person has to approve it."""
    return f"booked {nights} nights in {city}"


async def travel() -> str:
    """Let the agent book a hotel room after a person approved it."""
    async with agent_task("Book a trip", agent="booking", task_id="trip-7"):
        result = await run(booking, "Book a room in Oslo", risk="costs money")
        return str(result.output)


if __name__ == "__main__":
    answer_questions(spanpost.attach())
    Agent.instrument_all()
    print(asyncio.run(travel()))
