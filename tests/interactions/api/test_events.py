"""Event streams over HTTP: nothing missing, nothing twice, despite interruptions."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from spanpost.http.shares import Full
from spanpost.interactions.api.stream import Hub
from spanpost.model.queries import Position
from spanpost.store.pages import NIL, OLDEST
from tests.interactions.api.served import Served, streamed, texts, tokens, until
from tests.store.erasing_history import erased

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("postgres")]


class StandingStream:
    """A stream of checkpoints in which nothing happens."""

    async def head(self) -> Position:
        return Position(1, OLDEST, NIL)

    async def erased_at(self) -> None:
        return None

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def streamed(self, *args: object) -> list[Any]:
        return []

    changed = streamed


def begun(events: Any) -> dict[str, Any]:
    """Wait for the beginning of a stream; return it."""
    hello: dict[str, Any] = next(events)
    assert hello["event"] == "hello"
    return hello


def said(events: Any) -> dict[str, Any]:
    """Return the next event that is no heartbeat."""
    return next(event for event in events if "event" in event)


def test_a_stream_is_resumed_where_it_was_cut(served: Served) -> None:
    """From any event's id a stream continues with the next, from memory or store; tasks come as they are now."""
    task = served.task("resumed")
    client = served.as_of("viewer")
    with streamed(client, task=task["uid"], event="checkpoint") as events:
        begun(events)
        served.record(*(served.checkpoint(task, n, f"r{n}") for n in range(4)))
        served.record(served.checkpoint(task, 4, "r4"))
        seen = until(events, "r4")
    assert texts(seen) == [f"r{n}" for n in range(5)]
    for n, event in enumerate(seen[:-1]):
        with streamed(client, event["id"], task=task["uid"], event="checkpoint") as events:
            begun(events)
            assert until(events, "r4") == seen[n + 1 :]


def test_states_are_sent_when_they_change(served: Served) -> None:
    """A task's state is sent when it changes; one that the filter no longer matches is sent once more, then
    not again.
    """
    client = served.as_of("viewer")
    with streamed(client, event="task", status=["starting", "working"], topic="states") as events:
        begun(events)
        task = served.task("a state", agent__topic="states")
        served.task("of another topic", agent__topic="other")
        first = said(events)
        served.end(task)
        rest = [said(events)]
        served.record(served.checkpoint(task, 1, "after its end"))
        rest += [event for event in (next(events), next(events)) if "event" in event]
    assert (first["event"], first["data"]["uid"], "id" in first) == ("task", task["uid"], False)
    assert [event["data"]["status"] for event in rest] == ["complete"]


def test_filters_and_tenants(served: Served) -> None:
    """A stream and its resumption hold only events of its filter and tenant."""
    with streamed(served.as_of("viewer"), agent="red") as ours, streamed(served.client("spt_theirs")) as theirs:
        place = begun(ours)["id"]
        begun(theirs)
        for name in ("blue", "red"):
            served.task(f"ours {name}", agent__name=name)
        served.task("theirs", tenant="other", agent__name="red")
        for events, name in ((ours, "ours red"), (theirs, "theirs")):
            received = [said(events), said(events)]
            assert {one["event"] for one in received} == {"checkpoint", "task"}
            assert {one["data"].get("task_name") or one["data"]["name"] for one in received} == {name}
    with streamed(served.client("spt_theirs"), place, event="checkpoint") as theirs:
        begun(theirs)
        assert said(theirs)["data"]["task_name"] == "theirs"


def test_heartbeats_carry_the_place(served: Served) -> None:
    """A quiet stream sends heartbeats with an id for resumption, and an unknown id is reported."""
    with streamed(served.as_of("viewer"), agent="nobody") as events:
        begun(events)
        beat = next(events)
        assert beat["comment"] == "still here"
        assert beat["id"].count(".") == 2
    foreign = f"{10**18}.0.{'0' * 32}"
    with streamed(served.as_of("viewer"), foreign, agent="nobody") as events:
        begun(events)
        assert next(events)["event"] == "reset"


def test_another_process_is_streamed(served: Served, api_dsn: str) -> None:
    """Checkpoints and states that another gateway records arrive here, and its ids are valid here."""
    with Served(api_dsn) as other:
        other._traces = 5_000
        with streamed(served.as_of("viewer"), q="far away") as events:
            begun(events)
            task = other.task("far away")
            found = [said(events), said(events)]
            assert {one["event"] for one in found} == {"checkpoint", "task"}
        with streamed(other.as_of("viewer"), event="checkpoint", task=task["uid"]) as there:
            begun(there)
            other.record(other.checkpoint(task, 1, "one"), other.checkpoint(task, 2, "two"))
            seen = until(there, "two")
        with streamed(served.as_of("viewer"), seen[0]["id"], event="checkpoint", task=task["uid"]) as events:
            begun(events)
            assert until(events, "two") == seen[1:]


