"""Scenarios of smolagents with openinference-instrumentation-smolagents."""

# /// script
# dependencies = ["smolagents[openai]", "openinference-instrumentation-smolagents"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.smolagents import SmolagentsInstrumentor

SmolagentsInstrumentor().instrument()

from smolagents import OpenAIModel, ToolCallingAgent, tool  # noqa: E402

ANSWERS = {
    "ok": [
        'tool:get_weather:{"city": "Oslo"}',
        'tool:get_weather:{"city": "Bergen"}',
        'tool:final_answer:{"answer": "It rains."}',
    ],
    "stream": ['tool:get_weather:{"city": "Oslo"}', 'tool:final_answer:{"answer": "It rains."}'],
    "toolfail": ['tool:book_flight:{"city": "Oslo"}', 'tool:final_answer:{"answer": "It is not booked."}'],
    "threads": ["turns:", 'tool:get_weather:{"city": "Oslo"}', 'tool:final_answer:{"answer": "It rains."}'],
    "agenttool": [
        'tool:weather_expert:{"task": "Weather in Oslo"}',
        'tool:get_weather:{"city": "Oslo"}',
        'tool:final_answer:{"answer": "It rains."}',
        'tool:final_answer:{"answer": "Rain, says the expert."}',
    ],
    "maxsteps": ['tool:get_weather:{"city": "Oslo"}', 'tool:get_weather:{"city": "Bergen"}', "text:It rains."],
    "conv": [
        'tool:get_weather:{"city": "Oslo"}',
        'tool:final_answer:{"answer": "It rains in Oslo."}',
        'tool:get_weather:{"city": "Bergen"}',
        'tool:final_answer:{"answer": "It rains in Bergen, too."}',
        'tool:final_answer:{"answer": "You are welcome."}',
    ],
}


@tool
def get_weather(city: str) -> str:
    """Return the weather of a city.

    Args:
        city: the city
    """
    return common.get_weather(city)


@tool
def book_flight(city: str) -> str:
    """Book a flight to a city.

    Args:
        city: the city
    """
    return common.book_flight(city)


def agent(*tools: Any, name: str = "weather_agent", limit: float = 30, **more: Any) -> ToolCallingAgent:
    model = OpenAIModel(common.MODEL, client_kwargs={"max_retries": 0, "timeout": limit})
    model.retryer.max_attempts = 1
    given = [*(tools or (get_weather,))]
    return ToolCallingAgent(model=model, name=name, description=name, tools=given, verbosity_level=0, **more)


def going_on(one: ToolCallingAgent) -> None:
    """Run an agent that fails, in a process that goes on."""
    try:
        one.run("Weather in Oslo?")
    except Exception as error:
        print("raised", type(error).__name__)
    common.time.sleep(3)


def conv() -> None:
    one = agent()
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        one.run(prompt, reset=False)


def cancel() -> None:
    one = agent(step_callbacks=[lambda step: one.interrupt()])
    one.run("Weather in Oslo?")


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent().run("Weather in Oslo and Bergen?"),
            "stream": lambda: list(agent(stream_outputs=True).run("Weather in Oslo?", stream=True))[-1],
            "toolfail": lambda: agent(book_flight).run("Book a flight to Oslo."),
            "err400": lambda: going_on(agent()),
            "err500": lambda: going_on(agent()),
            "timeout": lambda: going_on(agent(limit=1)),
            "cancel": cancel,
            "threads": lambda: common.in_threads(lambda prompt: agent().run(prompt)),
            "agenttool": lambda: agent(name="triage_agent", managed_agents=[agent(name="weather_expert")]).run("Oslo?"),
            "maxsteps": lambda: agent(max_steps=2).run("Weather in Oslo?"),
            "conv": conv,
        }
    )
