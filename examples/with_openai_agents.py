"""A travel desk in the OpenAI Agents SDK, followed live.

Run ``python with_openai_agents.py [answer|failure|approval|handoff|stream]``.

Instrumented with OpenInference's package, as its users do; spanpost is the one line `attach()`. The model is
the SDK's `Model` interface with scripted answers, so it runs offline and costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool
from agents.tracing import response_span
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

import spanpost

spanpost.attach()
OpenAIAgentsInstrumentor().instrument()


def ask_a_person(question: str) -> bool:
    """Stand for the person who has to agree, and may take days."""
    return True


def ask_the_weather_service(city: str) -> str:
    """Stand for a service that takes its time."""
    return f"{city}: 4 °C and rain"


class Scripted(Model):
    """Asks for the agent's next tool until each has answered; then answers in words."""

    numbers = count(1)

    def _respond(self, items: Any, tools: list[Any], handoffs: list[Any]) -> Response:
        called = {item.get("name") for item in items if isinstance(item, dict)} if isinstance(items, list) else set()
        wanted = next((t.name for t in tools if t.name not in called), None) or next(
            (h.tool_name for h in handoffs if h.tool_name not in called), None
        )
        number = next(self.numbers)
        output: list[Any]
        if wanted is not None:
            arguments = json.dumps({} if wanted.startswith("transfer_to") else {"city": "Oslo"})
            output = [
                ResponseFunctionToolCall(
                    call_id=f"call_{number}", name=wanted, arguments=arguments, type="function_call"
                )
            ]
        else:
            said = ResponseOutputText(text="Take a rain coat and warm shoes.", type="output_text", annotations=[])
            output = [
                ResponseOutputMessage(
                    id=f"msg_{number}", content=[said], role="assistant", status="completed", type="message"
                )
            ]
        usage = ResponseUsage(
            input_tokens=100 + 20 * len(called),
            input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
            output_tokens=12,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
            total_tokens=112 + 20 * len(called),
        )
        return Response(
            id=f"resp_{number:032x}",
            created_at=0,
            model="gpt-4o",
            object="response",
            output=output,
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=False,
            usage=usage,
            status="completed",
        )

    async def get_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: Any,
        output_schema: Any,
        handoffs: Any,
        tracing: Any,
        **more: Any,
    ) -> ModelResponse:
        with response_span() as span:
            response = self._respond(input, tools, handoffs)
            span.span_data.response = response
        assert response.usage is not None
        usage = Usage(requests=1, input_tokens=response.usage.input_tokens, output_tokens=12)
        return ModelResponse(output=response.output, usage=usage, response_id=response.id)

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,
        model_settings: Any,
        tools: Any,
        output_schema: Any,
        handoffs: Any,
        tracing: Any,
        **more: Any,
    ) -> AsyncIterator[Any]:
        with response_span() as span:
            response = self._respond(input, tools, handoffs)
            span.span_data.response = response
            yield ResponseCompletedEvent(response=response, type="response.completed", sequence_number=0)


@function_tool(failure_error_function=None)  # otherwise the SDK reports a failure to the model, and the run goes on
def look_up_weather(city: str) -> str:
    """Return the weather of a city."""
    return ask_the_weather_service(city)


@function_tool(needs_approval=True)
def book_hotel(city: str) -> str:
    """Book a room; a person has to agree."""
    return f"booked in {city}"


concierge = Agent(name="concierge", model=Scripted(), tools=[look_up_weather])
booking = Agent(name="booking", model=Scripted(), tools=[book_hotel])
travel_desk = Agent(name="travel_desk", model=Scripted(), handoffs=[concierge])


async def run(what: str) -> None:
    """Have it answer, fail, wait for a person, hand over to a second agent, or stream."""
    if what == "approval":
        asked = await Runner.run(booking, "Book a room in Oslo")
        state = asked.to_state()
        for interruption in asked.interruptions:
            if ask_a_person("Book it?"):
                state.approve(interruption)
        await Runner.run(booking, state)
    elif what == "handoff":
        await Runner.run(travel_desk, "What shall I wear in Oslo?")
    elif what == "stream":
        stream = Runner.run_streamed(concierge, "What shall I wear in Oslo?")
        async for _ in stream.stream_events():
            pass
    else:
        await Runner.run(concierge, "What shall I wear in Oslo?")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1] if len(sys.argv) > 1 else "answer"))