def test_a_hundred_breaks_under_load(served: Served) -> None:
    """A stream cut a hundred times under four writers has each checkpoint once, in order for each task."""
    tasks = [served.task(f"load {n}", agent__topic="load") for n in range(4)]
    dice = random.Random(7)
    with streamed(served.as_of("viewer"), topic="load", event="checkpoint") as events:
        place = begun(events)["id"]
    is_over = threading.Event()
    received: list[str] = []

    def write(task: dict[str, Any]) -> None:
        for n in range(10_000):
            served.record(served.checkpoint(task, n, f"{task['name']} {n}"))
            received.append(f"{task['name']} {n}")
            if is_over.is_set():
                return

    writers = [threading.Thread(target=write, args=(task,)) for task in tasks]
    for writer in writers:
        writer.start()
    found: list[dict[str, Any]] = []
    for breaks in range(1000):
        for event in cut(served.url, "spt_viewer", place, dice.randrange(300, 4_000)):
            place = event["id"]
            found += [event["data"]] if event["event"] == "checkpoint" else []
        if breaks == 100:
            is_over.set()
            for writer in writers:
                writer.join()
        if is_over.is_set() and len(found) >= len(received):
            break
    assert len({one["id"] for one in found}) == len(found)
    assert sorted(one["text"] for one in found) == sorted(received)
    for task in tasks:
        own = [int(one["text"].rpartition(" ")[2]) for one in found if one["task_uid"] == task["uid"]]
        assert own == sorted(own)


