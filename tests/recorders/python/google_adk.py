"""Scenarios of google-adk with its own telemetry."""

# /// script
# dependencies = ["google-adk>=2.13"]
# ///

from __future__ import annotations

import asyncio
from typing import Any

from tests.recorders.python import common  # isort: skip
from google.adk.agents import Agent, LoopAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.models import Gemini
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool, ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.genai import types

ANSWERS = {
    "handoff": [
        'tool:transfer_to_agent:{"agent_name": "weather_expert"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
    ],
    "agenttool": [
        'tool:weather_expert:{"request": "Weather in Oslo"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "sequential": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella."],
    "loop": [
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        'tool:get_weather:{"city": "Bergen"}',
        "text:It rains.",
    ],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
    "asked": ['tool:delete_file:{"path": "/tmp/x"}'],
}


def get_weather_and_stop(city: str, tool_context: ToolContext) -> str:
    """Return the weather of a city."""
    tool_context.actions.skip_summarization = True
    return f"{city}: rain"


get_weather_and_stop.__name__ = "get_weather"


def agent(*tools: Any, name: str = "weather_agent", limit: int = 0, **more: Any) -> Agent:
    options = types.HttpOptions(timeout=limit, retry_options=types.HttpRetryOptions(attempts=1)) if limit else None
    model = Gemini(model="gemini-3-flash", client_kwargs={"http_options": options} if options else None)
    given = [*(tools or (common.get_weather,))]
    return Agent(name=name, model=model, description=name, instruction="Be brief.", tools=given, **more)


class Session:
    """A session with its agent."""

    def __init__(self, root: Any) -> None:
        self.runner = InMemoryRunner(agent=root, app_name="weather")
        self.id = ""

    async def run(self, said: str | types.Part, **more: Any) -> list[Any]:
        """Say something and return the events."""
        if not self.id:
            self.id = (await self.runner.session_service.create_session(app_name="weather", user_id="u")).id
        part = types.Part(text=said) if isinstance(said, str) else said
        message = types.Content(role="user", parts=[part])
        ran = self.runner.run_async(user_id="u", session_id=self.id, new_message=message, **more)
        return [event async for event in ran]


async def once(root: Any, prompt: str = "Weather in Oslo?", **more: Any) -> str:
    return str((await Session(root).run(prompt, **more))[-1].content)


async def conv() -> None:
    session = Session(agent())
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        await session.run(prompt)


async def ask(is_approved: bool | None) -> None:
    session = Session(agent(FunctionTool(common.delete_file, require_confirmation=True), name="ops_agent"))
    events = await session.run("Delete /tmp/x.")
    await asyncio.sleep(1)
    calls = [call for event in events for call in event.get_function_calls()]
    for call in calls if is_approved is not None else ():
        if call.name == "adk_request_confirmation":
            answer = types.FunctionResponse(id=call.id, name=call.name, response={"confirmed": is_approved})
            await session.run(types.Part(function_response=answer))


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: once(agent(), "Weather in Oslo and Bergen?"),
            "stream": lambda: once(agent(), run_config=RunConfig(streaming_mode=StreamingMode.SSE)),
            "toolfail": lambda: once(agent(common.book_flight)),
            "err400": lambda: once(agent()),
            "err500": lambda: once(agent()),
            "timeout": lambda: common.timed_out(once(agent())),
            "calltimeout": lambda: once(agent(limit=1000)),
            "cancel": lambda: common.cancelled(once(agent())),
            "tooltimeout": lambda: common.timed_out(once(agent(common.wait_for_fax))),
            "parallel": lambda: common.at_once(lambda prompt: once(agent(), prompt)),
            "threads": lambda: common.in_threads(lambda prompt: asyncio.run(once(agent(), prompt))),
            "waiting": lambda: once(agent(common.wait_for_fax)),
            "handoff": lambda: once(agent(name="triage_agent", sub_agents=[agent(name="weather_expert")])),
            "agenttool": lambda: once(agent(AgentTool(agent(name="weather_expert")), name="triage_agent")),
            "sequential": lambda: once(
                SequentialAgent(name="weather_desk", sub_agents=[agent(name="researcher"), agent(name="writer")])
            ),
            "loop": lambda: once(
                LoopAgent(name="weather_loop", max_iterations=2, sub_agents=[agent(name="researcher")])
            ),
            "maxsteps": lambda: once(agent(), run_config=RunConfig(max_llm_calls=3)),
            "asked": lambda: ask(None),
            "approval": lambda: ask(True),
            "deny": lambda: ask(False),
            "direct": lambda: once(agent(get_weather_and_stop)),
            "conv": conv,
        }
    )
