"""A web application whose refunds above 100 dollars wait for a person, in the same process as the requests.

`POST /refunds` answers at once. The refund waits in the background, and goes on when somebody decides: on a page of the
application itself (`POST /questions/{key}`), in Slack or on the board. No answer is never a yes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import spanpost
from spanpost.agent import agent_task
from spanpost.agent.control import approval

refunds: dict[str, str] = {}
running: set[asyncio.Task[None]] = set()


async def refund(order: str, dollars: float) -> None:
    """Refund an order; ask first if it is expensive."""
    async with agent_task(f"Refund order {order}", agent="refunds", task_id=f"refund-{order}"):
        if dollars > 100:
            decision = await approval(f"Refund ${dollars:.2f}?", id=f"refund-{order}", risk="high", expires_in=3600)
            refunds[order] = f"refunded, as {decision.by} decided" if decision.approved else "not refunded"
        else:
            refunds[order] = "refunded"


async def ask(request: Request) -> JSONResponse:
    """Begin a refund."""
    body = await request.json()
    refunds[body["order"]] = "waiting"
    task = asyncio.create_task(refund(body["order"], float(body["dollars"])))
    running.add(task)
    task.add_done_callback(running.discard)
    return JSONResponse({"order": body["order"]}, 202)


async def questions(request: Request) -> JSONResponse:
    """List the open questions."""
    found = await asyncio.to_thread(request.app.state.spanpost.questions)
    return JSONResponse([{"key": str(one.key), "question": one.question} for one in found])


async def decide(request: Request) -> JSONResponse:
    """Answer a question. A real application takes `by` from its login, and checks that this person may decide."""
    body = await request.json()
    decided = request.app.state.spanpost.decide
    await asyncio.to_thread(decided, request.path_params["key"], body["answer"], by=body["by"], comment="")
    return JSONResponse({"answer": body["answer"]})


async def status(request: Request) -> JSONResponse:
    """Say what came of a refund."""
    return JSONResponse({"status": refunds.get(request.path_params["order"], "unknown")})


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Attach spanpost for the life of the application."""
    app.state.spanpost = spanpost.attach()
    yield
    await asyncio.to_thread(app.state.spanpost.shutdown, 30)


application = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/refunds", ask, methods=["POST"]),
        Route("/refunds/{order}", status),
        Route("/questions", questions),
        Route("/questions/{key}", decide, methods=["POST"]),
    ],
)
