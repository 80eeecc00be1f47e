"""The long poll alone: tokens, fair places, any request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.control_protocol import APPROVALS, approval_target, is_unknown
from spanpost.http.routing import HttpRouter
from spanpost.http.tokens import SenderTokens, hash_of
from spanpost.interactions.answers import Answers
from spanpost.interactions.control import ControlHttp
from spanpost.interactions.waiting import Waiters
from spanpost.model.interventions import ApprovalRow
from spanpost.model.queries import ApprovalQuery
from spanpost.model.tasks import Task


class InteractionStore:
    """Without questions; nothing is known. `looked` has the callers' tenants."""

    def __init__(self) -> None:
        self.looked: list[str] = []

    async def approvals(self, query: ApprovalQuery) -> list[ApprovalRow]:
        self.looked.append(query.tenant or "")
        return []

    async def refer(self, tenant: str, ref: str) -> Task | None:
        self.looked.append(tenant)
        return None

    async def listen(self, hears: Any) -> None: ...


async def _record(batch: Any) -> None: ...


#: The token of each tenant.
TOKENS = [(tenant, hash_of(f"{tenant}-x")) for tenant in "ab"]


class Poll:
    """One application."""

    def __init__(self, most: int = 4) -> None:
        self.interaction_store = InteractionStore()
        store: Any = self.interaction_store
        answers = Answers(store, store, store, record=_record)
        self.control = ControlHttp(answers, SenderTokens("default", TOKENS), Waiters(most))
        self.app = HttpRouter(self.control.routes)

    async def __call__(
        self, path: bytes, *headers: tuple[bytes, bytes], query: bytes = b"", method: str = "GET", address: str = ""
    ) -> tuple[int, dict[str, Any]]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return await asyncio.Event().wait() or {}  # it never hangs up

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path.decode("latin-1"), "raw_path": path, "query_string": query,
            "headers": list(headers), "client": (address, 1) if address else None,
        }  # fmt: skip
        await self.app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"] or b"{}")

    async def wait(self, tenant: str, address: str = "") -> tuple[int, dict[str, Any]]:
        authorization = (b"authorization", f"Bearer {tenant}-x".encode())
        return await self(b"/control/v1/approvals/a", authorization, query=b"wait=40", address=address)

    async def lookups(self, count: int) -> None:
        while len(self.interaction_store.looked) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # a read reports nothing


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", b""),),
        ((b"authorization", b"Basic a-x"),),
        ((b"authorization", b"Bearer a-x"), (b"authorization", b"Bearer b-x")),
        ((b"authorization", b"Bearer a-x"), (b"Authorization", b"Bearer a-x")),
    ],
)
async def test_without_one_token_nobody_is_answered(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """No token, another scheme and two tokens are a 401, and nothing is looked up."""
    poll = Poll()
    assert (await poll(b"/control/v1/approvals/a", *headers))[0] == 401
    assert poll.interaction_store.looked == []


async def test_the_client_knows_what_is_not_known_yet() -> None:
    """The 404 of a question that was not asked yet differs from that of an unknown path, by a module that
    both sides use.
    """
    poll, token = Poll(), (b"authorization", b"Bearer a-x")
    target = approval_target("a/b ü", "0" * 64, "1" * 32, 0.0)
    path, _, query = target.partition("?")
    status, body = await poll(path.encode(), token, query=query.encode())
    assert (status, is_unknown(status, body), len(poll.interaction_store.looked)) == (404, True, 1)
    status, body = await poll(f"{APPROVALS}a/b".encode(), token)
    assert (status, is_unknown(status, body)) == (404, False)
    assert not is_unknown(404, {"details": "none"})


async def test_a_tenant_with_many_waiters_gives_way_to_others() -> None:
    """With all places taken, the longest waiter of the tenant with the most is answered; its next is refused."""
    poll = Poll()
    many = [asyncio.create_task(poll.wait("a")) for _ in range(4)]
    await poll.lookups(4)
    assert (await poll.wait("a"))[0] == 503
    others = [asyncio.create_task(poll.wait("b")) for _ in range(2)]
    answered = await asyncio.gather(*many[:2])
    assert [status for status, _ in answered] == [404, 404]
    await poll.lookups(8)
    assert (await poll.wait("b"))[0] == 503
    assert not any(each.done() for each in (*many[2:], *others))
    poll.control.end()
    assert {status for status, _ in await asyncio.gather(*many[2:], *others)} == {404}
    assert (await poll(b"/control/v1/approvals/a", (b"authorization", b"Bearer a-x")))[0] == 404


async def test_an_address_with_many_waiters_gives_way_to_others_of_its_tenant() -> None:
    """When one address of a tenant has all places, another address gets one, and the longest of the many is
    answered.
    """
    poll = Poll()
    many = [asyncio.create_task(poll.wait("a", "192.0.2.1")) for _ in range(4)]
    await poll.lookups(4)
    assert (await poll.wait("a", "192.0.2.1"))[0] == 503
    other = asyncio.create_task(poll.wait("a", "192.0.2.2"))
    assert (await many[0])[0] == 404
    await poll.lookups(6)
    assert not any(each.done() for each in (*many[1:], other))
    poll.control.end()
    await asyncio.gather(*many[1:], other)


@given(
    st.one_of(st.binary(max_size=30), st.binary(max_size=20).map(lambda rest: b"/control/v1/tasks/" + rest)),
    st.lists(st.tuples(st.sampled_from([b"authorization", b"host", b"x"]), st.binary(max_size=12)), max_size=3),
    st.one_of(
        st.binary(max_size=20), st.sampled_from([b"wait=0&after=\xd9\xa1", b"wait=1e9", b"after=-1", b"mark=%ff%00"])
    ),
    st.sampled_from(["GET", "HEAD", "POST", "X"]),
)
def test_whatever_is_asked_is_answered(
    path: bytes, headers: list[tuple[bytes, bytes]], query: bytes, method: str
) -> None:
    """Any path, header, query and method gets an answer below 500, with a JSON message if refused."""
    for more in ([], [(b"authorization", b"Bearer a-x")]):
        status, body = asyncio.run(Poll()(path, *headers, *more, query=query, method=method))
        assert status in (400, 401, 403, 404, 405)
        assert method == "HEAD" or body["message"]
