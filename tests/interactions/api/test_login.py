"""Logins at a real, small OpenID Connect provider, and attempts of forgers and foreign pages."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest
from joserfc.jwk import RSAKey

from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.sessions import COOKIE, REFRESH, Sessions
from spanpost.model.acts import ActFilter
from spanpost.model.errors import ConfigError
from spanpost.model.sessions import SessionState
from spanpost.runtime.endpoints.api import oidc_of
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_people import asking, at_work
from tests.errors import reason_of
from tests.interactions.api.provider import Provider
from tests.interactions.api.served import Served, streamed

ANN = Caller(provider="oidc", id="u1", name="Ann", tenant="default", roles=frozenset({"viewer"}))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def terms(provider: Provider, url: str = "http://127.0.0.1:1") -> dict[str, Any]:
    """Return the settings of the login."""
    return {
        "issuer": provider.url,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "public_url": url,
        "roles": {"sre": ["viewer", "approver"], "boss": ["operator"]},
        "tenant_claim": "org",
    }


@pytest.fixture(scope="module")
def app(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with logins. It keeps its rows in memory, without a database."""
    oidc = terms(provider)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("house"))
        made = Served(None, oidc=oidc)
    with made:
        assert made.reload(oidc=terms(provider, made.url))  # its address is known now
        yield made


@pytest.fixture(autouse=True)
def _ann(provider: Provider) -> None:
    provider.claims = {
        "sub": "u1", "name": "Ann", "email": "ann@example.com", "email_verified": True, "groups": ["sre"],
        "org": "default",
    }  # fmt: skip
    provider.lies, provider.forged = {}, None


def logged_in(app: Served, path: str = "/api/login?next=/api/me") -> tuple[httpx.Client, httpx.Response]:
    client = httpx.Client(base_url=app.url, follow_redirects=True, timeout=60)
    return client, client.get(path)


@pytest.mark.slow
def test_somebody_logs_in(app: Served) -> None:
    """A login by code and PKCE returns to the wanted page as the provider's user; scripts cannot read the cookie."""
    client, answer = logged_in(app)
    assert answer.json() == {
        "name": "Ann", "provider": "oidc", "email": "ann@example.com", "tenant": "default",
        "roles": ["approver", "viewer"],
    }  # fmt: skip
    set_cookie = answer.history[-1].headers["set-cookie"]
    assert "HttpOnly" in set_cookie
    assert "SameSite=lax" in set_cookie
    assert client.post("/api/logout", headers={"origin": app.url}).status_code == 204
    assert client.get("/api/me").status_code == 401
    acts = app.gateway.pipeline.ask(app.gateway.pipeline.store.acts.listed(ActFilter(source="oidc"), None, 2)).items
    assert [(one.verb, one.actor, one.tenant) for one in acts] == [
        ("log_out", "Ann", "default"),
        ("log_in", "Ann", "default"),
    ]
    assert acts[0].credential == acts[1].credential != ""


def test_a_person_decides_from_our_own_pages_alone(app: Served) -> None:
    """A decision with a session counts, in the person's name, only if it comes from our own origin."""
    trace = app.trace()
    app.record(at_work("asks", trace=trace), asking("login-q", trace=trace))
    client, _ = logged_in(app)
    path, body = "/api/approvals/login-q/decision", {"decision": "approve"}
    https = app.url.replace("http", "https")
    for origin in ("null", "http://evil.example", https, f"{https}.evil.example", "http://127.0.0.1:1"):
        refused = client.post(path, json=body, headers={"origin": origin})
        assert (refused.status_code, refused.json()["code"]) == (403, 7), origin
    unnamed = client.post(path, json=body)
    assert (unnamed.status_code, reason_of(unnamed.json())) == (403, "foreign_origin")
    assert client.post(path, json=body, headers={"origin": app.url}).json()["by"] == "Ann"
    [approval] = client.get("/api/approvals").json()["items"]
    assert (approval["decision"], approval["source"]) == ("approve", "oidc")


