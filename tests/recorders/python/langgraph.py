"""Scenarios of LangGraph and LangChain, by default with OpenInference's instrumentation."""

# /// script
# dependencies = ["langgraph", "langchain", "langchain-openai", "openinference-instrumentation-langchain"]
# ///

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from tests.recorders.python import common

ANSWERS = {
    "structured": ['tool:get_weather:{"city": "Oslo"}', 'tool:Weather:{"city": "Oslo", "sky": "rain"}'],
    "interrupt": ['tool:delete_file:{"path": "/tmp/x"}', "text:Deleted."],
}
get_weather = tool(common.get_weather)
wait_for_fax = tool(common.wait_for_fax)


class Weather(BaseModel):
    city: str
    sky: str


def agent(*tools: Any, name: str = "weather_agent", **more: Any) -> Any:
    from langchain.agents.structured_output import ToolStrategy

    if "response_format" in more:
        more["response_format"] = ToolStrategy(more["response_format"])
    return create_agent(ChatOpenAI(model=common.MODEL), list(tools or (get_weather,)), name=name, **more)


def said(prompt: str) -> Any:
    return {"messages": [{"role": "user", "content": prompt}]}


def run(prompt: str, made: Any = None, **config: Any) -> str:
    return str((made or agent()).invoke(said(prompt), config or None)["messages"][-1].content)


async def arun(prompt: str, made: Any = None) -> str:
    return str((await (made or agent()).ainvoke(said(prompt)))["messages"][-1].content)


def stream() -> None:
    for _ in agent().stream(said("Weather in Oslo?"), stream_mode="messages"):
        pass


def conv() -> None:
    made = agent(checkpointer=InMemorySaver())
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        run(prompt, made, configurable={"thread_id": "thread-1"})


def handoff() -> str:
    @tool
    def transfer_to_weather_expert() -> Command[Any]:
        """Hand over to the weather expert."""
        return Command(goto="weather_expert", graph=Command.PARENT, update={"messages": [("user", "Weather in Oslo?")]})

    graph = StateGraph(MessagesState)
    graph.add_node(
        "triage_agent", agent(transfer_to_weather_expert, name="triage_agent"), destinations=("weather_expert",)
    )
    graph.add_node("weather_expert", agent(name="weather_expert"))
    graph.set_entry_point("triage_agent")
    return run("Weather in Oslo?", graph.compile(name="weather_desk"))


def agenttool() -> str:
    @tool
    def ask_expert(question: str) -> str:
        """Ask the expert for weather."""
        return run(question, agent(name="weather_expert"))

    return run("Weather in Oslo?", agent(ask_expert, name="triage_agent"))


def ask(decision: str) -> str:
    guard = HumanInTheLoopMiddleware(interrupt_on={"delete_file": True})
    ops = agent(tool(common.delete_file), name="ops_agent", checkpointer=InMemorySaver(), middleware=[guard])
    config: Any = {"configurable": {"thread_id": "thread-1"}}
    ops.invoke(said("Delete /tmp/x."), config)
    time.sleep(1)
    answer = {"decisions": [{"type": decision}]}
    return str(ops.invoke(Command(resume=answer), config)["messages"][-1].content)


def interrupted() -> str:
    @tool
    def delete_file(path: str) -> str:
        """Delete a file."""
        return common.delete_file(path) if interrupt({"question": f"Delete {path}?"}) else "no"

    ops = agent(delete_file, name="ops_agent", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "thread-1"}}
    ops.invoke(said("Delete /tmp/x."), config)
    time.sleep(1)
    return str(ops.invoke(Command(resume=True), config)["messages"][-1].content)


SCENARIOS: dict[str, Callable[[], Any]] = {
    "ok": lambda: run("Weather in Oslo and Bergen?"),
    "stream": stream,
    "toolfail": lambda: run("Book a flight to Oslo.", agent(tool(common.book_flight))),
    "err400": lambda: run("Weather in Oslo?"),
    "err500": lambda: run("Weather in Oslo?"),
    "timeout": lambda: common.timed_out(arun("Weather in Oslo?")),
    "cancel": lambda: common.cancelled(arun("Weather in Oslo?")),
    "tooltimeout": lambda: common.timed_out(arun("Any fax?", agent(wait_for_fax))),
    "parallel": lambda: common.at_once(arun),
    "threads": lambda: common.in_threads(run),
    "waiting": lambda: arun("Wait for two faxes.", agent(wait_for_fax)),
    "handoff": handoff,
    "agenttool": agenttool,
    "maxsteps": lambda: run("Weather?", recursion_limit=5),
    "approval": lambda: ask("approve"),
    "deny": lambda: ask("reject"),
    "interrupt": interrupted,
    "structured": lambda: run("Weather in Oslo?", agent(response_format=Weather)),
    "direct": lambda: run("Weather in Oslo?", agent(tool(common.get_weather, return_direct=True))),
    "conv": conv,
}
if __name__ == "__main__":
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=common.provider)
    common.main(SCENARIOS)
