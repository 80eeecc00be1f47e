"""Scenarios of Semantic Kernel with its own telemetry."""

# /// script
# dependencies = ["semantic-kernel"]
# ///

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS"] = "true"

from tests.recorders.python import common  # isort: skip
from openai import AsyncOpenAI
from semantic_kernel.agents import (
    ChatCompletionAgent,
    ChatHistoryAgentThread,
    HandoffOrchestration,
    OrchestrationHandoffs,
    SequentialOrchestration,
)
from semantic_kernel.agents.runtime import InProcessRuntime
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

ANSWERS = {
    "ok": [
        'tool:Weather-get_weather:{"city": "Oslo"}',
        'tool:Weather-get_weather:{"city": "Bergen"}',
        "text:It rains in Oslo.",
    ],
    "stream": ['tool:Weather-get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "toolfail": ['tool:Weather-book_flight:{"city": "Oslo"}', "text:It is not booked."],
    "err400": ['tool:Weather-get_weather:{"city": "Oslo"}', "error:400"],
    "err500": ['tool:Weather-get_weather:{"city": "Oslo"}', "error:500"],
    "timeout": ['tool:Weather-get_weather:{"city": "Oslo"}', "hang:"],
    "cancel": ['tool:Weather-get_weather:{"city": "Oslo"}', "hang:"],
    "calltimeout": ['tool:Weather-get_weather:{"city": "Oslo"}', "hang:"],
    "parallel": ["turns:", 'tool:Weather-get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "threads": ["turns:", 'tool:Weather-get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "sequential": ['tool:Weather-get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella."],
    "handoff": [
        "tool:Handoff-transfer_to_weather_expert:{}",
        'tool:Weather-get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        'tool:Handoff-complete_task:{"task_summary": "It rains."}',
    ],
    "conv": [
        'tool:Weather-get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        'tool:Weather-get_weather:{"city": "Bergen"}',
        "text:It rains in Bergen.",
        "text:You are welcome.",
    ],
}


class Weather:
    """A plug-in."""

    @kernel_function
    def get_weather(self, city: str) -> str:
        """Return the weather of a city."""
        return common.get_weather(city)

    @kernel_function
    def book_flight(self, city: str) -> str:
        """Book a flight to a city."""
        return common.book_flight(city)


def agent(name: str = "weather_agent", limit: float = 30) -> ChatCompletionAgent:
    service = OpenAIChatCompletion(common.MODEL, async_client=AsyncOpenAI(max_retries=0, timeout=limit))
    return ChatCompletionAgent(service=service, name=name, description=name, plugins=[Weather()])


async def stream() -> None:
    async for _ in agent().invoke_stream(messages="Weather in Oslo?"):
        pass


async def conv() -> None:
    thread: Any = ChatHistoryAgentThread()
    one = agent()
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        thread = (await one.get_response(messages=prompt, thread=thread)).thread


async def orchestrated(made: Any) -> str:
    runtime = InProcessRuntime()
    runtime.start()
    value = await (await made.invoke("Weather in Oslo?", runtime=runtime)).get(timeout=20)
    await runtime.stop_when_idle()
    return str(value)


def handoff() -> Any:
    triage, expert = agent("triage_agent"), agent("weather_expert")
    paths = OrchestrationHandoffs().add(triage, expert, "about weather")
    return orchestrated(HandoffOrchestration(members=[triage, expert], handoffs=paths))


def ask(prompt: str = "Weather in Oslo?") -> Any:
    return agent().get_response(messages=prompt)


if __name__ == "__main__":
    common.main(
        {
            "ok": ask,
            "stream": stream,
            "toolfail": lambda: ask("Book a flight to Oslo."),
            "err400": ask,
            "err500": ask,
            "timeout": lambda: common.timed_out(ask()),
            "calltimeout": lambda: agent(limit=1).get_response(messages="Weather in Oslo?"),
            "cancel": lambda: common.cancelled(ask()),
            "parallel": lambda: common.at_once(ask),
            "threads": lambda: common.in_threads(lambda prompt: asyncio.run(ask(prompt))),
            "sequential": lambda: orchestrated(SequentialOrchestration(members=[agent("researcher"), agent("writer")])),
            "handoff": handoff,
            "conv": conv,
        }
    )
