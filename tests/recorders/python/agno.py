"""Scenarios of agno with openinference-instrumentation-agno."""

# /// script
# dependencies = ["agno", "openai", "openinference-instrumentation-agno"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.agno import AgnoInstrumentor

AgnoInstrumentor().instrument()

from agno.agent import Agent  # noqa: E402
from agno.db.in_memory import InMemoryDb  # noqa: E402
from agno.models.openai import OpenAIChat  # noqa: E402
from agno.team import Team  # noqa: E402
from agno.tools import tool  # noqa: E402

ANSWERS = {
    "handoff": [
        'tool:delegate_task_to_member:{"member_id": "weather-expert", "task": "Weather in Oslo"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
    "asked": ['tool:delete_file:{"path": "/tmp/x"}'],
}
delete_file = tool(requires_confirmation=True)(common.delete_file)
get_weather_and_stop = tool(stop_after_tool_call=True)(common.get_weather)


def model(limit: float = 30) -> OpenAIChat:
    return OpenAIChat(id=common.MODEL, max_retries=0, timeout=limit)


def agent(*tools: Any, name: str = "weather_agent", limit: float = 30, **more: Any) -> Agent:
    return Agent(model=model(limit), name=name, tools=[*(tools or (common.get_weather,))], telemetry=False, **more)


def conv() -> None:
    one = agent(db=InMemoryDb(), add_history_to_context=True)
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        one.run(prompt, session_id="sess-7")


def ask(is_approved: bool | None) -> None:
    one = agent(delete_file, name="ops_agent", db=InMemoryDb())
    run = one.run("Delete /tmp/x.")
    common.time.sleep(1)
    if is_approved is None:
        return
    for requirement in run.active_requirements:
        requirement.confirm() if is_approved else requirement.reject("not today")
    one.continue_run(run_id=run.run_id, session_id=run.session_id, requirements=run.requirements)


def handoff() -> str:
    team = Team(model=model(), name="weather_desk", members=[agent(name="weather_expert")], telemetry=False)
    return str(team.run("Weather in Oslo?").content)


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent().run("Weather in Oslo and Bergen?").content,
            "stream": lambda: len(list(agent().run("Weather in Oslo?", stream=True))),
            "toolfail": lambda: agent(common.book_flight).run("Book a flight to Oslo.").content,
            "err400": lambda: agent().run("Weather in Oslo?").content,
            "err500": lambda: agent().run("Weather in Oslo?").content,
            "timeout": lambda: common.timed_out(agent().arun("Weather in Oslo?")),
            "calltimeout": lambda: agent(limit=1).run("Weather in Oslo?").content,
            "cancel": lambda: common.cancelled(agent().arun("Weather in Oslo?")),
            "parallel": lambda: common.at_once(lambda prompt: agent().arun(prompt)),
            "threads": lambda: common.in_threads(lambda prompt: agent().run(prompt).content),
            "handoff": handoff,
            "maxsteps": lambda: agent(tool_call_limit=2).run("Weather?").content,
            "asked": lambda: ask(None),
            "approval": lambda: ask(True),
            "deny": lambda: ask(False),
            "direct": lambda: agent(get_weather_and_stop).run("Weather in Oslo?").content,
            "conv": conv,
        }
    )
