"""A travel desk in LangGraph, followed live.

Run ``python with_langgraph.py [answer|failure|approval|handoff|stream]``.

Instrumented with OpenInference's package for LangChain, as its users do; spanpost is the one line
`attach()`. The model is LangChain's `FakeMessagesListChatModel` with scripted answers, so it runs offline
and costs nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from openinference.instrumentation.langchain import LangChainInstrumentor

import spanpost

spanpost.attach()
LangChainInstrumentor().instrument()


def ask_a_person(question: str) -> bool:
    """Stand for the person who has to agree, and may take days."""
    return True


def ask_the_weather_service(city: str) -> str:
    """Stand for a service that takes its time."""
    return f"{city}: 4 °C and rain"


@tool
def look_up_weather(city: str) -> str:
    """Return the weather of a city."""
    return ask_the_weather_service(city)


@tool
def book_hotel(city: str) -> str:
    """Book a room; a person has to agree."""
    return f"booked in {city}" if interrupt(f"Book a room in {city}?") else "not booked"


@tool
def ask_concierge(question: str) -> str:
    """Hand a question to the concierge."""
    concierge = an_agent("concierge", look_up_weather, {"city": "Oslo"})
    return str(concierge.invoke(asked(question))["messages"][-1].content)


class Scripted(FakeMessagesListChatModel):
    """Returns its answers in turn, whatever tools it is given."""

    def bind_tools(self, tools: Any, **settings: Any) -> Any:
        """Take the tools as a real model would."""
        return self


def an_agent(name: str, tool: Any, arguments: Any, **more: Any) -> Any:
    """Return an agent whose model calls the tool and then answers in words."""

    def says(text: str, input_tokens: int, calls: Any = ()) -> AIMessage:
        usage: Any = {"input_tokens": input_tokens, "output_tokens": 12, "total_tokens": input_tokens + 12}
        return AIMessage(text, tool_calls=calls, usage_metadata=usage, response_metadata={"model_name": "gpt-4o"})

    call = {"name": tool.name, "args": arguments, "id": "call_1"}
    model = Scripted(responses=[says("", 100, [call]), says("Take a rain coat and warm shoes.", 120)])
    return create_agent(model, [tool], name=name, **more)


def asked(question: str) -> Any:
    """Return what a person said, as an agent takes it."""
    return {"messages": [{"role": "user", "content": question}]}


def run(what: str) -> None:
    """Have it answer, fail, wait for a person, work through a second agent, or stream."""
    concierge = an_agent("concierge", look_up_weather, {"city": "Oslo"})
    if what == "approval":
        booking = an_agent("booking", book_hotel, {"city": "Oslo"}, checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "holidays"}}
        booking.invoke(asked("Book a room in Oslo"), thread)
        booking.invoke(Command(resume=ask_a_person("Book it?")), thread)
    elif what == "handoff":
        travel_desk = an_agent("travel_desk", ask_concierge, {"question": "What shall I wear?"})
        travel_desk.invoke(asked("What shall I wear in Oslo?"))
    elif what == "stream":
        for _ in concierge.stream(asked("What shall I wear in Oslo?"), stream_mode="messages"):
            pass
    else:
        concierge.invoke(asked("What shall I wear in Oslo?"))


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "answer")
