"""Logins at a third-party OpenID Connect provider that changes while the gateway runs: its keys, clock and groups."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.eventually import free_port
from tests.interactions.api.served import Served
from tests.interactions.genuine_provider import GenuineProvider

pytestmark = [pytest.mark.acceptance, pytest.mark.needs("oidc-provider", "node")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, GenuineProvider]]:
    """A gateway, in memory, with logins at the provider."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with GenuineProvider(url) as provider, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("house"))
        oidc = {
            "issuer": provider.url, "client_id": "spanpost", "client_secret": "s3cret-of-the-client",
            "public_url": url, "scopes": ["openid", "email", "profile", "groups"], "roles": {"sre": ["viewer"]},
        }  # fmt: skip
        with Served(None, gateway={"http_port": port, "grpc_port": -1}, oidc=oidc) as made:
            yield made, provider


def log_in(app: Served, client: httpx.Client, name: str = "ann") -> httpx.Response:
    """Log in by the provider's pages; return where the login ended."""
    page = client.get(f"{app.url}/api/login?next=/api/me")
    while (form := re.search(r'action="([^"]+/interaction/[^"]+)"', page.text)) is not None:
        prompt = re.search(r'name="prompt" value="(\w+)"', page.text)
        assert prompt is not None
        page = client.post(form[1], data={"prompt": prompt[1], "login": name, "password": "any"})
    return page


def new_client() -> httpx.Client:
    return httpx.Client(follow_redirects=True, timeout=60, headers={"accept": "application/json, text/html;q=0.5"})


def a_login(app: Served, name: str = "ann") -> tuple[int, str]:
    """Log in with a new browser profile; return the status, and the name or the reason of the refusal."""
    with new_client() as client:
        answer = log_in(app, client, name)
    said = re.search(r"<p>(.*?)</p>", answer.text)
    return answer.status_code, said[1] if said is not None else answer.json()["name"]


def test_the_provider_replaces_its_key(served: tuple[Served, GenuineProvider]) -> None:
    """A login after the rotation works at once, and so does the next; the cached key was the old one."""
    app, provider = served
    assert a_login(app) == (200, "Ann")
    provider.tell("rotate")
    assert [a_login(app), a_login(app)] == [(200, "Ann")] * 2


@pytest.mark.parametrize(("seconds", "status"), [(59, 200), (-59, 200), (600, 403), (-400, 403)])
def test_the_providers_clock_is_wrong(served: tuple[Served, GenuineProvider], seconds: int, status: int) -> None:
    """A minute in either direction is borne; a token of the future, and one that has expired, are refused."""
    app, provider = served
    provider.tell(f"skew {seconds}")
    try:
        found = a_login(app)
    finally:
        provider.tell("skew 0")
    assert found[0] == status, found
    if status == 403:
        assert "another client or another time" in found[1]


def test_a_lost_role_ends_with_the_session(served: tuple[Served, GenuineProvider]) -> None:
    """Who lost the group at the provider keeps the session that runs, and gets no new one."""
    app, provider = served
    with new_client() as client:
        assert log_in(app, client).status_code == 200
        provider.tell("groups ann guests")
        try:
            assert client.get(f"{app.url}/api/me").json()["roles"] == ["viewer"]
            status, said = a_login(app)
        finally:
            provider.tell("groups ann sre")
    assert (status, "Ann has no role here" in said) == (403, True)
