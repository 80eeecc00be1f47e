"""A travel desk in Pydantic AI, followed live.

Run ``python with_pydantic_ai.py [answer|failure|approval|handoff|stream]``.

Instrumented as Pydantic AI's own documentation says, with ``Agent.instrument_all()``; spanpost is the one
line `attach()`. The model is Pydantic AI's `FunctionModel` with scripted answers, so it runs offline and
costs nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

import spanpost

spanpost.attach()
Agent.instrument_all()


def ask_a_person(question: str) -> bool:
    """Stand for the person who has to agree, and may take days."""
    return True


def ask_the_weather_service(city: str) -> str:
    """Stand for a service that takes its time."""
    return f"{city}: 4 °C and rain"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Ask for the agent's next tool until each has answered; then answer in words."""
    answered = {part.tool_name for message in messages for part in message.parts if isinstance(part, ToolReturnPart)}
    for tool in info.function_tools:
        if tool.name not in answered:
            arguments = dict.fromkeys(tool.parameters_json_schema["properties"], "Oslo")
            return ModelResponse(parts=[ToolCallPart(tool.name, arguments)], finish_reason="tool_call")
    return ModelResponse(parts=[TextPart("Take a rain coat and warm shoes.")], finish_reason="stop")


async def answer_in_pieces(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Do the same, piece by piece."""
    for i, part in enumerate(answer(messages, info).parts):
        if isinstance(part, ToolCallPart):
            yield {i: DeltaToolCall(name=part.tool_name, json_args=part.args_as_json_str())}
        elif isinstance(part, TextPart):
            for word in part.content.split():
                yield f"{word} "


MODEL = FunctionModel(answer, stream_function=answer_in_pieces, model_name="gpt-4o")

concierge = Agent(MODEL, name="concierge")


@concierge.tool_plain
def look_up_weather(city: str) -> str:
    """Return the weather of a city."""
    return ask_the_weather_service(city)


booking = Agent(MODEL, name="booking", output_type=[str, DeferredToolRequests])


@booking.tool_plain(requires_approval=True)
def book_hotel(city: str) -> str:
    """Book a room; a person has to agree."""
    return f"booked in {city}"


travel_desk = Agent(MODEL, name="travel_desk")


@travel_desk.tool
async def ask_concierge(context: RunContext[None], question: str) -> str:
    """Hand a question to the concierge."""
    return (await concierge.run(question, usage=context.usage)).output


async def run(what: str) -> None:
    """Have it answer, fail, wait for a person, work through a second agent, or stream."""
    if what == "approval":
        asked = await booking.run("Book a room in Oslo")
        assert isinstance(asked.output, DeferredToolRequests)
        approvals = DeferredToolResults(
            approvals={call.tool_call_id: ask_a_person("Book it?") for call in asked.output.approvals}
        )
        await booking.run(message_history=asked.all_messages(), deferred_tool_results=approvals)
    elif what == "handoff":
        await travel_desk.run("What shall I wear in Oslo?")
    elif what == "stream":
        async with concierge.run_stream("What shall I wear in Oslo?") as stream:
            async for _ in stream.stream_text(delta=True):
                pass
    else:
        await concierge.run("What shall I wear in Oslo?")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1] if len(sys.argv) > 1 else "answer"))
