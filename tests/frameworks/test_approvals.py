"""A person's decision resumes a run: the adapters in the docs' examples against the real frameworks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import find
from tests.frameworks.running import ROOT, TIMEOUT

pytestmark = [pytest.mark.acceptance]


def played(example: str, framework: str | None, directory: Path, typed: str) -> str:
    """Run an example in its framework's environment while a person types; return its output."""
    python = str(Path(find(framework)) / "bin" / "python") if framework is not None else sys.executable
    environment = {
        "HOME": str(directory),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "LOGNAME": "alice",
    }
    ran = subprocess.run(
        [python, ROOT / "examples" / f"{example}.py"],
        input=typed, env=environment, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("typed", "shown_end"),
    [("approve\n", "deployed 1.4, as alice wanted"), ("deny not on a Friday\n", "not deployed: not on a Friday")],
)
def test_an_agent_without_a_framework(tmp_path: Path, typed: str, shown_end: str) -> None:
    """The plain example goes on with the person's decision, name and words."""
    shown = played("approval_release", None, tmp_path, typed)
    assert "Deploy 1.4 to production?\n12 commits, one migration\napprove or deny? " in shown
    assert shown.endswith(f"{shown_end}\n")


@pytest.mark.parametrize(
    ("typed", "shown_end"),
    [("approve\n", "Well: booked 2 nights in Oslo"), ("deny too dear\n", "Well: Denied by alice: too dear")],
)
def test_a_deferred_tool_of_pydantic_ai(tmp_path: Path, typed: str, shown_end: str) -> None:
    """A tool that needs approval is called when a person approves it; the model learns who denied it and
    why.
    """
    shown = played("approval_pydantic_ai", "pydantic_ai", tmp_path, typed)
    assert "Run book_hotel?\ncity: Oslo\nnights: 2\napprove or deny? " in shown
    assert shown.endswith(f"{shown_end}\n")


@pytest.mark.parametrize(
    ("typed", "shown_end"),
    [("approve\n", "Well: booked 2 nights in Oslo"), ("deny too dear\n", "Well: Denied by alice: too dear")],
)
def test_a_tool_of_openai_agents(tmp_path: Path, typed: str, shown_end: str) -> None:
    """A tool that needs approval is called when a person approves it; the model learns who denied it and
    why.
    """
    shown = played("approval_openai_agents", "openai_agents", tmp_path, typed)
    assert "Run book_hotel?\ncity: Oslo\nnights: 2\napprove or deny? " in shown
    assert shown.endswith(f"{shown_end}\n")


def test_an_mcp_server_that_asks(tmp_path: Path) -> None:
    """A choice is made by name, a number by comment; an invalid answer is asked again, a denial has its words."""
    shown = played("approval_mcp", None, tmp_path, "garden\napprove a week\napprove 3\n")
    assert "garden or street or decline? " in shown
    assert "The answer was not taken: nights: 'a week' is not a whole number" in shown
    assert shown.endswith("booked garden for 3 nights\n")
    assert played("approval_mcp", None, tmp_path, "decline too dear\n").endswith(
        "not booked: decline; Denied by alice: too dear\n"
    )


@pytest.mark.parametrize(
    ("typed", "shown_end"),
    [("street\napprove\n", "booked: street"), ("red\ngarden\ndeny\n", "not booked")],
)
def test_interrupts_of_langgraph(tmp_path: Path, typed: str, shown_end: str) -> None:
    """Two interrupts of a graph are answered in turn; an answer that is no option is asked again."""
    shown = played("approval_langgraph", "langgraph", tmp_path, typed)
    assert "Which room in Oslo?\ngarden or street? " in shown
    assert ("'red' is no answer to it; answer garden or street" in shown) is typed.startswith("red")
    assert shown.endswith(f"{shown_end}\n")


MIDDLEWARE = """
import asyncio
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
import spanpost
from at_the_terminal import answer_questions
from spanpost.agent import agent_task
from spanpost.agent.adapters.langgraph import invoke

@tool
def book(city: str) -> str:
    "Book a room."
    return f"booked in {city}"

class Scripted(FakeMessagesListChatModel):
    def bind_tools(self, tools, **settings):
        return self

calls = [{"name": "book", "args": {"city": city}, "id": f"call_{city}"} for city in ("Oslo", "Rome")]
model = Scripted(responses=[AIMessage("", tool_calls=calls), AIMessage("done")])
agent = create_agent(model, [book], middleware=[HumanInTheLoopMiddleware({"book": True})], checkpointer=InMemorySaver())
answer_questions(spanpost.attach())
with agent_task("Trip", task_id="trip-9"):
    state = invoke(agent, {"messages": [("user", "go")]}, {"configurable": {"thread_id": "trip-9"}})
print("\\n" + "\\n".join(m.content for m in state["messages"] if m.type == "tool"))
"""


def test_the_middleware_of_langchain(tmp_path: Path) -> None:
    """Two calls held back by `HumanInTheLoopMiddleware` are decided separately, from synchronous code."""
    (tmp_path / "script.py").write_text(MIDDLEWARE)
    environment = {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "LOGNAME": "alice",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'examples'}",
    }  # fmt: skip
    python = Path(find("langgraph")) / "bin" / "python"
    ran = subprocess.run(
        [python, "script.py"], input="approve\ndeny rain\n", env=environment, cwd=tmp_path, capture_output=True,
        text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    refused, booked = sorted(ran.stdout.splitlines()[-2:])
    assert refused.endswith("Denied by alice: rain")
    assert booked in ("booked in Oslo", "booked in Rome")
