"""Scenarios of the OpenAI Agents SDK, by default with OpenInference's instrumentation."""

# /// script
# dependencies = ["openai-agents", "openinference-instrumentation-openai-agents"]
# ///

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agents import Agent, RunConfig, Runner, SQLiteSession, function_tool, trace
from pydantic import BaseModel

from tests.recorders.python import common

ANSWERS = {
    "agenttool": [
        'tool:ask_expert:{"input": "Weather in Oslo?"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "convgroup": [
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        'tool:get_weather:{"city": "Bergen"}',
        "text:It rains in Bergen.",
        "text:You are welcome.",
    ],
    "streamcancel": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
}
get_weather = function_tool(common.get_weather)
wait_for_fax = function_tool(common.wait_for_fax)
failing = function_tool(common.book_flight)


class Weather(BaseModel):
    city: str
    sky: str


def agent(*tools: Any, name: str = "weather_agent", **more: Any) -> Agent[Any]:
    return Agent(name=name, model=common.MODEL, tools=list(tools or (get_weather,)), **more)


def run(prompt: str) -> str:
    return str(Runner.run_sync(agent(), prompt).final_output)


async def arun(prompt: str) -> str:
    return str((await Runner.run(agent(), prompt)).final_output)


async def stream(is_cancelled: bool = False) -> str:
    streamed = Runner.run_streamed(agent(), "Weather in Oslo?")
    if is_cancelled:
        asyncio.get_running_loop().call_later(4, streamed.cancel)
    async for _ in streamed.stream_events():
        pass
    return str(streamed.final_output)


async def conv() -> None:
    session = SQLiteSession("weather-1")
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        await Runner.run(agent(), prompt, session=session)


async def convgroup() -> None:
    said: list[Any] = []
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        said.append({"role": "user", "content": prompt})
        config = RunConfig(workflow_name="Weather desk", group_id="thread-1")
        said = (await Runner.run(agent(), said, run_config=config)).to_input_list()


def handoff() -> str:
    expert = agent(name="weather_expert")
    with trace("Weather desk"):
        return str(
            Runner.run_sync(Agent(name="triage_agent", model=common.MODEL, handoffs=[expert]), "Oslo?").final_output
        )


def agenttool() -> str:
    tool = agent(name="weather_expert").as_tool("ask_expert", "Asks the expert for weather.")
    return str(Runner.run_sync(agent(tool, name="triage_agent"), "Weather in Oslo?").final_output)


async def ask(is_approved: bool) -> str:
    ops = agent(function_tool(common.delete_file, needs_approval=True), name="ops_agent")
    ran = await Runner.run(ops, "Delete /tmp/x.")
    await asyncio.sleep(1)
    state = ran.to_state()
    for asked in ran.interruptions:
        state.approve(asked) if is_approved else state.reject(asked)
    return str((await Runner.run(ops, state)).final_output)


SCENARIOS: dict[str, Callable[[], Any]] = {
    "ok": lambda: run("Weather in Oslo and Bergen?"),
    "stream": stream,
    "toolfail": lambda: Runner.run_sync(agent(failing), "Book a flight to Oslo.").final_output,
    "err400": lambda: run("Weather in Oslo?"),
    "err500": lambda: run("Weather in Oslo?"),
    "timeout": lambda: common.timed_out(arun("Weather in Oslo?")),
    "cancel": lambda: common.cancelled(arun("Weather in Oslo?")),
    "streamcancel": lambda: stream(is_cancelled=True),
    "tooltimeout": lambda: common.timed_out(Runner.run(agent(wait_for_fax), "Any fax?")),
    "parallel": lambda: common.at_once(arun),
    "threads": lambda: common.in_threads(lambda prompt: asyncio.run(arun(prompt))),
    "waiting": lambda: Runner.run_sync(agent(wait_for_fax), "Wait for two faxes.").final_output,
    "handoff": handoff,
    "agenttool": agenttool,
    "maxsteps": lambda: Runner.run_sync(agent(), "Weather?", max_turns=3).final_output,
    "approval": lambda: ask(True),
    "deny": lambda: ask(False),
    "structured": lambda: Runner.run_sync(agent(output_type=Weather), "Weather in Oslo?").final_output,
    "direct": lambda: Runner.run_sync(agent(tool_use_behavior="stop_on_first_tool"), "Oslo?").final_output,
    "conv": conv,
    "convgroup": convgroup,
}
if __name__ == "__main__":
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=common.provider)
    common.main(SCENARIOS)
