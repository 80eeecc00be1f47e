"""A gateway's API from the command line, against a server that answers, disconnects and sends wrong content."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spanpost.cli import remote, watch
from spanpost.cli.assistant import server
from spanpost.cli.remote import Remote, RemoteAnswered, path_of, task_of
from spanpost.interactions.api.responses import plain
from spanpost.model.errors import ConfigError
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.settings import TOKEN_VARIABLE
from spanpost.sinks.labels import title
from spanpost.tasks.api_json import task_summary
from spanpost.testing.nouns import a_task
from tests.eventually import free_port
from tests.thorough import thorough

TASK = {"uid": "7" * 32, "task_id": "t1", "name": "Deploy", "status": "working", "cost_usd": None, "model": ""}


class Gateway:
    """Answers requests in turn with (status, body): JSON, or bytes as they are. `seen` holds the requests."""

    def __init__(self) -> None:
        self.answers: deque[tuple[int, Any]] = deque()
        self.seen: list[SimpleNamespace] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                gateway.seen.append(
                    SimpleNamespace(method=self.command, path=self.path, headers=dict(self.headers.items()), body=body)
                )
                status, reply = gateway.answers.popleft() if gateway.answers else (200, {})
                content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                if status in (302, 307):
                    self.send_header("location", reply["location"])
                if not isinstance(reply, bytes):  # a stream ends with its connection, as behind a proxy of HTTP/1.0
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gateway(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv(TOKEN_VARIABLE, "spt_secret")
    monkeypatch.setattr(remote, "_AGAIN", (0.001, 0.002))
    made = Gateway()
    yield made
    made.close()


def event(id: str, kind: str, data: Any) -> bytes:
    return f"id: {id}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


HELLO = b"event: hello\ndata: {}\n\n"
PERMANENT = (404, {"code": 5, "message": "no stream here", "status": "NOT_FOUND"})


# --- answers ----------------------------------------------------------------------------------------------------------


REFUSALS = {
    "our own error": (
        (422, {"message": "is no time", "details": [{"fieldViolations": [{"field": "since"}]}]}),
        "the gateway: is no time (since)",
    ),
    "without a field": ((403, {"message": "not yours", "details": [{"reason": "x"}]}), "the gateway: not yours"),
    "no known token": ((401, {"message": "who?"}), f"the gateway: who?; the token is read from {TOKEN_VARIABLE}"),
    "a page": ((502, b"<html>bad gateway</html>"), "it answers 502; is it a spanpost"),
    "a list": ((500, ["error"]), "it answers 500; is it a spanpost"),
    "an error of no form": ((500, {"error": "text"}), "it answers 500; is it a spanpost"),
    "details of no form": ((400, {"message": "no", "details": 7}), "it answers 400; is it a spanpost"),
    "another server": ((200, b"<html>hello</html>"), "the server there is not spanpost; check --url"),
}


@pytest.mark.parametrize(("answer", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_to_do(gateway: Gateway, answer: tuple[int, Any], said: str) -> None:
    """Any other answer of a server ends the command with one sentence, without token and traceback."""
    gateway.answers.append(answer)
    with Remote(gateway.url) as there, pytest.raises(RemoteAnswered) as caught:
        there.get("/api/tasks", {})
    assert said in str(caught.value)
    assert "spt_secret" not in str(caught.value)


def test_a_redirect_does_not_get_the_token(gateway: Gateway) -> None:
    """A redirect is refused: the token goes to the given address, and to no other."""
    other = Gateway()
    try:
        gateway.answers.append((307, {"location": f"{other.url}/api/tasks"}))
        with Remote(gateway.url) as there, pytest.raises(RemoteAnswered, match="it answers 307"):
            there.get("/api/tasks", {})
        assert (len(gateway.seen), other.seen) == (1, [])
    finally:
        other.close()


def test_no_proxy_of_the_environment_sees_this_machines_token(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway on this machine is called without the environment's proxy, which would receive the token."""
    proxy = Gateway()
    try:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with Remote(gateway.url) as there:
            assert there.get("/api/me", {}) == {}
        assert (proxy.seen, gateway.seen[0].headers["authorization"]) == ([], "Bearer spt_secret")
    finally:
        proxy.close()


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port/", "http://\x00/", "http://ho st:99999999/"])
def test_an_address_that_is_none(gateway: Gateway, url: str) -> None:
    """An invalid address is refused with a message before any request, or when it is called."""
    with pytest.raises((ConfigError, RemoteAnswered), match="--url"), Remote(url) as there:
        there.get("/api/me", {})


