"""Every route of a gateway with all its endpoints, wrongly asked: one error body, the right code, never a 500."""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from spanpost.encryption import new_key
from spanpost.http.status import ERRORS
from spanpost.http.tokens import hash_of
from tests.conftest import ROOT
from tests.errors import reason_of
from tests.interactions.api.served import Served, tokens

LIMIT = 65_536
SECRET = "hush-hush-hush-hush"
JSON = "application/json"
#: Below a prefix, and in place of a parameter.
BELOW = {
    "/hooks/": "own", "/board/": "history", "/control/v1/approvals/": "x", "/control/v1/tasks/": "x",
    "/control/v1/hooks/": "claude-code",
}  # fmt: skip
#: Largest body in bytes. Longer alerts go to quarantine and are answered 200: a monitor would repeat them for ever.
LONGEST = {
    "/v1/": LIMIT, "/api/": LIMIT, "/hooks/": LIMIT, "/control/v1/hooks/": 1024 * 1024, "/control/": 256 * 1024,
    "/slack/": 1024 * 1024,
}  # fmt: skip
#: Routes without credentials.
OPEN = {
    "/", "/board/history", "/docs", "/health", "/health/live", "/health/ready", "/slack/install",
    "/slack/oauth_redirect", "/api/login", "/api/login/callback", "/api/logout", "/api/openapi.json",
}  # fmt: skip
SIGNED = ("/hooks/", "/slack/events")


class Asked(NamedTuple):
    """One route, with the path and the method of a request for it."""

    path: str
    methods: frozenset[str]

    @property
    def method(self) -> str:
        return "POST" if "POST" in self.methods else "GET"


class Answer(NamedTuple):
    """An answer of the gateway."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that has every endpoint, and asks for tokens."""
    own = {"tenant": "default", "sha256": [hash_of("spt_tenant")]}
    settings: dict[str, Any] = {
        "gateway": {
            "http_port": 0, "grpc_port": -1, "max_body": LIMIT, "tokens": [own],
            "operator_tokens": [hash_of("spt_operators")],
        },
        "webhooks": {"max_body": LIMIT,
                     "providers": {"own": {"scheme": "github", "secret": SECRET, "does": [{"start": "fix"}]}}},
        "interactions": {"tokens": tokens(), "signing_secret": SECRET},
        "slack": {"base_url": "http://127.0.0.1:9/api/",
                  "workspaces": {"acme": {"team": "T0222BBBB", "tenant": "a", "channel": "#a"}}},
        "alerts": {"alertmanagers": [{"url": "http://127.0.0.1:9/"}]},
        "slack_oauth": {
            "client_id": "1.2", "client_secret": SECRET, "public_url": "https://agents.example.com", "key": new_key(),
        },
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("gateway"))
        with Served(None, **settings) as served:
            yield served


@pytest.fixture
def routes(gateway: Served) -> list[Asked]:
    """All routes, by the router's own table."""
    assert gateway.gateway._endpoints is not None
    made = []
    for path, methods in gateway.gateway._endpoints.router.table():
        full = path + BELOW[path] if path in BELOW else re.sub(r"\{[^}]*\}", "x", path)
        made.append(Asked(full, methods))
    assert {one.path for one in made} >= {
        *OPEN,
        "/v1/traces",
        "/alerts/grafana",
        "/hooks/own",
        "/slack/events",
        "/metrics",
        "/api/me",
    }
    return made


def token_for(path: str) -> str:
    if path.startswith("/api/"):
        return "spt_auditor" if path in ("/api/acts", "/api/content-reads") else "spt_operator"
    return "spt_operators" if path in ("/metrics", "/health/detailed") else "spt_tenant"


