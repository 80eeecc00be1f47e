"""Scenarios of AutoGen with its own instrumentation."""

# /// script
# dependencies = ["autogen-agentchat", "autogen-ext[openai]"]
# ///

from __future__ import annotations

from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_agentchat.tools import AgentTool
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient

from tests.recorders.python import common

ANSWERS = {
    "agenttool": [
        'tool:weather_expert:{"task": "Weather in Oslo?"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "team": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella. DONE"],
    "handoff": [
        'tool:transfer_to_weather_expert:{}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo. DONE",
    ],
}  # fmt: skip


def tool(function: Any) -> FunctionTool:
    return FunctionTool(function, function.__doc__ or "")


def agent(*tools: Any, name: str = "weather_agent", **more: Any) -> AssistantAgent:
    client = OpenAIChatCompletionClient(model=common.MODEL)
    more.setdefault("reflect_on_tool_use", True)
    more.setdefault("max_tool_iterations", 5)
    return AssistantAgent(name, client, tools=list(tools or (tool(common.get_weather),)), **more)


async def run(prompt: str, made: AssistantAgent | None = None) -> str:
    return str((await (made or agent()).run(task=prompt)).messages[-1].content)


async def stream() -> None:
    async for _ in agent(model_client_stream=True).run_stream(task="Weather in Oslo?"):
        pass


async def conv() -> None:
    made = agent()
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        await made.run(task=prompt)


async def team() -> None:
    both = [agent(name="weather_agent"), agent(name="packing_agent")]
    await RoundRobinGroupChat(both, termination_condition=TextMentionTermination("DONE")).run(task="Weather in Oslo?")


async def handoff() -> None:
    triage = AssistantAgent("triage_agent", OpenAIChatCompletionClient(model=common.MODEL), handoffs=["weather_expert"])
    swarm = Swarm([triage, agent(name="weather_expert")], termination_condition=TextMentionTermination("DONE"))
    await swarm.run(task="Weather in Oslo?")


async def maxsteps() -> None:
    chat = RoundRobinGroupChat([agent(max_tool_iterations=1)], termination_condition=MaxMessageTermination(3))
    await chat.run(task="Weather?")


if __name__ == "__main__":
    import asyncio

    common.main(
        {
            "ok": lambda: run("Weather in Oslo and Bergen?"),
            "stream": stream,
            "toolfail": lambda: run("Book a flight to Oslo.", agent(tool(common.book_flight))),
            "err400": lambda: run("Weather in Oslo?"),
            "err500": lambda: run("Weather in Oslo?"),
            "timeout": lambda: common.timed_out(run("Weather in Oslo?")),
            "cancel": lambda: common.cancelled(run("Weather in Oslo?")),
            "tooltimeout": lambda: common.timed_out(run("Any fax?", agent(tool(common.wait_for_fax)))),
            "parallel": lambda: common.at_once(run),
            "threads": lambda: common.in_threads(lambda prompt: asyncio.run(run(prompt))),
            "waiting": lambda: run("Wait for two faxes.", agent(tool(common.wait_for_fax))),
            "handoff": handoff,
            "team": team,
            "agenttool": lambda: run("Oslo?", agent(AgentTool(agent(name="weather_expert")), name="triage_agent")),
            "maxsteps": maxsteps,
            "direct": lambda: run("Oslo?", agent(reflect_on_tool_use=False, max_tool_iterations=1)),
            "conv": conv,
        }
    )