def test_pages_are_read_until_there_is_enough(gateway: Gateway) -> None:
    """A list is read page by page until it has the wanted number; empty filters are left out."""
    gateway.answers += [(200, {"items": [1] * 200, "next": "a"}), (200, {"items": [2] * 50, "next": "b"})]
    with Remote(f"{gateway.url}/api/") as there:
        found = there.items("/api/tasks", {"status": ["error"], "agent": "", "q": None, "roots": False}, 250)
    assert found == [1] * 200 + [2] * 50
    assert [seen.path for seen in gateway.seen] == [
        "/api/tasks?status=error&limit=200",
        "/api/tasks?status=error&limit=50&cursor=a",
    ]


def test_the_last_page_ends_a_list(gateway: Gateway) -> None:
    """A page without a next one is the last, however many entries were wanted."""
    gateway.answers.append((200, {"items": [1], "next": None}))
    with Remote(gateway.url) as there:
        assert there.items("/api/tasks", {}, 1000) == [1]


def test_a_task_has_the_same_title_as_in_the_database() -> None:
    """A gateway's task that its agent did not name is titled by what was asked, as one of the database is."""
    for task in (a_task(name="agent", ask="Mend the tests"), a_task(name="agent", ask="Mend the tests", is_named=True)):
        assert title(task_of(plain(task_summary(task)))) == title(task)


def test_a_session_between_prompts_is_known_by_the_answer() -> None:
    """A gateway says whether a waiting task waits for a person; an older gateway says nothing of it."""
    for rule, is_asking in ((BETWEEN_PROMPTS, False), ("open approval", True)):
        answer = plain(task_summary(a_task(status="waiting", rule=rule)))
        assert (answer["waits_for_person"], task_of(answer).waits_for_person) == (is_asking, is_asking)
    assert task_of({**answer, "status": "working", "waits_for_person": False}).shown_status == "working"


# --- the stream -------------------------------------------------------------------------------------------------------


