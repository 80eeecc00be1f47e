"""Scenarios of strands-agents with its own telemetry."""

# /// script
# dependencies = ["strands-agents[openai,otel]>=1.62"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.models.openai import OpenAIModel
from strands.multiagent import GraphBuilder, Swarm

ANSWERS = {
    "structured": ['tool:City:{"city": "Oslo"}'],
    "handoff": [
        'tool:handoff_to_agent:{"agent_name": "weather_expert", "message": "Weather in Oslo"}',
        "text:Handed over.",
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
    ],
    "graph": ['tool:get_weather:{"city": "Oslo"}', "text:It rains in Oslo.", "text:Take an umbrella."],
    "calltimeout": ['tool:get_weather:{"city": "Oslo"}', "hang:"],
}
get_weather, book_flight, fax = tool(common.get_weather), tool(common.book_flight), tool(common.wait_for_fax)


@tool(context=True)
def delete_file(path: str, tool_context: ToolContext) -> str:
    """Delete a file."""
    return "deleted" if tool_context.interrupt("delete", reason={"path": path}) == "yes" else "not allowed"


@tool(name="get_weather", context=True)
def get_weather_and_stop(city: str, tool_context: ToolContext) -> str:
    """Return the weather of a city."""
    tool_context.invocation_state["request_state"]["stop_event_loop"] = True
    return f"{city}: rain"


class City(BaseModel):
    """A city."""

    city: str


def agent(*tools: Any, name: str = "weather_agent", limit: float = 30, **more: Any) -> Agent:
    model = OpenAIModel(client_args={"max_retries": 0, "timeout": limit}, model_id=common.MODEL)
    return Agent(
        model=model,
        name=name,
        description=name,
        tools=[*(tools or (get_weather,))],
        callback_handler=None,
        retry_strategy=None,
        **more,
    )


async def stream() -> None:
    async for _ in agent().stream_async("Weather in Oslo?"):
        pass


def conv() -> None:
    one = agent(trace_attributes={"session.id": "sess-7"})
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        one(prompt)


def ask(is_approved: bool) -> str:
    one = agent(delete_file, name="ops_agent")
    asked = one("Delete /tmp/x.")
    common.time.sleep(1)
    answer = "yes" if is_approved else "no"
    return str(one([{"interruptResponse": {"interruptId": i.id, "response": answer}} for i in asked.interrupts or ()]))


def graph() -> str:
    builder = GraphBuilder()
    builder.add_node(agent(name="researcher"), "research")
    builder.add_node(agent(name="writer"), "write")
    builder.add_edge("research", "write")
    return str(builder.build()("Weather in Oslo?"))


def agenttool() -> str:
    expert = agent(name="weather_expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask the weather expert."""
        return str(expert(question))

    return str(agent(ask_expert, name="triage_agent")("Weather in Oslo?"))


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: agent()("Weather in Oslo and Bergen?"),
            "stream": stream,
            "toolfail": lambda: agent(book_flight)("Book a flight to Oslo."),
            "err400": lambda: agent()("Weather in Oslo?"),
            "err500": lambda: agent()("Weather in Oslo?"),
            "timeout": lambda: common.timed_out(agent().invoke_async("Weather in Oslo?")),
            "calltimeout": lambda: agent(limit=1)("Weather in Oslo?"),
            "cancel": lambda: common.cancelled(agent().invoke_async("Weather in Oslo?")),
            "parallel": lambda: common.at_once(lambda prompt: agent().invoke_async(prompt)),
            "threads": lambda: common.in_threads(lambda prompt: agent()(prompt)),
            "waiting": lambda: agent(fax)("Wait for two faxes."),
            "handoff": lambda: Swarm([agent(name="triage_agent"), agent(name="weather_expert")])("Weather in Oslo?"),
            "graph": graph,
            "agenttool": agenttool,
            "maxsteps": lambda: agent()("Weather?", limits={"turns": 2}),
            "approval": lambda: ask(True),
            "deny": lambda: ask(False),
            "structured": lambda: agent(structured_output_model=City)("Weather in Oslo?"),
            "direct": lambda: agent(get_weather_and_stop)("Weather in Oslo?"),
            "conv": conv,
        }
    )
