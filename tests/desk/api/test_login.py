"""People log in at a real, small OpenID Connect provider; and what forgers and pages of elsewhere come to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from joserfc.jwk import RSAKey

from spanpost.desk.api.callers import Caller
from spanpost.desk.api.sessions import COOKIE, Sessions
from spanpost.testing.exercise_people import asking, at_work
from tests.desk.api.provider import Provider
from tests.desk.api.served import Served, streamed


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def house(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway where people log in. It keeps what it records in memory: no database is asked."""
    oidc = {
        "issuer": provider.url,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "public_url": "http://127.0.0.1:1",
        "roles": {"sre": ["viewer", "approver"], "boss": ["operator"]},
        "tenant_claim": "org",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("house"))
        made = Served(None, oidc=oidc)
    with made:
        # Where it listens is known now.
        door = next(door for door in made.gateway._doors._doors if door.prefix == "/api/")
        settings = made.gateway.settings.model_copy(
            update={"oidc": made.gateway.settings.oidc.model_copy(update={"public_url": made.url})}
        )
        door.reload(settings)
        yield made


@pytest.fixture(autouse=True)
def _ann(provider: Provider) -> None:
    provider.claims = {
        "sub": "u1", "name": "Ann", "email": "ann@example.com", "email_verified": True, "groups": ["sre"], "org": "default",
    }  # fmt: skip
    provider.lies, provider.forged = {}, None


def logged_in(house: Served, path: str = "/api/login?next=/api/me") -> tuple[httpx.Client, httpx.Response]:
    client = httpx.Client(base_url=house.url, follow_redirects=True, timeout=20)
    return client, client.get(path)


def test_somebody_logs_in(house: Served) -> None:
    """By code and PKCE somebody comes back as who the provider says, to where they wanted to go; scripts cannot read the cookie."""
    client, answer = logged_in(house)
    assert answer.json() == {
        "name": "Ann", "provider": "oidc", "email": "ann@example.com", "tenant": "default", "roles": ["approver", "viewer"],
    }  # fmt: skip
    set_cookie = answer.history[-1].headers["set-cookie"]
    assert "HttpOnly" in set_cookie
    assert "SameSite=lax" in set_cookie
    assert client.post("/api/logout", headers={"origin": house.url}).status_code == 204
    assert client.get("/api/me").status_code == 401


def test_a_person_decides_from_our_own_pages_alone(house: Served) -> None:
    """With a session a decision counts, in the person's name, if it comes from our own origin, and not otherwise."""
    trace = house.trace()
    house.record(at_work("asks", trace=trace), asking("login-q", trace=trace))
    client, _ = logged_in(house)
    path, body = "/api/approvals/login-q/decision", {"decision": "approve"}
    for origin in (None, "null", "http://evil.example", house.url.replace("http", "https") + ".evil.example", "http://127.0.0.1:1"):
        refused = client.post(path, json=body, headers={"origin": origin} if origin else {})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin"), origin
    assert client.post(path, json=body, headers={"origin": house.url}).json()["by"] == "Ann"
    [told] = client.get("/api/approvals").json()["items"]
    assert (told["decision"], told["source"]) == ("approve", "oidc")


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
def test_tokens_that_are_not_for_us(house: Served, provider: Provider, lies: dict[str, Any]) -> None:
    """An ID token for another, of another, of another login or of the past lets nobody in."""
    provider.lies = lies
    client, answer = logged_in(house)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "login_failed")
    assert client.get("/api/me").status_code == 401


def test_a_forged_token(house: Served, provider: Provider) -> None:
    """A token that another key signed is not believed; one of a key that was replaced since is."""
    provider.forged = RSAKey.generate_key(2048, {"kid": "k1"})
    assert logged_in(house)[1].status_code == 403
    provider.forged, provider.key = None, RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
    assert logged_in(house)[1].status_code == 200


def test_a_login_that_was_not_begun_here(house: Served, provider: Provider) -> None:
    """A code without the cookie of its login, or with another's state, is not taken: nobody is logged in as somebody else."""
    client = httpx.Client(base_url=house.url, timeout=20)
    begun = client.get("/api/login")
    there = httpx.get(begun.headers["location"]).headers["location"]
    stranger = httpx.Client(timeout=20)
    assert stranger.get(there).status_code == 403
    assert client.get(there.partition("state=")[0] + "state=other").status_code == 403
    assert client.get("/api/login/callback?error=access_denied").json()["error"]["message"].endswith("(access_denied)")


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/ä"])
def test_nobody_is_sent_elsewhere(house: Served, next: str) -> None:
    """After the login one goes to a path of ours, whatever was asked for."""
    client = httpx.Client(base_url=house.url, timeout=20)
    there = httpx.get(client.get("/api/login", params={"next": next}).headers["location"]).headers["location"]
    assert client.get(there).headers["location"] == "/"