@pytest.mark.slow
@pytest.mark.parametrize(
    "lies",
    [
        {"aud": "somebody-else"},
        {"aud": ["spanpost", "another"]},
        {"iss": "http://evil.example"},
        {"nonce": "replayed"},
        {"exp": 1_600_000_000},
    ],
    ids=str,
)
def test_tokens_that_are_not_for_us(app: Served, provider: Provider, lies: dict[str, Any]) -> None:
    """An ID token for another client, from another issuer, of another login or expired is refused."""
    provider.lies = lies
    client, answer = logged_in(app)
    assert (answer.status_code, reason_of(answer.json())) == (403, "login_failed")
    assert client.get("/api/me").status_code == 401


@pytest.mark.slow
def test_a_forged_token(app: Served, provider: Provider) -> None:
    """A token signed by another key is refused; one signed by a rotated key is accepted."""
    provider.forged = RSAKey.generate_key(2048, {"kid": "k1"})
    assert logged_in(app)[1].status_code == 403
    provider.forged, provider.key = None, RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
    assert logged_in(app)[1].status_code == 200


def test_a_login_that_was_not_begun_here(app: Served, provider: Provider) -> None:
    """A code without its login's cookie, or with another state, logs nobody in."""
    client = httpx.Client(base_url=app.url, timeout=60)
    begun = client.get("/api/login")
    there = httpx.get(begun.headers["location"]).headers["location"]
    stranger = httpx.Client(timeout=60)
    assert stranger.get(there).status_code == 403
    assert client.get(there.partition("state=")[0] + "state=other").status_code == 403
    assert client.get(f"{there}&iss=https://evil.example").json()["message"].startswith("the answer is of another")
    assert client.get("/api/login/callback?error=access_denied").json()["message"].endswith("(access_denied)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "next", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/ä"]
)
def test_the_redirect_stays_on_this_host(app: Served, next: str) -> None:
    """After the login the redirect leads to a path of ours, whatever was requested."""
    client = httpx.Client(base_url=app.url, timeout=60)
    there = httpx.get(client.get("/api/login", params={"next": next}).headers["location"]).headers["location"]
    assert client.get(there).headers["location"] == "/"


def test_who_has_no_role_or_tenant(app: Served, provider: Provider) -> None:
    """A user without a known group or tenant has no rights, and an unconfirmed address counts as none."""
    provider.claims["groups"] = ["guests"]
    assert reason_of(logged_in(app)[1].json()) == "no_role"
    provider.claims |= {"groups": ["sre"], "org": None}
    assert reason_of(logged_in(app)[1].json()) == "no_tenant"
    acts = app.gateway.pipeline.store.acts
    [tried] = app.gateway.pipeline.ask(acts.listed(ActFilter(person="oidc:default:u1", verb="log_in"), None, 1)).items
    assert (tried.result, tried.actor, tried.credential) == ("refused", "Ann", "login")
    assert "has no role here" in tried.refusal
    provider.claims |= {"groups": "boss", "org": "other", "email_verified": False}
    assert logged_in(app)[1].json() == {
        "name": "Ann",
        "provider": "oidc",
        "email": None,
        "tenant": "other",
        "roles": ["operator"],
    }


def test_a_rebound_name_is_refused(app: Served) -> None:
    """With a session, a rebound name is refused; so is beginning a login under it."""
    client, _ = logged_in(app)
    for path in ("/api/me", "/api/login"):
        answer = client.get(path, headers={"host": "rebound.example"}, follow_redirects=False)
        assert (answer.status_code, "gateway.hosts" in answer.json()["message"]) == (403, True)


@pytest.mark.slow
def test_a_stream_ends_with_its_session(app: Served, provider: Provider) -> None:
    """A stream ends when its session does, and the user must log in again. Four seconds."""
    pipeline = app.gateway.pipeline
    short = oidc_of(load(**(app._given | {"oidc": terms(provider, app.url) | {"session": 4}})), pipeline.store.sessions)
    assert short is not None
    client = app.client(cookie=f"{COOKIE}={pipeline.ask(short.sessions.begin(ANN))}")
    with streamed(client) as events:
        assert [event["event"] for event in events if "event" in event][:1] == ["hello"]
    assert client.get("/api/me").status_code == 401