def cut(url: str, token: str, place: str, most: int) -> list[dict[str, Any]]:
    """Read a stream whose connection is reset after some bytes or when silent; return the whole events."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=0.4) as connection:
        request = (
            f"GET /api/events?topic=load&event=checkpoint HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        )
        connection.sendall(f"{request}last-event-id: {place}\r\n\r\n".encode())
        came = b""
        try:
            while len(came) < most and (part := connection.recv(most - len(came))):
                came += part
        except TimeoutError:
            pass
    body = came.partition(b"\r\n\r\n")[2]
    return list(whole_events(unchunked(body)))


def unchunked(body: bytes) -> str:
    """Return the content of a chunked body."""
    out = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        out += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return out.decode()


def whole_events(text: str) -> Any:
    from tests.interactions.api.served import read_events

    complete = text[: text.rfind("\n\n") + 2] if "\n\n" in text else ""
    return (event for event in read_events(iter(complete.split("\n"))) if "event" in event)


def test_streams_are_bounded_and_end(api_dsn: str, clean_environment: Any) -> None:
    """A stream too many gets a Retry-After; a slow reader delays no other; at the stop, and at a reload, all
    end.
    """
    with Served(api_dsn, api={"max_streams": 2, "heartbeat": 1}) as served:
        client = served.as_of("viewer")
        with streamed(client) as one:
            begun(one)
            slow = socket.create_connection(served.url.removeprefix("http://").split(":"), timeout=60)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /api/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer spt_viewer\r\n\r\n")
            assert slow.recv(10)
            refused = client.get("/api/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            served._traces = 9_000
            task = served.task("slow reader")
            for n in range(100):
                served.record(served.checkpoint(task, n, f"{n} " + "x" * 100))
            assert len(until(one, f"99 {'x' * 100}")) == 101  # with its start
            slow.close()
            assert served.reload(interactions={"tokens": tokens()[1:]})
            assert list(one)[-1]["comment"].startswith("the stream ends")
        assert served.as_of("viewer").get("/api/me").status_code == 401  # its token was revoked
        with streamed(served.as_of("operator")) as last:
            begun(last)
            ending = threading.Thread(target=served.stop)
            ending.start()
            assert list(last)[-1]["comment"].startswith("the stream ends")
            ending.join()


def test_one_token_does_not_take_all_streams(api_dsn: str, clean_environment: Any) -> None:
    """M11: while one token has all streams, another tenant or another token gets one: the longest stream
    ends for it.
    """
    with Served(api_dsn, api={"max_streams": 4, "heartbeat": 1}) as served, ExitStack() as open_streams:
        many = [open_streams.enter_context(streamed(served.as_of("viewer"))) for _ in range(4)]
        for one in many:
            begun(one)
        for number, token in enumerate(("spt_theirs", "spt_operator")):
            many.append(open_streams.enter_context(streamed(served.client(token))))
            begun(many[-1])
            assert list(many[number])[-1]["comment"].startswith("the stream ends")
        assert served.as_of("viewer").get("/api/events").status_code == 503
        served._traces = 9_500
        task = served.task("still told")
        served.record(served.checkpoint(task, 1, "to those who stay"))
        assert until(many[3], "to those who stay")


async def test_a_tenant_has_its_own_limit() -> None:
    """A tenant gets no more streams than its own limit, also while other places are free; within it a person with fewer
    takes the longest one of a person with more. What ends gives both places back.
    """
    stream = StandingStream()
    hub = Hub(cast(Any, stream), most=10, most_of_tenant=2)
    first = await hub.join(("acme", "ada"))
    second = await hub.join(("acme", "ada"))
    with pytest.raises(Full):
        await hub.join(("acme", "ada"))
    others = [await hub.join((tenant, "eve")) for tenant in ("globex", "globex", "initech")]
    assert (first.is_over, second.is_over, any(one.is_over for one in others)) == (False, False, False)
    hub.leave(first)
    again = await hub.join(("acme", "ada"))
    for one in (second, again, *others):
        hub.leave(one)
    assert (hub._own, len(hub._streams)) == ({}, 0)


def test_streams_by_person_repository_and_session(served: Served) -> None:
    """A stream and a list of one person, repository or session hold no task of others, also where several are asked."""
    values = {"agent__requested_by": "ada-f", "agent__repo": "shop-f", "gen_ai__conversation__id": "chat-f"}
    mine = served.task("filtered mine", **values)
    served.task("filtered other", **dict.fromkeys(values, "other"))
    client = served.as_of("viewer")
    columns = {"person": "requested_by", "repo": "repo", "session": "session_id"}
    asked = {name: mine[column] for name, column in columns.items()}
    assert None not in asked.values()
    for name, value in asked.items():
        found = client.get("/api/tasks", params={name: value}).json()["items"]
        assert [one["name"] for one in found] == ["filtered mine"], name
        with streamed(client, **{name: value}, event="checkpoint") as events:
            begun(events)
            for task in (served.task(f"more of others {name}"), mine):
                served.record(served.checkpoint(task, len(name), f"told {name}"))
            assert {one["data"]["task_uid"] for one in until(events, f"told {name}")} == {mine["uid"]}
    assert client.get("/api/tasks", params={**asked, "repo": "other"}).json()["items"] == []


def test_streams_that_begin_together(served: Served) -> None:
    """Streams opened at the same moment each have every checkpoint once, with one reader for all."""
    task = served.task("together")
    count = 12
    begun_all, received = threading.Barrier(count + 1, timeout=60), list[list[str]]()

    def follow() -> None:
        with streamed(served.as_of("viewer"), task=task["uid"], event="checkpoint") as events:
            begun(events)
            begun_all.wait()
            received.append(texts(until(events, "last")))

    threads = [threading.Thread(target=follow) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun_all.wait()
    said = [f"told {n}" for n in range(30)] + ["last"]
    for n, text in enumerate(said):
        served.record(served.checkpoint(task, n, text))
    for thread in threads:
        thread.join()
    assert received == [said] * count


def test_what_is_erased_is_forgotten(served: Served, api_dsn: str) -> None:
    """After an erasure a stream has its client ask for the tasks anew, and no stream is given what was kept before."""
    client = served.as_of("viewer")
    task = served.task("to be erased", agent__task__id="erased-1")
    with streamed(client, task=task["uid"], event="checkpoint") as events:
        place = begun(events)["id"]
        served.record(served.checkpoint(task, 1, "a secret"))
        assert texts(until(events, "a secret")) == ["a secret"]
        with streamed(client, event="task") as states:
            begun(states)

            async def erase_it() -> None:
                database = await asyncpg.connect(api_dsn)
                await erased(database, task="erased-1")
                await database.close()

            asyncio.run(erase_it())
            while (event := said(states))["event"] != "reset":
                pass
            assert event["data"]["reason"].startswith("too far behind")
    with streamed(client, place, event="checkpoint") as events:
        begun(events)
        other = served.task("another")
        served.record(served.checkpoint(other, 1, "the next"))
        assert "a secret" not in texts(until(events, "the next"))