def test_who_has_no_role_or_tenant(house: Served, provider: Provider) -> None:
    """Who has no group that means anything here, or no tenant, may nothing; an address that is not confirmed is none."""
    provider.claims["groups"] = ["guests"]
    assert logged_in(house)[1].json()["error"]["code"] == "no_role"
    provider.claims |= {"groups": ["sre"], "org": None}
    assert logged_in(house)[1].json()["error"]["code"] == "no_tenant"
    provider.claims |= {"groups": "boss", "org": "other", "email_verified": False}
    assert logged_in(house)[1].json() == {
        "name": "Ann",
        "provider": "oidc",
        "email": None,
        "tenant": "other",
        "roles": ["operator"],
    }


def test_a_rebound_name_is_refused(house: Served) -> None:
    """With a session, a name that somebody else's DNS leads here is refused; so is beginning a login under it."""
    client, _ = logged_in(house)
    for path in ("/api/me", "/api/login"):
        answer = client.get(path, headers={"host": "rebound.example"}, follow_redirects=False)
        assert answer.json()["error"]["code"] == "unknown_host"


def test_a_stream_ends_with_its_session(house: Served) -> None:
    """What somebody follows goes on as long as their session does, and no longer: then they are asked who they are. Four seconds."""
    room = house.gateway.settings.oidc
    assert room is not None
    ann = Caller(provider="oidc", id="u1", name="Ann", tenant="default", roles=frozenset({"viewer"}))
    client = house.client(cookie=f"{COOKIE}={Sessions(room.secret, 4).begin(ann)}")
    with streamed(client) as events:
        assert [event["event"] for event in events if "event" in event][:1] == ["hello"]
    assert client.get("/api/me").status_code == 401


def test_what_a_provider_answers_instead(house: Served, provider: Provider) -> None:
    """A provider that does not know us is told with the settings to check, in a page where a browser asks; never with the secret."""
    provider.client_secret = "another"
    try:
        client = httpx.Client(base_url=house.url, follow_redirects=True, timeout=20, headers={"accept": "text/html"})
        answer = client.get("/api/login")
    finally:
        del provider.client_secret
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "check oidc.client_id and oidc.client_secret" in answer.text
    assert "s3cret" not in answer.text
    evil = client.get("/api/login/callback", params={"error": "<script>alert(1)</script>"})
    assert "<script>" not in evil.text
    assert "default-src 'none'" in evil.headers["content-security-policy"]


def test_sessions_end_and_cannot_be_made() -> None:
    """A session holds for its time; one of another secret, of another purpose, changed or cut is nobody's."""
    now = [1000.0]
    sessions = Sessions(b"secret", 60, clock=lambda: now[0])
    ann = Caller(provider="oidc", id="u1", name="Ann", tenant="default", roles=frozenset({"viewer"}))
    cookie = sessions.begin(ann)
    assert sessions.find(cookie) == msgspec.structs.replace(ann, until=1060.0)
    body, _, seal = cookie.partition(".")
    for bad in ("", "x", ".", cookie[:-1], cookie + "x", f"{body}x.{seal}", f"{body}.", "é" + cookie, "x" * 10_000, None):
        assert sessions.find(bad) is None
    assert Sessions(b"other", 60, clock=lambda: now[0]).find(cookie) is None
    now[0] += 61
    assert sessions.find(cookie) is None


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
def test_this_machine_may_look_and_a_proxy_of_it_not(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    """Where nobody is asked for a token, this machine sees its tasks and acts on none; what a proxy brings is from elsewhere."""
    monkeypatch.chdir(tmp_path)
    with Served(None, desk=None) as served:
        client = served.client()
        assert client.get("/api/me").json()["roles"] == ["viewer"]
        assert client.get("/api/me", headers={header: "for=203.0.113.9"}).status_code == 401
        assert client.get("/api/me", headers={"host": "rebound.example"}).status_code == 403
        trace = served.trace()
        served.record(at_work("mine", trace=trace))
        refused = client.post(f"/api/tasks/{trace:032x}/cancel", headers={"origin": served.url})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "refused")