def test_a_session_ends_when_its_roles_are_given_no_more(app: Served, provider: Provider) -> None:
    """A reload that changes which roles a login gives ends all sessions and their streams; the next login gives the
    new roles. Another reload ends no session.
    """
    given = terms(provider, app.url)
    client, _ = logged_in(app)
    assert app.reload(oidc=given | {"scopes": ["openid"]})
    assert client.get("/api/me").status_code == 200
    try:
        assert app.reload(oidc=given | {"roles": {"sre": ["viewer"]}})
        assert client.get("/api/me").status_code == 401
        assert client.get("/api/login?next=/api/me").json()["roles"] == ["viewer"]
    finally:
        assert app.reload(oidc=given)


def test_what_a_provider_answers_instead(app: Served, provider: Provider) -> None:
    """A provider that does not know the client is reported with the settings to check, without the secret."""
    provider.client_secret = "another"
    try:
        client = httpx.Client(base_url=app.url, follow_redirects=True, timeout=60, headers={"accept": "text/html"})
        answer = client.get("/api/login")
    finally:
        del provider.client_secret
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "check oidc.client_id and oidc.client_secret" in answer.text
    assert "s3cret" not in answer.text
    evil = client.get("/api/login/callback", params={"error": "<script>alert(1)</script>"})
    assert "<script>" not in evil.text
    assert "default-src 'none'" in evil.headers["content-security-policy"]


async def test_sessions_end_and_cannot_be_made() -> None:
    """A session is valid for its time; one of another secret, of another purpose, changed or cut is refused."""
    now = [1000.0]
    kept, other = MemoryStore().sessions, MemoryStore().sessions
    sessions = Sessions(kept, 60, clock=lambda: now[0])
    cookie = await sessions.begin(ANN)
    found = await sessions.find(cookie)
    assert found is not None
    assert msgspec.structs.replace(found, session="") == msgspec.structs.replace(ANN, until=1060.0)
    assert len(found.session) >= 16
    body, _, encryption = cookie.partition(".")
    for bad in (
        "",
        "x",
        ".",
        cookie[:-1],
        cookie + "x",
        f"{body}x.{encryption}",
        f"{body}.",
        "é" + cookie,
        "x" * 10_000,
        None,
    ):
        assert await sessions.find(bad) is None
    assert await sessions.find((await sessions.signer("login")).sign(found, 60)) is None
    for stranger in (Sessions(other, 60, clock=lambda: now[0]), Sessions(kept, 60, b"s" * 32, clock=lambda: now[0])):
        assert await stranger.find(cookie) is None
    now[0] += 61
    assert await sessions.find(cookie) is None


async def test_logging_out_ends_one_session_everywhere() -> None:
    """A logged-out cookie is invalid at once here, and at other gateways after their next check."""
    kept, clock = MemoryStore().sessions, [0.0]
    here, there = (Sessions(kept, 60, monotonic=lambda: clock[0]) for _ in range(2))
    cookie, another = await here.begin(ANN), await there.begin(ANN)
    assert await there.find(cookie) is not None
    await here.end(cookie)
    await here.end("forged")
    assert await here.find(cookie) is None
    clock[0] += REFRESH + 0.1
    assert await there.find(cookie) is None
    assert [await each.find(another) is not None for each in (here, there)] == [True, True]


async def test_a_query_that_began_before_the_logout_does_not_undo_it() -> None:
    """A read that overlaps the logout is repeated: the cookie is invalid at the next request."""
    kept, reading, go_on, clock = MemoryStore().sessions, asyncio.Event(), asyncio.Event(), [0.0]

    class Slow:
        async def state(self) -> SessionState:
            found = await kept.state()
            if clock[0]:
                reading.set()
                await go_on.wait()
            return found

        async def end(self, id: str, until: datetime) -> None:
            clock[0] = REFRESH + 0.1
            begun.append(asyncio.create_task(sessions.find(cookie)))
            await reading.wait()
            await kept.end(id, until)

    begun: list[asyncio.Task[Caller | None]] = []
    sessions = Sessions(Slow(), 60, monotonic=lambda: clock[0])
    cookie = await sessions.begin(ANN)
    ending = asyncio.create_task(sessions.end(cookie))
    await reading.wait()
    go_on.set()
    await asyncio.gather(ending, *begun)
    assert await sessions.find(cookie) is None


