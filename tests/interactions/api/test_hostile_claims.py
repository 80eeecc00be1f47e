"""ID tokens that are signed by the provider's key, or nearly, and are still refused; and where roles stand."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc.jwk import RSAKey
from joserfc.jws import serialize_compact

from spanpost.http.errors import HttpError
from spanpost.interactions.api.claims import claim_of
from spanpost.interactions.api.oidc import Oidc
from spanpost.interactions.api.oidc_terms import OidcTerms
from spanpost.interactions.api.sessions import Sessions
from spanpost.store.memory import MemoryStore
from tests.interactions.api.provider import Provider

Makes = Callable[[Provider, dict[str, Any]], str]


def b64(text: str | bytes) -> str:
    return urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode().rstrip("=")


def signed(provider: Provider, payload: str, **header: Any) -> str:
    """Return what the provider's real key signed: any payload under any header."""
    whole = f"{b64(json.dumps({'alg': 'RS256', 'kid': 'k1', **header}))}.{b64(payload)}"
    return f"{whole}.{b64(provider.key.private_key.sign(whole.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def by_hmac(provider: Provider, claims: dict[str, Any]) -> str:
    whole = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}))}.{b64(json.dumps(claims))}"
    return f"{whole}.{b64(hmac.digest(provider.key.as_pem(private=False), whole.encode(), 'sha256'))}"


def header(**more: Any) -> Makes:
    return lambda provider, claims: signed(provider, json.dumps(claims), **more)


def claiming(**more: Any) -> Makes:
    return lambda provider, claims: signed(provider, json.dumps(claims | more))


def twice(provider: Provider, claims: dict[str, Any]) -> str:
    return signed(provider, json.dumps(claims)[:-1] + ', "groups": ["boss"]}')


def unsigned(provider: Provider, claims: dict[str, Any]) -> str:
    return f"{b64(json.dumps({'alg': 'none'}))}.{b64(json.dumps(claims))}."


def own_key(provider: Provider, claims: dict[str, Any]) -> str:
    key = RSAKey.generate_key(2048)
    given = {"alg": "RS256", "jwk": key.as_dict(private=False)}
    return serialize_compact(given, json.dumps(claims).encode(), key)


HOSTILE: dict[str, Makes] = {
    "alg none": unsigned,
    "HS256 with the public key": by_hmac,
    "a key of its own": own_key,
    "jku": header(jku="https://evil.example/keys"),
    "x5u": header(x5u="https://evil.example/chain"),
    "crit": header(crit=["exp"]),
    "an unknown kid": header(kid="../../etc/passwd"),
    "two groups": twice,
    "nested 100,000 deep": lambda provider, claims: signed(
        provider, json.dumps(claims)[:-1] + ', "x": ' + "[" * 20_000 + "]" * 20_000 + "}"
    ),
    "huge": claiming(x="x" * 100_000),
    "no object": lambda provider, claims: signed(provider, "[]"),
    "encrypted": lambda provider, claims: "a.b.c.d.e",
    "another audience": claiming(aud="somebody-else"),
    "another issuer": claiming(iss="https://evil.example"),
    "expired": claiming(exp=int(time.time()) - 3600),
    "not yet valid": claiming(nbf=int(time.time()) + 3600),
    "without an end": claiming(exp=None),
}


def finished(provider: Provider) -> Oidc:
    terms = OidcTerms(
        issuer=provider.url,
        client_id=provider.client_id,
        public_url="http://127.0.0.1:1",
        roles={"sre": ("viewer",), "boss": ("operator",)},
    )
    sessions = Sessions(MemoryStore().sessions, 60)
    return Oidc(terms, sessions, tenant="default", client_secret=provider.client_secret)


async def log_in(oidc: Oidc) -> frozenset[str]:
    url, cookie = await oidc.begin("/")
    async with httpx.AsyncClient() as client:
        there = httpx.URL((await client.get(url)).headers["location"])
    person, _ = await oidc.finish(there.params["code"], there.params["state"], cookie)
    return person.roles


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_logs_nobody_in(name: str) -> None:
    """The provider's answer holds a hostile token: the login is refused, while the same one well-formed passes."""
    with Provider() as provider:
        provider.claims["groups"] = ["sre"]
        assert await log_in(finished(provider)) == {"viewer"}
        provider.token = lambda claims: HOSTILE[name](provider, claims)
        with pytest.raises(HttpError) as caught:
            await log_in(finished(provider))
        assert (caught.value.status_code, caught.value.reason) == (403, "login_failed")


@pytest.mark.parametrize(
    ("claims", "path", "found"),
    [
        ({"groups": ["a"]}, "groups", ["a"]),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
        ({"https://example.com/groups": "a"}, "https://example.com/groups", "a"),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"realm_access": ["roles"]}, "realm_access.roles", None),
        ({}, "realm_access.roles", None),
    ],
)
def test_a_claim_is_found_by_its_path(claims: dict[str, Any], path: str, found: Any) -> None:
    """Roles and tenants may stand in nested objects; a path that leads nowhere gives none."""
    assert claim_of(claims, path) == found