def ask(
    served: Served, method: str, path: str, body: bytes | None = None, length: int = 0, token: str | None = ""
) -> Answer:
    """Send a correct request except for what the test changes. `length` is announced and not sent."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.putrequest(method, path)
        token = token_for(path) if token == "" else token
        if token is not None:
            connection.putheader("authorization", f"Bearer {token}")
        if body is not None:
            connection.putheader("content-type", JSON)
            connection.putheader("content-length", str(length or len(body)))
        connection.putheader("origin", served.url)
        connection.endheaders()
        if body:
            connection.send(body)
        answer = connection.getresponse()
        said = b"" if "text/event-stream" in answer.headers.get("content-type", "") else answer.read()
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, said)
    finally:
        connection.close()


def problem_of(answer: Answer, statuses: set[int]) -> str:
    """Return what is wrong with an answer; empty if nothing is."""
    if answer.status not in statuses:
        return f"{answer.status}, not {statuses}: {answer.body[:200]!r}"
    if answer.status < 400:
        return ""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return f"no JSON: {answer.body[:200]!r}"
    right = (JSON, ERRORS[answer.status][0], "nosniff", str, True)
    found = (
        answer.headers["content-type"],
        body["code"],
        answer.headers["x-content-type-options"],
        type(body["message"]),
        bool(reason_of(body)),
    )
    if found != right or body.keys() > {"code", "message", "details"}:
        return f"{found}, not {right}: {body}"
    return "a traceback" if "Traceback" in body["message"] or ".py" in body["message"] else ""


def walk(
    routes: list[Asked], caplog: pytest.LogCaptureFixture, request: Callable[[Asked], tuple[Answer, set[int]] | None]
) -> None:
    """Request every route, and compare each answer with the one body."""
    with caplog.at_level(logging.ERROR, "spanpost"):
        answers = {f"{one.method} {one.path}": request(one) for one in routes}
    problems = {name: problem for name, one in answers.items() if one is not None and (problem := problem_of(*one))}
    assert problems == {}
    assert sum(one is not None for one in answers.values()) > 3
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.slow
def test_unknown_paths(gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture) -> None:
    """An unknown path is a 404 below every endpoint; below the board it is a page."""

    def request(one: Asked) -> tuple[Answer, set[int]]:
        path = f"{one.path.rstrip('/')}/nothing/there"
        method = "POST" if path.startswith(("/hooks/", "/control/v1/hooks/")) else "GET"
        return ask(gateway, method, path, b"{}" if method == "POST" else None), {
            200 if path.startswith("/board/") else 404
        }

    walk(routes, caplog, request)


def test_wrong_methods(gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture) -> None:
    """A method that an endpoint does not support is a 405 with the supported ones."""

    def request(one: Asked) -> tuple[Answer, set[int]]:
        answer = ask(gateway, "DELETE", one.path, b"{}")
        assert answer.status != 405 or answer.headers["allow"], one.path
        return answer, {405}

    walk(routes, caplog, request)


@pytest.mark.parametrize("token", [None, "spt_wrong", "", "x" * 5_000])
def test_wrong_tokens(
    gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture, token: str | None
) -> None:
    """Without a token, with a wrong, an empty and a long one, every endpoint that needs one answers 401."""

    def request(one: Asked) -> tuple[Answer, set[int]] | None:
        if one.path in OPEN:
            return None
        body = b"{}" if one.method == "POST" else None
        return ask(gateway, one.method, one.path, body, token=" " if token == "" else token), {401}

    walk(routes, caplog, request)


def test_long_bodies(gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture) -> None:
    """A body beyond the endpoint's limit is a 413, wherever a body is read."""

    def request(one: Asked) -> tuple[Answer, set[int]] | None:
        longest = next((most for prefix, most in LONGEST.items() if one.path.startswith(prefix)), 0)
        if one.method != "POST" or not longest or one.path == "/api/logout":
            return None
        # Slack's limit applies to the announced length: nothing is sent only to be discarded.
        sent = b"" if one.path.startswith("/slack/") else b"[" + b" " * longest
        return ask(gateway, "POST", one.path, sent, longest + 1), {413, 401} if one.path.startswith(SIGNED) else {413}

    walk(routes, caplog, request)


def test_malformed_bodies(gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture) -> None:
    """A body that is no JSON is a 400; unsigned it is a 401; an alert's is quarantined and answered 200."""

    def request(one: Asked) -> tuple[Answer, set[int]] | None:
        if one.method != "POST" or one.path == "/api/logout":
            return None
        status = 401 if one.path.startswith(SIGNED) else 200 if one.path.startswith("/alerts/") else 400
        return ask(gateway, "POST", one.path, b'{"\xff'), {status}

    walk(routes, caplog, request)


@pytest.mark.slow
def test_reads(gateway: Served, routes: list[Asked], caplog: pytest.LogCaptureFixture) -> None:
    """A correct request of every readable endpoint is a success, or an error with the one body; HEAD has no
    body.
    """

    def request(one: Asked) -> tuple[Answer, set[int]] | None:
        if one.method != "GET":
            return None
        if "HEAD" in one.methods:
            assert ask(gateway, "HEAD", one.path).body == b""
        if one.path.startswith("/slack/"):
            return None  # it leads to Slack
        return ask(gateway, "GET", one.path), {200, 404, 422, 302}

    walk(routes, caplog, request)


def test_the_page_has_every_code() -> None:
    """The table of docs/reference/http-answers.md equals the table of the code."""
    page = (ROOT / "docs" / "reference" / "http-answers.md").read_text()
    found = {
        int(status): (int(code), name)
        for status, code, name in re.findall(r"^\| (\d+) \| (\d+) `([A-Z_]+)` \|", page, re.M)
    }
    assert found == {status: (int(code), code.name) for status, (code, _) in ERRORS.items()}


def test_protobuf_is_answered_in_protobuf(gateway: Served) -> None:
    """An exporter that sends protobuf gets errors as protobuf, from the guard, the router and the endpoint
    alike.
    """
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    for path, origin, status in (
        ("/v1/traces", "http://evil.example", 403),
        ("/v1/spans", "", 404),
        ("/v1/traces", "", 400),
    ):
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        headers = {"content-type": "application/x-protobuf", "authorization": "Bearer spt_tenant"}
        connection.request("POST", path, b"\xff", headers | ({"origin": origin} if origin else {}))
        answer = connection.getresponse()
        body, info = Status.FromString(answer.read()), ErrorInfo()
        connection.close()
        assert (answer.status, answer.headers["content-type"], body.code) == (
            status,
            "application/x-protobuf",
            ERRORS[status][0],
        )
        assert body.details[0].Unpack(info)
        assert (bool(info.reason), info.domain, bool(body.message)) == (True, "spanpost", True)
