# ruff: noqa: E501
"""Scenarios of DSPy with openinference-instrumentation-dspy."""

# /// script
# dependencies = ["dspy", "openinference-instrumentation-dspy"]
# ///

from __future__ import annotations

from typing import Any

from tests.recorders.python import common  # isort: skip
from openinference.instrumentation.dspy import DSPyInstrumentor

DSPyInstrumentor().instrument()

import dspy  # noqa: E402

ANSWERS = {
    "ok": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
    "module": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
    "toolfail": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nbook_flight\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
    "err400": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "error:400",
    ],
    "err500": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "error:500",
    ],
    "timeout": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "hang:",
    ],
    "cancel": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "hang:",
    ],
    "alone": ["text:[[ ## answer ## ]]\nIt rains.\n[[ ## completed ## ]]"],
    "maxsteps": [
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        'text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Oslo"}\n\n[[ ## completed ## ]]',
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
    "parallel": [
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
    "threads": [
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## next_thought ## ]]\nI go on.\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n[[ ## completed ## ]]",
        "text:[[ ## reasoning ## ]]\nIt is so.\n\n[[ ## answer ## ]]\nIt rains.\n\n[[ ## completed ## ]]",
    ],
}


def react(*tools: Any, limit: float = 30, **more: Any) -> Any:
    dspy.configure(lm=dspy.LM(f"openai/{common.MODEL}", cache=False, num_retries=0, timeout=limit))
    return dspy.ReAct("question -> answer", tools=[*(tools or (common.get_weather,))], **more)


class WeatherProgram(dspy.Module):  # type: ignore[misc]
    """A program of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.react = react()

    def forward(self, question: str) -> Any:
        return self.react(question=question)


async def at_once() -> None:
    one = react()
    await common.at_once(lambda prompt: one.acall(question=prompt))


def in_threads() -> None:
    one = react()
    with common.ThreadPoolExecutor(3) as pool, dspy.context(lm=dspy.settings.lm):
        list(pool.map(lambda city: one(question=f"Weather in {city}?"), common.CITIES))


def alone() -> Any:
    react()
    return dspy.Predict("question -> answer")(question="Weather in Oslo?")


if __name__ == "__main__":
    common.main(
        {
            "ok": lambda: react()(question="Weather in Oslo?"),
            "module": lambda: WeatherProgram()(question="Weather in Oslo?"),
            "toolfail": lambda: react(common.book_flight)(question="Book a flight to Oslo."),
            "err400": lambda: react()(question="Weather in Oslo?"),
            "err500": lambda: react()(question="Weather in Oslo?"),
            "timeout": lambda: common.timed_out(react().acall(question="Weather in Oslo?")),
            "cancel": lambda: common.cancelled(react().acall(question="Weather in Oslo?")),
            "parallel": at_once,
            "threads": in_threads,
            "maxsteps": lambda: react(max_iters=2)(question="Weather?"),
            "alone": alone,
        }
    )
