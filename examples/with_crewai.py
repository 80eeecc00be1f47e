"""A travel desk in CrewAI, followed live: ``python with_crewai.py [answer|failure|handoff|stream]``.

Instrumented with OpenInference's package, as its users do; spanpost is the one line `attach()`. The model is
CrewAI's `BaseLLM` with scripted answers, so it runs offline and costs nothing.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")  # CrewAI's own, to its makers
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool
from openinference.instrumentation.crewai import CrewAIInstrumentor

import spanpost

spanpost.attach()
CrewAIInstrumentor().instrument()


def ask_the_weather_service(city: str) -> str:
    """Stand for a service that takes its time."""
    return f"{city}: 4 °C and rain"


@tool("look_up_weather")
def look_up_weather(city: str) -> str:
    """Return the weather of a city."""
    return ask_the_weather_service(city)


class Scripted(BaseLLM):
    """Calls each of its tools once and then answers in words."""

    def __init__(self, **calls: dict[str, str]) -> None:
        super().__init__(model="gpt-4o")
        self._calls = [
            {"id": f"call_{name}", "name": name, "arguments": json.dumps(said)} for name, said in calls.items()
        ]

    def supports_function_calling(self) -> bool:
        """Tools are called by name, not in prose."""
        return True

    def call(self, messages: Any, *args: Any, **more: Any) -> Any:
        """Ask for the next tool, while there is one."""
        return [self._calls.pop(0)] if self._calls else "Take a rain coat and warm shoes."


def a_member(role: str, model: Scripted, **more: Any) -> Agent:
    """Return an agent of the crew."""
    return Agent(role=role, goal="Tell what to wear", backstory="A traveller.", llm=model, **more)


def run(what: str) -> None:
    """Have it answer, fail, work through a second agent, or stream."""
    concierge = a_member("concierge", Scripted(look_up_weather={"city": "Oslo"}), tools=[look_up_weather])
    members = [concierge]
    if what == "handoff":
        question = {"coworker": "concierge", "task": "What shall I wear?", "context": "Oslo"}
        members.insert(0, a_member("travel_desk", Scripted(delegate_work_to_coworker=question), allow_delegation=True))
    tasks = [Task(name="pack", description="What to wear in Oslo", expected_output="A list", agent=members[0])]
    crew = Crew(name="travel_crew", agents=members, tasks=tasks, stream=what == "stream")
    result = crew.kickoff()
    if what == "stream":
        for _ in result:
            pass


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "answer")
