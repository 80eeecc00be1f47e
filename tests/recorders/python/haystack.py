"""Scenarios of Haystack with openinference-instrumentation-haystack."""

# /// script
# dependencies = ["haystack-ai", "openinference-instrumentation-haystack"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.haystack import HaystackInstrumentor

HaystackInstrumentor().instrument()

from haystack import Pipeline  # noqa: E402
from haystack.components.agents import Agent  # noqa: E402
from haystack.components.generators.chat import OpenAIChatGenerator  # noqa: E402
from haystack.dataclasses import ChatMessage  # noqa: E402
from haystack.tools import tool  # noqa: E402

ANSWERS = {
    "pipeline": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo."],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
}
get_weather, book_flight = tool(common.get_weather), tool(common.book_flight)


def agent(*tools: Any, limit: float = 30, **more: Any) -> Agent:
    model = OpenAIChatGenerator(model=common.MODEL, max_retries=0, timeout=limit)
    return Agent(chat_generator=model, tools=[*(tools or (get_weather,))], **more)


def said(prompt: str = "Weather in Oslo?") -> list[ChatMessage]:
    return [ChatMessage.from_user(prompt)]


def pipeline() -> Any:
    made = Pipeline()
    made.add_component("weather_agent", agent())
    return made.run({"weather_agent": {"messages": said()}})


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent().run(messages=said()),
            "stream": lambda: agent(streaming_callback=lambda chunk: None).run(messages=said()),
            "toolfail": lambda: agent(book_flight).run(messages=said("Book a flight to Oslo.")),
            "err400": lambda: agent().run(messages=said()),
            "err500": lambda: agent().run(messages=said()),
            "timeout": lambda: common.timed_out(agent().run_async(messages=said())),
            "calltimeout": lambda: agent(limit=1).run(messages=said()),
            "cancel": lambda: common.cancelled(agent().run_async(messages=said())),
            "parallel": lambda: common.at_once(lambda prompt: agent().run_async(messages=said(prompt))),
            "threads": lambda: common.in_threads(lambda prompt: agent().run(messages=said(prompt))),
            "maxsteps": lambda: agent(max_agent_steps=2).run(messages=said()),
            "direct": lambda: agent(exit_conditions=["get_weather"]).run(messages=said()),
            "pipeline": pipeline,
        }
    )
