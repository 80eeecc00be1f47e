"""Scenarios of the Model Context Protocol's SDK: a server's own spans, and a client within an agent's."""

# /// script
# dependencies = ["mcp"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from mcp import Client
from mcp.server import MCPServer
from opentelemetry import trace

ANSWERS = {"ok": ["text:"], "agentspan": ["text:"], "toolfail": ["text:"]}
server = MCPServer("weather")
server.tool()(common.get_weather)
server.tool()(common.book_flight)


async def call(*tools: str) -> Any:
    async with Client(server) as client:
        for tool in tools:
            print(await client.call_tool(tool, {"city": "Oslo"}))


async def agentspan(*tools: str) -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather_agent"}
    with trace.get_tracer("own").start_as_current_span("invoke_agent weather_agent", attributes=attributes):
        await call(*tools)


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: call("get_weather"),
            "toolfail": lambda: agentspan("book_flight"),
            "agentspan": lambda: agentspan("get_weather", "get_weather"),
        }
    )
