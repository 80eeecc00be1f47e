"""Scenarios of LiteLLM with openinference-instrumentation-litellm."""

# /// script
# dependencies = ["litellm", "openinference-instrumentation-litellm"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.litellm import LiteLLMInstrumentor

LiteLLMInstrumentor().instrument()

import litellm  # noqa: E402
from opentelemetry import trace  # noqa: E402

from spanpost.agent import agent_task  # noqa: E402

ANSWERS = {
    "ok": ["text:It rains in Oslo."],
    "stream": ["text:It rains in Oslo."],
    "parallel": ["text:It rains in Oslo."],
    "task": ["text:It rains in Oslo."],
    "agentspan": ["text:It rains in Oslo."],
    "err400": ["error:400"],
    "err500": ["error:500"],
    "timeout": ["hang:"],
    "calltimeout": ["hang:"],
    "cancel": ["hang:"],
}


def given(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Weather in Oslo?"}]
    return {"model": f"openai/{common.MODEL}", "messages": messages, "num_retries": 0, "max_retries": 0, **more}


def task() -> None:
    with agent_task("weather_agent"):
        for _ in range(3):
            litellm.completion(**given())


def agentspan() -> None:
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather_agent"}
    with trace.get_tracer("own").start_as_current_span("invoke_agent weather_agent", attributes=attributes):
        for _ in range(3):
            litellm.completion(**given())


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: litellm.completion(**given()),
            "stream": lambda: len(list(litellm.completion(**given(stream=True)))),
            "err400": lambda: litellm.completion(**given()),
            "err500": lambda: litellm.completion(**given()),
            "timeout": lambda: common.timed_out(litellm.acompletion(**given())),
            "calltimeout": lambda: litellm.completion(**given(timeout=1)),
            "cancel": lambda: common.cancelled(litellm.acompletion(**given())),
            "parallel": lambda: common.at_once(lambda prompt: litellm.acompletion(**given())),
            "task": task,
            "agentspan": agentspan,
        }
    )
