"""An MCP server's questions, by the protocol's own client and server, answered in the agent's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from mcp import Client, types
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, MCPServer, Resolve
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.mcp import COMMENT, Elicitation
from spanpost.model.interventions import ApprovalRow

hotel = MCPServer("hotel")


class Agreed(BaseModel):
    agreed: bool


class Section(BaseModel):
    section: Literal["garden", "street"]
    nights: int = 1


class Guest(BaseModel):
    age: int


def which(city: str) -> Elicit[Section]:
    return Elicit(f"Which room in {city}?", Section)


@hotel.tool()
async def choose(city: str, section: Annotated[ElicitationResult[Section], Resolve(which)]) -> str:
    return f"{section.data.section}, {section.data.nights}" if section.action == "accept" else section.action


@hotel.tool()
async def book(city: str, ctx: Context) -> str:
    result = await ctx.elicit(f"Book in {city}?", Agreed)
    return str(result.data.agreed) if result.action == "accept" else result.action


@hotel.tool()
async def check_in(ctx: Context) -> str:
    result = await ctx.elicit("How old is the guest?", Guest)
    return str(result.data.age) if result.action == "accept" else result.action


@hotel.tool()
async def pay(ctx: Context) -> str:
    return (await ctx.elicit_url("Pay the room", "https://pay.example/7", "pay-7")).action


@hotel.tool()
async def hear(ctx: Context) -> str:
    result = await ctx.session.elicit_form("Book it?", {"type": "object", "properties": {}})
    return f"{result.action}: {(result.meta or {}).get(COMMENT)}"


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def pipeline(
    provider: TracerProvider, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[spanpost.Pipeline]:
    monkeypatch.setattr("opentelemetry.trace.get_tracer", lambda name, *_, **__: provider.get_tracer(name))
    pipeline = spanpost.attach(tracer_provider=provider)
    yield pipeline
    pipeline.shutdown()


Say = Callable[[ApprovalRow], tuple[str, str]]


async def asked(pipeline: spanpost.Pipeline) -> ApprovalRow:
    """Wait until a question is open."""
    changed = threading.Event()

    def find_row() -> ApprovalRow:
        pipeline.ask(pipeline.store.interventions.listen(lambda _: changed.set()))
        while not (rows := pipeline.questions()):
            assert changed.wait(60)
            changed.clear()
        return rows[0]

    return await asyncio.to_thread(find_row)


async def answering(pipeline: spanpost.Pipeline, work: Awaitable[str], *answers: str) -> tuple[str, list[ApprovalRow]]:
    """Answer the questions in this order; return the result of the work, and the questions."""
    seen: list[ApprovalRow] = []

    async def person() -> None:
        for answer in answers:
            seen.append(row := await asked(pipeline))
            decision, _, comment = answer.partition(" ")
            await asyncio.to_thread(pipeline.decide, row.approval_id, decision, by="alice", comment=comment)

    _, result = await asyncio.gather(person(), work)
    return result, seen


async def called(
    elicitation: Elicitation, tool: str, *, mode: str = "legacy", task: str | None = "trip-1", **said: Any
) -> str:
    """Call a tool of the server as an agent does within a task."""
    async with agent_task("Trip", task_id=task), Client(hotel, mode=mode, elicitation_callback=elicitation) as client:
        result = await client.call_tool(tool, said)
        return str(result.structured_content["result"] if result.structured_content else result)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize(
    ("answer", "result"), [("street", "street, 1"), ("garden nights: 3", "garden, 3"), ("decline rain", "decline")]
)
async def test_a_choice(pipeline: spanpost.Pipeline, mode: str, answer: str, result: str) -> None:
    """A choice is made by its option in both forms of the protocol, and it can be declined."""
    answered, [row] = await answering(pipeline, called(Elicitation("hotel"), "choose", mode=mode, city="Oslo"), answer)
    assert (row.question, row.options) == ("Which room in Oslo?", ("garden", "street", "decline"))
    assert "asked by the MCP server hotel" in row.detail
    assert answered == result


async def test_the_model_receives_who_denied(pipeline: spanpost.Pipeline) -> None:
    """An approval is True; a denial is a decline, and the model receives the person's words once."""
    elicitation = Elicitation("hotel", risk="costs money")
    answered, [row] = await answering(pipeline, called(elicitation, "book", city="Oslo"), "approve")
    assert (answered, row.risk, row.options, elicitation.refusals()) == ("True", "costs money", (), [])
    answered, _ = await answering(pipeline, called(elicitation, "book", city="Rome"), "deny too dear")
    assert (answered, elicitation.refusals(), elicitation.refusals()) == ("decline", ["Denied by alice: too dear"], [])


