"""What the Python programs share: spanpost attached, the telemetry recorded, the tools, and the scenario's start."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import spanpost

#: Seconds that a tool takes, so that it is seen at work.
TOOL_TIME = 0.3
MODEL = "gpt-4o"
CITIES = ("Oslo", "Bergen", "Rome")

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
app = spanpost.attach()


def get_weather(city: str) -> str:
    """Return the weather of a city."""
    time.sleep(TOOL_TIME)
    return f"{city}: 4 degrees and rain"


def book_flight(city: str) -> str:
    """Book a flight to a city."""
    time.sleep(TOOL_TIME)
    raise ValueError("the payment gateway is unreachable")


def delete_file(path: str) -> str:
    """Delete a file."""
    time.sleep(TOOL_TIME)
    return f"deleted {path}"


async def wait_for_fax(number: str) -> str:
    """Wait for a fax to a number, as long as the number says in tenths of a second."""
    await asyncio.sleep(int(number) / 10)
    return f"fax {number} has arrived"


async def timed_out(run: Awaitable[Any]) -> None:
    """Give the run four seconds."""
    await asyncio.wait_for(run, 4)


async def cancelled(run: Awaitable[Any]) -> None:
    """Cancel the run, as an application does whose user has left."""
    task = asyncio.ensure_future(run)
    await asyncio.sleep(4)
    task.cancel()
    await task


async def at_once(run: Callable[[str], Awaitable[Any]]) -> None:
    """Start three runs in one event loop."""
    await asyncio.gather(*(run(f"What is the weather in {city}?") for city in CITIES))


def in_threads(run: Callable[[str], Any]) -> None:
    """Start three runs in three threads."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, (f"What is the weather in {city}?" for city in CITIES)))


def main(scenarios: dict[str, Callable[[], Any]], flush: Callable[[], object] = lambda: None) -> None:
    """Run the scenario that the last argument names, and print what it returned or raised.

    `flush` waits for what the instrumentation still holds.
    """
    ran: Any
    try:
        ran = scenarios[sys.argv[-1]]()
        if inspect.iscoroutine(ran):
            ran = asyncio.run(ran)
        print("returned", repr(ran)[:300])
    except BaseException as error:
        if os.environ.get("LIVE_TRACEBACK"):
            traceback.print_exc()
        print("raised", type(error).__name__, str(error)[:300])
    flush()
    provider.force_flush()