async def test_what_is_kept_is_read_once_in_a_while() -> None:
    """Requests with valid and invalid sessions together cost one query in `REFRESH` seconds."""
    lookups, clock, kept = [0], [0.0], MemoryStore().sessions

    class Counting:
        async def state(self) -> SessionState:
            lookups[0] += 1
            return await kept.state()

        async def end(self, id: str, until: datetime) -> None:
            await kept.end(id, until)

    sessions = Sessions(Counting(), 60, monotonic=lambda: clock[0])
    cookie = await sessions.begin(ANN)
    await asyncio.gather(*(sessions.find(text) for text in [cookie, "forged", None] * 20))
    assert lookups == [1]
    clock[0] += REFRESH + 0.1
    await asyncio.gather(*(sessions.find(cookie) for _ in range(20)))
    assert lookups == [2]


@pytest.mark.slow
def test_a_cookie_is_nothing_after_logging_out(app: Served) -> None:
    """A copied cookie is invalid after the logout and its stream ends; another session continues."""
    client, _ = logged_in(app)
    other, _ = logged_in(app)
    cookie = client.cookies[COOKIE]
    thief = app.client(cookie=f"{COOKIE}={cookie}")
    with streamed(thief) as events:
        assert next(events)["event"] == "hello"
        assert client.post("/api/logout", headers={"origin": app.url}).status_code == 204
        assert all("data" not in event or event["event"] != "checkpoint" for event in events)
    assert thief.get("/api/me").status_code == 401
    assert other.get("/api/me").json()["name"] == "Ann"


@pytest.mark.parametrize("secret", ["", "c4nary", "x" * 31, "é" * 15])
def test_a_short_secret_is_refused(provider: Provider, secret: str) -> None:
    """A session secret below 32 bytes stops the start and is not printed; a missing one is fine."""
    given = {"issuer": provider.url, "client_id": "x", "public_url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigError, match=r"oidc\.session_secret: must have 32 bytes at least") as refused:
        load(oidc={**given, "session_secret": secret})
    assert "c4nary" not in str(refused.value)
    assert load(oidc=given).oidc is not None
    assert load(oidc={**given, "session_secret": "x" * 32}).oidc is not None


@pytest.mark.slow
@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "cf-connecting-ip", "x-request-id"])
def test_this_machines_token_reads_and_a_proxy_of_it_does_not(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    """Without other tokens this machine's token reads and changes nothing; through a proxy it is invalid."""
    monkeypatch.chdir(tmp_path)
    with Served(None, interactions=None) as served:
        assert served.client().get("/api/me").status_code == 401
        client = served.here()
        assert client.get("/api/me").json()["roles"] == ["viewer"]
        assert client.get("/api/me", headers={header: "for=203.0.113.9"}).status_code == 401
        assert client.get("/api/me", headers={"host": "rebound.example"}).status_code == 401
        trace = served.trace()
        served.record(at_work("mine", trace=trace))
        refused = client.post(f"/api/tasks/{trace:032x}/cancel", headers={"origin": served.url})
        assert (refused.status_code, reason_of(refused.json())) == (403, "refused")


def test_a_plain_proxy_lets_no_remote_caller_in(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain nginx proxy passes nobody: its requests carry the upstream's name and no other header."""
    monkeypatch.chdir(tmp_path)
    with Served(None, interactions=None, api={"local_roles": ["operator", "approver"]}) as served:
        host = served.url.removeprefix("http://")
        token = f"authorization: Bearer {served.gateway.local_token}\r\n"
        said = [
            _first_line(served.url, f"GET /api/me HTTP/{version}\r\nhost: {host}\r\n{more}connection: close\r\n\r\n")
            for version, more in (("1.0", ""), ("1.1", ""), ("1.0", token), ("1.1", token))
        ]
        assert said == ["401", "401", "401", "200"]


def test_this_machine_may_be_turned_off(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `api.local = false` this machine has no token, and no caller reads."""
    monkeypatch.chdir(tmp_path)
    with Served(None, interactions=None, api={"local": False}) as served:
        assert served.gateway.local_token == ""
        assert served.client().get("/api/me").status_code == 401
        assert served.client("spt_guessed").get("/api/me").status_code == 401


def _first_line(url: str, request: str) -> str:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request.encode())
        return connection.recv(100).split()[1].decode()
