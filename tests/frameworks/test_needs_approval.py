"""`needs_approval` of the OpenAI Agents SDK, in its own environment: one process runs what the tests check."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import find
from tests.frameworks.running import ROOT, TIMEOUT

pytestmark = [pytest.mark.acceptance]

SCRIPT = """
import asyncio, json, logging, threading
from agents import Agent, Model, ModelResponse, Runner, RunState, ShellTool, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    Response, ResponseCompletedEvent, ResponseFunctionShellToolCall, ResponseFunctionToolCall,
    ResponseOutputMessage, ResponseOutputText,
)
from openai.types.responses.response_function_shell_tool_call import Action
import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.openai_agents import decide, run

set_tracing_disabled(True)
pipeline = spanpost.attach()

class Scripted(Model):
    "Makes these calls at once; when they were answered, returns the results."
    def __init__(self, *calls):
        self.calls = list(calls)
    async def get_response(self, system_instructions, input, *more, **options):
        results = [item["output"] for item in input if isinstance(item, dict) and "output" in item]
        said = ResponseOutputText(text=json.dumps(results), type="output_text", annotations=[])
        message = ResponseOutputMessage(id="msg", content=[said], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message] if results else self.calls, usage=Usage(), response_id=None)
    async def stream_response(self, system_instructions, input, *more, **options):
        output = (await self.get_response(system_instructions, input)).output
        answer = Response(id="r", created_at=0, model="m", object="response", output=output, tool_choice="auto",
                          tools=[], parallel_tool_calls=True)
        yield ResponseCompletedEvent(response=answer, type="response.completed", sequence_number=0)

@function_tool(needs_approval=True)
def book(city: str) -> str:
    return f"booked in {city}"

def call(city, arguments=None):
    return ResponseFunctionToolCall(
        call_id=f"call_{city}", name="book", arguments=arguments or json.dumps({"city": city}), type="function_call")

def agent(*calls, tools=(book,)):
    return Agent(name="travel", model=Scripted(*calls), tools=list(tools))

async def asked(count):
    changed = threading.Event()
    def look():
        pipeline.ask(pipeline.store.interventions.listen(lambda _: changed.set()))
        while len(rows := pipeline.questions()) < count:
            assert changed.wait(60)
            changed.clear()
        return rows
    return await asyncio.to_thread(look)

async def answer(**answers):
    "Answer what is asked, by the last word of its detail; return the questions."
    rows = await asked(len(answers))
    for row in rows:
        word, _, comment = answers[row.detail.split()[-1].strip('"]}')].partition(" ")
        await asyncio.to_thread(pipeline.decide, row.approval_id, word, by="alice", comment=comment)
    return [[row.question, row.detail, row.risk] for row in rows]

async def several():
    async with agent_task("Trip", task_id="trip-1"):
        work = run(agent(call("Oslo"), call("Rome")), "go", risk="costs money")
        result, questions = await asyncio.gather(work, answer(Oslo="approve", Rome="deny too hot"))
    return {"answers": json.loads(result.final_output), "questions": sorted(questions)}

async def expired(then):
    async with agent_task("Trip", task_id=f"trip-2-{then}"):
        return json.loads((await run(agent(call("Oslo")), "go", expires_in=0.1, at_expiry=then)).final_output)

async def restarted():
    kept = []
    async def keep(state):
        kept.append(state.to_string())
    async def first():
        async with agent_task("Trip", task_id="trip-3"):
            await run(agent(call("Oslo"), call("Rome")), "go", keep=keep)
    await asyncio.gather(first(), answer(Oslo="approve", Rome="deny too hot"))
    again = agent(call("Oslo"), call("Rome"))
    async with agent_task("Trip", task_id="trip-3"):
        result = await run(again, await RunState.from_string(again, kept[0]))
    return {"answers": json.loads(result.final_output), "kept": len(kept)}

async def streamed():
    async with agent_task("Trip", task_id="trip-4"):
        travel = agent(call("Oslo"))
        stream = Runner.run_streamed(travel, "go")
        async for _ in stream.stream_events(): pass
        state = stream.to_state()
        await asyncio.gather(decide(state), answer(Oslo="approve"))
        stream = Runner.run_streamed(travel, state)
        async for _ in stream.stream_events(): pass
        return json.loads(stream.final_output)

