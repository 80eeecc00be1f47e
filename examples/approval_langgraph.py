"""A graph in LangGraph whose nodes interrupt it to ask people.

Run ``python approval_langgraph.py``, and answer at the terminal. Offline.
"""

from __future__ import annotations

import asyncio
from typing import TypedDict

from at_the_terminal import answer_questions
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.adapters.langgraph import ainvoke


class Trip(TypedDict, total=False):
    """The state of a trip."""

    city: str
    room: str
    result: str


def choose(state: Trip) -> Trip:
    """Ask which room; a person takes one of the options."""
    return {"room": interrupt({"question": f"Which room in {state['city']}?", "options": ["garden", "street"]})}


def book(state: Trip) -> Trip:
    """Ask before money is spent."""
    is_agreed = interrupt(f"Book the {state['room']} room in {state['city']}?")
    return {"result": f"booked: {state['room']}" if is_agreed else "not booked"}


graph = (
    StateGraph(Trip)
    .add_node("choose", choose)
    .add_node("book", book)
    .add_edge(START, "choose")
    .add_edge("choose", "book")
    .add_edge("book", END)
    .compile(checkpointer=InMemorySaver())
)


async def travel() -> str:
    """Run the graph to its end, however long people need."""
    async with agent_task("Book a trip", agent="travel", task_id="trip-8"):
        state = await ainvoke(graph, {"city": "Oslo"}, {"configurable": {"thread_id": "trip-8"}})
        return str(state["result"])


if __name__ == "__main__":
    answer_questions(spanpost.attach())
    print(asyncio.run(travel()))
