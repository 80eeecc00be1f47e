"""`attach()` with agent frameworks: the task while they work and after they are done.

The frameworks are real and their models scripted. While an example's tool waits for the test nothing else happens,
so everything visible then was shown live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import FRAMEWORKS, find
from tests.frameworks.running import ROOT, Message, Running, running

pytestmark = [pytest.mark.slow, pytest.mark.acceptance]

#: Names of an example's root task, and of its tool while it is called.
TITLES = {"pydantic_ai": "concierge", "openai_agents": "concierge", "langgraph": "concierge", "crewai": "travel_crew"}
TOOLS = {
    "pydantic_ai": "tool: look_up_weather",
    "openai_agents": "tool: look_up_weather",
    "langgraph": "look_up_weather",  # its end says that it is a tool
    "crewai": "tool: look_up_weather",
}
HAVE_MODEL_CALLS = ("pydantic_ai", "openai_agents", "langgraph")

PAGE = (ROOT / "docs" / "how-to" / "frameworks.md").read_text()
HEADINGS = {
    "pydantic_ai": "Pydantic AI",
    "openai_agents": "OpenAI Agents SDK",
    "langgraph": "LangGraph",
    "crewai": "CrewAI",
}


def is_documented(name: str, message: Message) -> bool:
    """Tell whether the page shows this very message of this framework, apart from its time and its cost."""
    [section] = [part for part in PAGE.split("\n## ") if part.startswith(f"{HEADINGS[name]}\n")]
    parts = message.text.split(" · ")
    said = " · ".join(part for part in parts if not (part[0].isdigit() or part[0] in "$<"))
    return f"\n{said}\n" in section


Start = Callable[[str], Running]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Lend running examples by framework, each started once, and again if a failed test left one half done."""
    known: dict[str, Running] = {}
    with ExitStack() as stack:

        def lend(name: str) -> Running:
            if name not in known or not known[name].is_done:
                example = ROOT / "examples" / f"with_{name}.py"
                known[name] = stack.enter_context(running(example, Path(find(name)), tmp_path_factory.mktemp(name)))
                known[name].hear("ready")
            return known[name]

        yield lend


def says(text: str) -> Callable[[Message], bool]:
    """Match the message of a task, not a reply in its thread."""
    return lambda message: message.text == text and not message.is_reply


def ends(text: str) -> Callable[[Message], bool]:
    """Match a message with that beginning."""
    return lambda message: message.text.startswith(text) and not message.is_reply


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_tool_is_shown_while_it_runs(name: str, start: Start) -> None:
    """While the tool runs, the task works and shows it as its action; afterwards each token is counted once."""
    run = start(name).begin("answer")
    run.hear("tool")
    working = run.see(says(f"⚙️ {TITLES[name]}: working · {TOOLS[name]}"), "at work")
    assert is_documented(name, working)
    run.say("go")
    run.hear("done")
    message = run.see(ends(f"✅ {TITLES[name]}: complete"), "complete")
    assert is_documented(name, message)
    [figures] = [words for words in message.words if "tool call" in words]
    assert "1 tool call" in figures
    assert (" in · " in figures) == (name in HAVE_MODEL_CALLS)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_failing_tool(name: str, start: Start) -> None:
    """A tool's failure that ends the run fails the task; one that the model receives is noted, and the run
    goes on.
    """
    run = start(name).begin("failure")
    run.hear("tool")
    run.say("fail")
    if name == "crewai":
        run.hear("done")
        message = run.see(ends("✅ travel_crew: complete"), "complete")
        assert any("1 tool call (1 failed)" in words for words in message.words)
    else:
        run.hear("raised")
        # The tool raises a TimeoutError; OpenAI Agents reports its words alone.
        how = "failed" if name == "openai_agents" else "timed out"
        message = run.see(ends(f"❌ concierge: {how}"), how)
        assert is_documented(name, message), message


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_stream(name: str, start: Start) -> None:
    """A run with a streamed answer is followed like any other."""
    run = start(name).begin("stream")
    run.hear("tool")
    run.see(says(f"⚙️ {TITLES[name]}: working · {TOOLS[name]}"), "at work")
    run.say("go")
    run.hear("done")
    run.see(ends(f"✅ {TITLES[name]}: complete"), "complete")


@pytest.mark.parametrize("name", ["pydantic_ai", "openai_agents", "langgraph"])
def test_a_run_that_stops_for_a_person(name: str, start: Start) -> None:
    """A run that ends on a question to a person is shown as waiting."""
    run = start(name).begin("approval")
    run.hear("asked")
    run.see(
        lambda message: ends("✋ booking: waiting for a person")(message) and is_documented(name, message), "waiting"
    )
    run.say("yes")
    run.hear("done")
    assert not any(message.text.startswith("❌") for message in run.messages)


@pytest.mark.parametrize("name", ["pydantic_ai", "langgraph"])
def test_a_run_that_is_resumed(name: str, start: Start) -> None:
    """The resumed run, another trace, is complete when it is done."""
    run = start(name).begin("approval")
    run.hear("asked")
    run.say("yes")
    run.hear("done")
    run.see(ends("✅ booking: complete"), "complete")


@pytest.mark.parametrize("name", ["pydantic_ai"])
def test_a_second_agent_is_shown_while_it_works(name: str, start: Start) -> None:
    """An agent called by a tool is named below the task while it works."""
    run = start(name).begin("handoff")
    run.hear("tool")
    at_work = run.see(lambda m: "concierge" in m.words, "the second agent at work")
    assert is_documented(name, at_work)
    run.say("go")
    run.hear("done")
    run.see(ends("✅ "), "complete")


@pytest.mark.parametrize(
    ("name", "titles", "final"),
    [
        (
            "openai_agents",
            "travel_desk concierge",
            "concierge, travel_desk",
        ),  # until it has ended, an agent is a workflow with a name
        ("langgraph", "travel_desk", "travel_desk"),
        ("crewai", "travel_crew", "travel_crew"),
    ],
)
def test_what_a_second_agent_does_is_shown(name: str, titles: str, final: str, start: Start) -> None:
    """Where the second agent is not reported in time, its tool is shown as the task's action."""
    run = start(name).begin("handoff")
    run.hear("tool")
    wanted = {f"⚙️ {title}: working · {TOOLS[name]}" for title in titles.split()}
    run.see(lambda message: message.text in wanted, "at work")
    run.say("go")
    run.hear("done")
    message = run.see(ends(f"✅ {final}: complete"), "complete")
    assert is_documented(name, message)
