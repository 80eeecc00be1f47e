"""Scenarios of Microsoft's Agent Framework with its own telemetry."""

# /// script
# dependencies = ["agent-framework-core", "agent-framework-openai", "agent-framework-orchestrations"]
# ///

from __future__ import annotations

import asyncio
from typing import Any

from tests.recorders.python import common  # isort: skip
from agent_framework import Agent, Message, tool
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from agent_framework.orchestrations import ConcurrentBuilder, HandoffBuilder, SequentialBuilder
from openai import AsyncOpenAI

ANSWERS = {
    "handoff": ["tool:handoff_to_weather_expert:{}", 'tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "agenttool": [
        'tool:weather_expert:{"task": "Weather in Oslo"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "concurrent": ["turns:", 'tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "sequential": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella."],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
    "responses": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    # Its last call of all may not ask for a tool.
    "maxsteps": ['tool:get_weather:{"city": "Oslo"}', 'tool:get_weather:{"city": "Bergen"}', "text:It rains."],
    "asked": ['tool:delete_file:{"path": "/tmp/x"}'],
}
enable_instrumentation()
get_weather, book_flight, fax = tool(common.get_weather), tool(common.book_flight), tool(common.wait_for_fax)
delete_file = tool(common.delete_file, approval_mode="always_require")


def agent(
    *tools: Any, name: str = "weather_agent", of: Any = OpenAIChatCompletionClient, limit: float = 30, **more: Any
) -> Agent:
    kept = {"function_invocation_configuration": more.pop("steps")} if "steps" in more else {}
    model = of(model=common.MODEL, async_client=AsyncOpenAI(max_retries=0, timeout=limit), **kept)
    given = [*(tools or (get_weather,))]
    return Agent(client=model, name=name, description=name, instructions="Be brief.", tools=given, **more)


async def stream() -> None:
    async for _ in agent().run("Weather in Oslo?", stream=True):
        pass


async def conv() -> None:
    one = agent()
    session = one.create_session()
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        await one.run(prompt, session=session)


async def ask(is_approved: bool | None) -> None:
    one = agent(delete_file, name="ops_agent")
    session = one.create_session()
    asked = await one.run("Delete /tmp/x.", session=session)
    await asyncio.sleep(1)
    if is_approved is None:
        return
    answers = [request.to_function_approval_response(is_approved) for request in asked.user_input_requests]
    await one.run(Message(role="user", contents=answers), session=session)


async def handoff() -> None:
    kept = {"require_per_service_call_history_persistence": True}
    triage, expert = agent(name="triage_agent", **kept), agent(name="weather_expert", **kept)
    builder = HandoffBuilder(name="desk", participants=[triage, expert], termination_condition=lambda said: False)
    async for _ in builder.with_start_agent(triage).build().run("Weather in Oslo?", stream=True):
        pass


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent().run("Weather in Oslo and Bergen?"),
            "stream": stream,
            "toolfail": lambda: agent(book_flight).run("Book a flight to Oslo."),
            "err400": lambda: agent().run("Weather in Oslo?"),
            "err500": lambda: agent().run("Weather in Oslo?"),
            "timeout": lambda: common.timed_out(agent().run("Weather in Oslo?")),
            "calltimeout": lambda: agent(limit=1).run("Weather in Oslo?"),
            "cancel": lambda: common.cancelled(agent().run("Weather in Oslo?")),
            "tooltimeout": lambda: common.timed_out(agent(fax).run("Any fax?")),
            "parallel": lambda: common.at_once(agent().run),
            "threads": lambda: common.in_threads(lambda prompt: asyncio.run(agent().run(prompt))),
            "waiting": lambda: agent(fax).run("Wait for two faxes."),
            "handoff": handoff,
            "agenttool": lambda: agent(agent(name="weather_expert").as_tool(), name="triage_agent").run("Oslo?"),
            "concurrent": lambda: (
                ConcurrentBuilder(participants=[agent(name=f"{c}_expert") for c in "abc"]).build().run("Oslo?")
            ),
            "sequential": lambda: (
                SequentialBuilder(participants=[agent(name="researcher"), agent(name="writer")]).build().run("Oslo?")
            ),
            "maxsteps": lambda: agent(steps={"max_iterations": 2}).run("Weather?"),
            "asked": lambda: ask(None),
            "approval": lambda: ask(True),
            "deny": lambda: ask(False),
            "responses": lambda: agent(of=OpenAIChatClient).run("Weather in Oslo?"),
            "conv": conv,
        }
    )
