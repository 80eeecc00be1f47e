"""Scenarios of CrewAI with openinference-instrumentation-crewai and that of its model's client."""

# /// script
# dependencies = ["crewai", "openinference-instrumentation-crewai", "openinference-instrumentation-openai"]
# ///

from __future__ import annotations

import os
from typing import Any

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false")

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

CrewAIInstrumentor().instrument()
OpenAIInstrumentor().instrument()

from crewai import LLM, Agent, Crew, Process, Task  # noqa: E402
from crewai.flow.flow import Flow, listen, start  # noqa: E402
from crewai.tools import tool  # noqa: E402

ANSWERS = {
    "handoff": [
        'tool:delegate_work_to_coworker:{"task": "Weather in Oslo", "context": "now", "coworker": "Expert"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "hierarchical": [
        'tool:delegate_work_to_coworker:{"task": "Weather in Oslo", "context": "now", "coworker": "Expert"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
        "text:Rain, says the expert.",
    ],
    "two": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella."],
    "conv": ['tool:get_weather:{"city": "Oslo"}', "text:It rains.", "text:It rains.", "text:It rains."],
    "flow": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "alone": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
}
get_weather, book_flight = tool(common.get_weather), tool(common.book_flight)
get_weather_and_stop = tool("get_weather", result_as_answer=True)(common.get_weather)


def llm(limit: float = 30, is_stream: bool = False) -> LLM:
    return LLM(model=f"openai/{common.MODEL}", max_retries=0, timeout=limit, stream=is_stream)


def agent(*tools: Any, role: str = "Forecaster", **more: Any) -> Agent:
    more.setdefault("llm", llm())
    more.setdefault("tools", [*(tools or (get_weather,))])
    return Agent(role=role, goal="Know the weather", backstory="A colleague", max_retry_limit=0, **more)


def task(one: Agent | None, asks: str = "Report the weather in Oslo") -> Task:
    return Task(description=asks, expected_output="A line", agent=one)


def crew(*tools: Any, name: str = "weather_crew", **more: Any) -> Crew:
    one = agent(*tools, **more)
    return Crew(name=name, agents=[one], tasks=[task(one)])


def delegating() -> Any:
    boss, expert = agent(role="Editor", tools=[], allow_delegation=True), agent(role="Expert")
    return Crew(name="desk", agents=[boss, expert], tasks=[task(boss)]).kickoff()


def hierarchical() -> Any:
    kept: Any = {"process": Process.hierarchical, "manager_llm": llm()}
    return Crew(name="desk", agents=[agent(role="Expert")], tasks=[task(None)], **kept).kickoff()


def two() -> Any:
    one, other = agent(role="Researcher"), agent(role="Writer", tools=[])
    return Crew(name="two", agents=[one, other], tasks=[task(one), task(other, "Write it")]).kickoff()


def conv() -> None:
    one = crew()
    for _ in range(3):
        one.kickoff()


class WeatherFlow(Flow[Any]):
    """A flow around one crew."""

    @start()
    def ask(self) -> str:
        return str(crew().kickoff())

    @listen(ask)
    def tell(self, said: str) -> str:
        return said


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: crew().kickoff(),
            "stream": lambda: crew(llm=llm(is_stream=True)).kickoff(),
            "toolfail": lambda: crew(book_flight).kickoff(),
            "err400": lambda: crew().kickoff(),
            "err500": lambda: crew().kickoff(),
            "timeout": lambda: common.timed_out(crew().akickoff()),
            "calltimeout": lambda: crew(llm=llm(1)).kickoff(),
            "cancel": lambda: common.cancelled(crew().akickoff()),
            "parallel": lambda: common.at_once(lambda prompt: crew().akickoff()),
            "threads": lambda: common.in_threads(lambda prompt: crew().kickoff()),
            "handoff": delegating,
            "hierarchical": hierarchical,
            "two": two,
            "maxsteps": lambda: crew(max_iter=2).kickoff(),
            "direct": lambda: crew(get_weather_and_stop).kickoff(),
            "conv": conv,
            "flow": lambda: WeatherFlow().kickoff(),
            "alone": lambda: agent().kickoff("Weather in Oslo?"),
        }
    )