async def shell():
    wanted = ResponseFunctionShellToolCall(
        id="s", call_id="call_s", status="completed", type="shell_call", action=Action(commands=["rm -r Oslo"]))
    tool = ShellTool(executor=lambda request: "ran", needs_approval=True)
    async with agent_task("Trip", task_id="trip-5"):
        result, questions = await asyncio.gather(run(agent(wanted, tools=[tool]), "go"), answer(Oslo="deny no"))
    return {"answers": result.final_output, "questions": questions}

async def not_json():
    async with agent_task("Trip", task_id="trip-6"):
        result, questions = await asyncio.gather(run(agent(call("x", "city is Oslo")), "go"), answer(Oslo="deny what"))
    return {"answers": json.loads(result.final_output), "questions": questions}

async def nested():
    inner = agent(call("Oslo")).as_tool("travel", "travels")
    outer = ResponseFunctionToolCall(call_id="call_o", name="travel", arguments='{"input": "go"}', type="function_call")
    async with agent_task("Trip", task_id="trip-7"):
        result, questions = await asyncio.gather(run(agent(outer, tools=[inner]), "go"), answer(Oslo="deny too cold"))
    return {"answers": json.loads(result.final_output), "questions": questions}

async def main():
    print(json.dumps({
        "several": await several(), "expire": await expired("expire"), "deny": await expired("deny"),
        "restarted": await restarted(), "streamed": await streamed(), "shell": await shell(),
        "not_json": await not_json(), "nested": await nested(),
    }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the models' inputs and the questions to people."""
    directory = tmp_path_factory.mktemp("openai_agents")
    (directory / "script.py").write_text(SCRIPT)
    python = Path(find("openai_agents")) / "bin" / "python"
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run(
        [python, "script.py"],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    outcome: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return outcome


def test_calls_of_one_moment(played: dict[str, Any]) -> None:
    """Two concurrent calls are asked at once and decided separately; the model learns who denied one and
    why.
    """
    assert played["several"] == {
        "answers": ["booked in Oslo", "Denied by alice: too hot"],
        "questions": [["Run book?", "city: Oslo", "costs money"], ["Run book?", "city: Rome", "costs money"]],
    }


def test_a_time_that_is_over(played: dict[str, Any]) -> None:
    """An expired call is not made, and the model learns that it was not denied, unless the question counts
    it as a denial.
    """
    assert played["expire"] == [
        "No person decided in time. This is no refusal: the call was not made because no answer came."
    ]
    assert played["deny"] == ["Denied"]


def test_a_run_that_goes_on_from_its_kept_state(played: dict[str, Any]) -> None:
    """From its kept state the run continues with the decisions, and no question is asked a second time."""
    assert played["restarted"] == {"answers": ["booked in Oslo", "Denied by alice: too hot"], "kept": 1}


def test_a_streamed_run(played: dict[str, Any]) -> None:
    """`decide` writes the answers into the state of a run that is streamed."""
    assert played["streamed"] == ["booked in Oslo"]


def test_a_person_sees_what_is_to_be_done(played: dict[str, Any]) -> None:
    """A question shows the commands of a shell call, and arguments that are no JSON unchanged."""
    [[question, detail, _]] = played["shell"]["questions"]
    assert (question, detail.splitlines()[0]) == ("Run shell?", 'action: {"commands": ["rm -r Oslo"]}')
    assert "Denied by alice: no" in played["shell"]["answers"]
    assert played["not_json"] == {
        "answers": ["Denied by alice: what"],
        "questions": [["Run book?", "city is Oslo", ""]],
    }


def test_a_call_of_an_agent_that_is_a_tool(played: dict[str, Any]) -> None:
    """A call wanted by an agent within the agent is asked too, and that agent gets the answer."""
    assert played["nested"]["questions"] == [["Run book?", "city: Oslo", ""]]
    assert "Denied by alice: too cold" in played["nested"]["answers"][0]
