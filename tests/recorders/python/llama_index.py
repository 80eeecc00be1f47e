"""Scenarios of LlamaIndex with OpenInference's instrumentation."""

# /// script
# dependencies = [
#     "llama-index-core", "llama-index-llms-openai-like", "openinference-instrumentation-llama-index",
# ]
# ///

import asyncio
import os
from typing import Any

import httpx2  # noqa: F401  # else two threads import it at once, lazily, and one fails
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent
from llama_index.llms.openai_like import OpenAILike
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from pydantic import BaseModel

from tests.recorders.python import common

ANSWERS = {
    "handoff": [
        'tool:handoff:{"to_agent": "weather_expert", "reason": "weather"}',
        'tool:get_weather:{"city": "Oslo"}',
        "text:It rains in Oslo.",
    ],
}
LlamaIndexInstrumentor().instrument(tracer_provider=common.provider)


class Weather(BaseModel):
    city: str
    sky: str


def agent(*tools: Any, name: str = "weather_agent", **more: Any) -> FunctionAgent:
    llm = OpenAILike(
        model=common.MODEL,
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key="stub",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=1,
    )
    more.setdefault("streaming", False)
    return FunctionAgent(name=name, description=name, llm=llm, tools=list(tools or (common.get_weather,)), **more)


async def run(prompt: str, made: FunctionAgent | None = None, **more: Any) -> str:
    return str(await (made or agent()).run(prompt, **more))


async def conv() -> None:
    made = agent()
    context = Context(made)
    for prompt in ("Weather in Oslo?", "And in Bergen?", "Thanks."):
        await made.run(prompt, ctx=context)


async def cancel() -> None:
    handler = agent().run("Weather in Oslo?")
    await asyncio.sleep(4)
    await handler.cancel_run()
    await handler


async def handoff() -> str:
    triage = agent(name="triage_agent", can_handoff_to=["weather_expert"])
    flow = AgentWorkflow(agents=[triage, agent(name="weather_expert")], root_agent="triage_agent")
    return str(await flow.run("Weather in Oslo?"))


async def agenttool() -> str:
    async def ask_expert(question: str) -> str:
        """Ask the expert for weather."""
        return await run(question, agent(name="weather_expert"))

    return await run("Weather in Oslo?", agent(ask_expert, name="triage_agent"))


async def approval() -> str:
    async def delete_file(ctx: Context, path: str) -> str:
        """Delete a file."""
        asked = InputRequiredEvent(prefix=f"Delete {path}?")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_id="ask", waiter_event=asked)
        return common.delete_file(path) if answer.response == "yes" else "no"

    handler = agent(delete_file, name="ops_agent").run("Delete /tmp/x.")
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            await asyncio.sleep(1)
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    return str(await handler)


async def parallel() -> None:
    await common.at_once(run)


async def tooltimeout() -> None:
    await run("Any fax?", agent(common.wait_for_fax, timeout=4))


if __name__ == "__main__":
    direct = FunctionTool.from_defaults(common.get_weather, return_direct=True)
    common.main(
        {
            "ok": lambda: run("Weather in Oslo and Bergen?"),
            "stream": lambda: run("Weather in Oslo?", agent(streaming=True)),
            "toolfail": lambda: run("Book a flight to Oslo.", agent(common.book_flight)),
            "err400": lambda: run("Weather in Oslo?"),
            "err500": lambda: run("Weather in Oslo?"),
            "timeout": lambda: run("Weather in Oslo?", agent(timeout=4)),
            "cancel": cancel,
            "tooltimeout": tooltimeout,
            "parallel": parallel,
            "threads": lambda: common.in_threads(lambda prompt: asyncio.run(run(prompt))),
            "waiting": lambda: run("Wait for two faxes.", agent(common.wait_for_fax)),
            "handoff": handoff,
            "agenttool": agenttool,
            "maxsteps": lambda: run("Weather?", max_iterations=3),
            "approval": approval,
            "structured": lambda: run("Weather in Oslo?", agent(output_cls=Weather)),
            "direct": lambda: run("Weather in Oslo?", agent(direct)),
            "conv": conv,
        }
    )