async def test_a_server_may_read_the_comment(pipeline: spanpost.Pipeline) -> None:
    """The person's words reach a server that reads them; the person's name does not."""
    answered, _ = await answering(pipeline, called(Elicitation("hotel"), "hear"), "deny too dear")
    assert answered == "decline: too dear"


async def test_an_answer_that_does_not_fit_is_asked_again(pipeline: spanpost.Pipeline) -> None:
    """An approval that lacks a wanted value is asked again with the reason until it fits."""
    answered, rows = await answering(
        pipeline, called(Elicitation("hotel"), "check_in"), "approve", "approve old", "approve 41"
    )
    assert answered == "41"
    assert [row.detail.splitlines()[0] for row in rows] == [
        "asked by the MCP server hotel",
        "The answer was not taken: age: missing in the comment",
        "The answer was not taken: age: 'old' is not a whole number",
    ]


@pytest.mark.slow
async def test_an_address_is_shown_and_never_opened(pipeline: spanpost.Pipeline) -> None:
    """A person sees the whole address, and agrees or declines to open it by hand."""
    answered, [row] = await answering(pipeline, called(Elicitation("hotel"), "pay"), "approve")
    assert answered == "accept"
    assert "https://pay.example/7" in row.detail.splitlines()


@pytest.mark.parametrize(
    ("then", "action", "words"),
    [
        (
            "expire",
            "cancel",
            "No person decided in time. This is no refusal: the call was not made because no answer came.",
        ),
        ("deny", "decline", "Denied"),
    ],
)
async def test_a_time_that_is_over(pipeline: spanpost.Pipeline, then: Any, action: str, words: str) -> None:
    """Without an answer the result is a cancel, or a denial if the question asks for that."""
    elicitation = Elicitation("hotel", expires_in=0.1, at_expiry=then)
    assert await called(elicitation, "book", city="Oslo") == action
    assert elicitation.refusals() == [words]


async def test_a_task_that_began_anew(pipeline: spanpost.Pipeline) -> None:
    """A decision is returned when the task is run again and asks again; a second question in the same words
    is separate.
    """
    await answering(pipeline, called(Elicitation("hotel"), "book", city="Oslo"), "approve")
    elicitation = Elicitation("hotel")
    assert await called(elicitation, "book", city="Oslo") == "True"
    again, rows = await answering(pipeline, called(elicitation, "book", city="Oslo"), "deny")
    assert (again, len(rows)) == ("decline", 1)
    other, rows = await answering(pipeline, called(Elicitation("hotel"), "book", task="trip-2", city="Oslo"), "deny")
    assert (other, len(rows)) == ("decline", 1)


async def test_without_a_task_id_other_answers_do_not_count(pipeline: spanpost.Pipeline) -> None:
    """Without an id of the run each question is asked anew; with the agent's own name there is one decision."""
    for answer, result in (("approve", "True"), ("deny", "decline")):
        answered, _ = await answering(pipeline, called(Elicitation("hotel"), "book", task=None, city="Oslo"), answer)
        assert answered == result
    named = Elicitation("hotel", name=lambda params: f"booking 7 {params.message}")
    await answering(pipeline, called(named, "book", task=None, city="Oslo"), "approve")
    assert await called(named, "book", task=None, city="Oslo") == "True"


async def test_without_people_the_server_gets_a_cancel(clean_environment: Path) -> None:
    """Without a pipeline and a gateway the server learns that the question cannot be asked, and not why."""
    answer = await Elicitation("hotel")(None, types.ElicitRequestFormParams(message="Book?", requested_schema={}))
    assert isinstance(answer, types.ErrorData)
    assert answer.message == "no person can be asked at the moment"