def test_a_stream_goes_on_where_it_broke_off(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """After an interruption, a passing error or half an event, reading continues after the last whole event."""
    gateway.answers += [
        (200, HELLO + event("1", "checkpoint", {"n": 1}) + b'id: 2\nevent: checkpoint\ndata: {"n"'),
        (503, {"message": "starting", "details": []}),
        (200, HELLO + event("2", "checkpoint", {"n": 2}) + b": still here\n\n" + event("3", "task", {"n": 3})),
        PERMANENT,
    ]
    with Remote(gateway.url) as there:
        events = there.follow({"event": "checkpoint"})
        found = [(one["event"], one["data"]) for one in islice(events, 5)]
        with pytest.raises(RemoteAnswered, match="no stream here"):
            next(events)
    assert found == [
        ("hello", {}), ("checkpoint", {"n": 1}), ("hello", {}), ("checkpoint", {"n": 2}), ("task", {"n": 3}),
    ]  # fmt: skip
    assert [seen.headers.get("last-event-id") for seen in gateway.seen] == [None, "1", "1", "3"]
    assert "starting, trying again" in capsys.readouterr().err


def test_an_address_where_nothing_answers_is_named(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each attempt to reach a gateway that is down names its address, without a password, and the pause grows."""
    dead, pauses = f"127.0.0.1:{free_port()}", list[float]()
    here, really_sleep = threading.current_thread(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.current_thread() is not here:
            return really_sleep(seconds)
        pauses.append(seconds)
        if len(pauses) >= 3:
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(remote.time, "sleep", sleep)
    monkeypatch.setattr(remote, "_AGAIN", (1.0, 15.0))
    with Remote(f"http://me:hunter2@{dead}") as there:
        with pytest.raises(KeyboardInterrupt):
            list(there.follow({}))
        with pytest.raises(RemoteAnswered, match=f"the gateway at {dead} cannot be reached"):
            there.get("/api/me", {})
    said = capsys.readouterr().err
    assert said.count(f"the gateway at {dead} cannot be reached (ConnectError), trying again in ") == 3
    assert pauses == [1.0, 2.0, 4.0]
    assert "hunter2" not in said


def test_an_event_of_no_form_is_no_traceback(gateway: Gateway) -> None:
    """An event that is no JSON is refused with a message."""
    gateway.answers.append((200, b"event: checkpoint\ndata: hello\n\n"))
    with Remote(gateway.url) as there, pytest.raises(RemoteAnswered, match="not spanpost"):
        list(islice(there.follow({}), 1))


def test_watching_says_once_that_it_began(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """`watch --json` prints each checkpoint as a line and says once on stderr that it watches."""
    gateway.answers += [
        (200, HELLO + event("1", "checkpoint", {"text": "one"})),
        (200, HELLO + event("2", "checkpoint", {"text": "two"}) + event("3", "checkpoint", {"text": "three"})),
    ]
    watch.watch(as_json=True, agent=["coder"], status=["working"], repo=["shop"], count=2, url=gateway.url)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [{"text": "one"}, {"text": "two"}]
    assert err.count("watching; stop with Ctrl-C") == 1
    assert gateway.seen[0].path == "/api/events?status=working&agent=coder&event=checkpoint&repo=shop"


def test_a_status_that_is_none_is_refused(gateway: Gateway) -> None:
    """A misspelt status is refused with the existing ones, before any request."""
    with pytest.raises(ConfigError, match="finished: there is no such status; use one of starting"):
        watch.watch(status=["finished"], url=gateway.url)
    assert gateway.seen == []


# --- an assistant ----------------------------------------------------------------------------------------------------


async def call(gateway: Gateway, tool: str, allow_acts: bool = False, **said: Any) -> Any:
    """Call a tool as an assistant does; return the request that it caused, and the answer."""
    with Remote(gateway.url) as there:
        answer = await server(there, allow_acts=allow_acts).call_tool(tool, said)
    return gateway.seen[-1], answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "said", "path"),
    [
        ("task", {"id": "{}"}, "/api/tasks/{}"),
        ("question", {"id": "{}"}, "/api/approvals/{}"),
        ("timeline", {"id": "{}"}, "/api/tasks/{}/timeline?limit=100"),
        ("decide", {"approval": "{}", "decision": "approve"}, "/api/approvals/{}/decision"),
        ("act_on_task", {"id": "{}", "verb": "cancel"}, "/api/tasks/{}/cancel"),
        ("start_work", {"launcher": "{}", "text": "x"}, "/api/launchers/{}/start"),
        ("act_on_task", {"id": "{}", "verb": "message", "text": "x"}, "/api/tasks/{}/messages"),
    ],
)
@pytest.mark.parametrize("id", ["a/b", "..", ".", "../approvals/x", "a?b=c", "a#b", "%2e%2e", "a\\b", "ü 1"])
async def test_an_id_is_one_part_of_a_path(
    gateway: Gateway, tool: str, said: dict[str, str], path: str, id: str
) -> None:
    """An id is one segment of the path whatever it contains, so it cannot name another resource."""
    given = {name: value.replace("{}", id) for name, value in said.items()}
    seen, _ = await call(gateway, tool, allow_acts=True, **given)
    assert seen.path == path.replace("{}", path_of(id))


@thorough(200)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@example("..")
@example("a/../b")
def test_any_id_is_one_part_of_a_path(id: str) -> None:
    """A segment of a path holds no slash, query or dots with another meaning, and is decoded to the same
    text.
    """
    from urllib.parse import unquote

    part = path_of(id)
    assert unquote(part) == id
    assert not set("/?#\\ ") & set(part)
    assert set(part) != {"."}


async def test_an_assistant_reads_unless_acts_are_allowed(gateway: Gateway) -> None:
    """Without `--allow-acts` there is no tool that changes anything; every tool declares whether it does."""
    with Remote(gateway.url) as there:
        reading = {tool.name: tool for tool in await server(there).list_tools()}
        acting = {tool.name: tool for tool in await server(there, allow_acts=True).list_tools()}
    acts = acting.keys() - reading.keys() - {"launchers"}
    assert acts == {"decide", "act_on_task", "start_work"}
    assert {name for name, tool in acting.items() if not tool.annotations.read_only_hint} == acts
    assert all(acting[name].annotations.destructive_hint for name in acts)


async def test_each_act_has_a_key_of_its_own(gateway: Gateway) -> None:
    """Each act of an assistant has an idempotency key of its own: two equal acts are two."""
    for _ in range(2):
        await call(gateway, "act_on_task", allow_acts=True, id="t1", verb="retry", text="again")
    keys = {seen.headers["idempotency-key"] for seen in gateway.seen}
    assert len(keys) == 2
    assert [json.loads(seen.body) for seen in gateway.seen] == [{"comment": "again"}] * 2


async def test_a_list_for_an_assistant_is_short(gateway: Gateway) -> None:
    """A task in an assistant's list has the known fields, and no others."""
    gateway.answers.append((200, {"items": [TASK], "next": None}))
    _, answer = await call(gateway, "running", agent="coder")
    assert gateway.seen[0].path.endswith("&agent=coder&limit=20")
    assert '"Deploy"' in str(answer)
    assert "cost_usd" not in str(answer)


async def test_a_refusal_of_the_gateway_is_an_error_with_its_sentence(gateway: Gateway) -> None:
    """A refusal reaches the assistant as an error with the gateway's sentence, without the token."""
    gateway.answers.append((403, {"message": "may not decide"}))
    with pytest.raises(Exception, match="may not decide") as caught:
        await call(gateway, "decide", allow_acts=True, approval="a1", decision="approve")
    assert "spt_secret" not in str(caught.value)
