"""Scenarios of Pydantic AI with its own instrumentation."""

# /// script
# dependencies = ["pydantic-ai-slim[openai]"]
# ///

from __future__ import annotations

import asyncio
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from tests.recorders.python import common

ANSWERS = {
    "structured": ['tool:get_weather:{"city": "Oslo"}', 'tool:final_result:{"city": "Oslo", "sky": "rain"}'],
    "direct": ['tool:book:{"city": "Oslo"}'],
}
Agent.instrument_all()


class Weather(BaseModel):
    city: str
    sky: str


def agent(*tools: Any, name: str = "weather_agent", **more: Any) -> Agent[None, Any]:
    # A client of its own: the shared one belongs to one event loop.
    model = OpenAIChatModel(common.MODEL, provider=OpenAIProvider(openai_client=AsyncOpenAI()))
    return Agent(model, name=name, tools=tools or (common.get_weather,), **more)


async def stream() -> str:
    async with agent().run_stream("What is the weather in Oslo?") as run:
        return str(await run.get_output())


async def conv() -> None:
    history: Any = None
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        history = (await agent().run(prompt, message_history=history)).all_messages()


async def agenttool() -> str:
    expert = agent(name="weather_expert")

    async def ask_expert(question: str) -> str:
        return str((await expert.run(question)).output)

    return str((await agent(ask_expert, name="triage_agent").run("Weather in Oslo?")).output)


def handoff() -> str:
    """Two agents, the second named as the first's output function."""
    expert = agent(name="weather_expert")

    async def transfer_to_weather_expert() -> str:
        return str((await expert.run("Weather in Oslo?")).output)

    triage = agent(
        name="triage_agent", output_type=ToolOutput(transfer_to_weather_expert, name="transfer_to_weather_expert")
    )
    return str(triage.run_sync("Weather in Oslo?").output)


async def ask(is_approved: bool) -> str:
    from pydantic_ai import Tool

    booking = agent(
        Tool(common.delete_file, requires_approval=True), name="ops_agent", output_type=[str, DeferredToolRequests]
    )
    run = await booking.run("Delete /tmp/x.")
    await asyncio.sleep(1)
    results = DeferredToolResults(approvals={call.tool_call_id: is_approved for call in run.output.approvals})
    return str((await booking.run(message_history=run.all_messages(), deferred_tool_results=results)).output)


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent().run_sync("Weather in Oslo and Bergen?").output,
            "stream": stream,
            "toolfail": lambda: agent(common.book_flight).run_sync("Book a flight to Oslo.").output,
            "err400": lambda: agent().run_sync("Weather in Oslo?").output,
            "err500": lambda: agent().run_sync("Weather in Oslo?").output,
            "timeout": lambda: common.timed_out(agent().run("Weather in Oslo?")),
            "cancel": lambda: common.cancelled(agent().run("Weather in Oslo?")),
            "tooltimeout": lambda: common.timed_out(agent(common.wait_for_fax).run("Any fax?")),
            "parallel": lambda: common.at_once(agent().run),
            "threads": lambda: common.in_threads(lambda prompt: agent().run_sync(prompt)),
            "waiting": lambda: agent(common.wait_for_fax).run_sync("Wait for two faxes.").output,
            "handoff": handoff,
            "agenttool": agenttool,
            "maxsteps": lambda: agent().run_sync("Weather?", usage_limits=UsageLimits(request_limit=3)).output,
            "approval": lambda: ask(True),
            "deny": lambda: ask(False),
            "structured": lambda: agent(output_type=Weather).run_sync("Weather in Oslo?").output,
            "conv": conv,
        }
    )
