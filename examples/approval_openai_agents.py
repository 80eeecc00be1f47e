"""A tool in the OpenAI Agents SDK that a person has to agree to.

Run ``python approval_openai_agents.py``, and answer at the terminal.

The model is the SDK's `Model` interface with scripted answers, so it runs offline and costs nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from at_the_terminal import answer_questions
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.openai_agents import run


class Scripted(Model):
    """Asks for the booking, then reports the result."""

    async def get_response(self, system_instructions: Any, input: Any, *more: Any, **options: Any) -> ModelResponse:
        results = [
            item["output"] for item in input if isinstance(item, dict) and item.get("type") == "function_call_output"
        ]
        output: list[Any]
        if results:
            said = ResponseOutputText(text=f"Well: {results[-1]}", type="output_text", annotations=[])
            output = [
                ResponseOutputMessage(id="msg_1", content=[said], role="assistant", status="completed", type="message")
            ]
        else:
            booking = json.dumps({"city": "Oslo", "nights": 2})
            output = [
                ResponseFunctionToolCall(call_id="call_1", name="book_hotel", arguments=booking, type="function_call")
            ]
        return ModelResponse(output=output, usage=Usage(requests=1), response_id=None)

    def stream_response(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("it is not streamed here")


@function_tool(needs_approval=True)
def book_hotel(city: str, nights: int) -> str:
    """Book a hotel room. A person has to approve it."""
    return f"booked {nights} nights in {city}"


booking = Agent(name="booking", model=Scripted(), tools=[book_hotel])


async def travel() -> str:
    """Let the agent book a hotel room after a person approved it."""
    async with agent_task("Book a trip", agent="booking", task_id="trip-7"):
        result = await run(booking, "Book a room in Oslo", risk="costs money")
        return str(result.final_output)


if __name__ == "__main__":
    set_tracing_disabled(True)  # the SDK's own, which goes to OpenAI
    answer_questions(spanpost.attach())
    print(asyncio.run(travel()))
