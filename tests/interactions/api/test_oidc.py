"""Logins with a lying provider: which answers `Oidc` accepts, and its refusals of the rest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import RSAKey

from spanpost.http.errors import HttpError
from spanpost.interactions.api.callers import Caller
from spanpost.interactions.api.login import _own
from spanpost.interactions.api.oidc import Oidc, basic_of
from spanpost.interactions.api.oidc_terms import OidcTerms
from spanpost.interactions.api.sessions import Sessions
from spanpost.store.memory import MemoryStore
from tests.interactions.api.provider import Provider
from tests.thorough import thorough

HOME = "https://tasks.example"
ANN = {"sub": "u1", "name": "Ann", "email": "ann@example.com", "email_verified": True, "groups": ["sre"], "org": "acme"}
TERMS = OidcTerms(
    issuer="https://id.example",
    client_id="spanpost",
    public_url=HOME,
    scopes=("openid", "email"),
    roles={"sre": ("viewer", "approver"), "boss": ("operator",)},
)


@pytest.fixture(scope="module")
def one() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def provider(one: Provider) -> Provider:
    one.claims, one.lies, one.forged, one.token = dict(ANN), {}, None, None
    one.published, one.metadata, one.userinfo = None, {}, None
    one.shown.clear()
    return one


def client_of(provider: Provider, **terms: Any) -> Oidc:
    sessions = Sessions(MemoryStore().sessions, 60)
    secret = Provider.client_secret
    return Oidc(replace(TERMS, issuer=provider.url, **terms), sessions, tenant="default", client_secret=secret)


async def code_for(oidc: Oidc, then: str = "/") -> tuple[str, str, str]:
    """Begin a login and consent; return code, state and the cookie."""
    url, cookie = await oidc.begin(then)
    async with httpx.AsyncClient(verify=False) as browser:
        answer = await browser.get(url)
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    return back["code"][0], back["state"][0], cookie


async def login(oidc: Oidc) -> Caller:
    return (await oidc.finish(*await code_for(oidc)))[0]


async def refused(oidc: Oidc) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        await login(oidc)
    assert Provider.client_secret not in caught.value.message
    return caught.value.status_code, caught.value.message


def written(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Return the signed part of a token."""
    return ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_login_asks_for_code_and_proof(provider: Provider) -> None:
    """The browser is redirected with a new state, nonce and challenge each time, and without the secret."""
    oidc = client_of(provider)
    first, second = [parse_qs(urlsplit((await oidc.begin("/"))[0]).query) for _ in range(2)]
    assert (first["response_type"], first["code_challenge_method"], first["scope"]) == (
        ["code"],
        ["S256"],
        ["openid email"],
    )
    assert first["redirect_uri"] == [f"{HOME}/api/login/callback"]
    assert not any(first[name] == second[name] for name in ("state", "nonce", "code_challenge"))
    assert Provider.client_secret not in str(first)


async def test_a_provider_whose_address_has_a_query_is_asked_there(provider: Provider) -> None:
    """An authorization endpoint with a query of its own keeps it."""
    provider.metadata = {"authorization_endpoint": f"{provider.url}/authorize?realm=acme"}
    asked = parse_qs(urlsplit((await client_of(provider).begin("/"))[0]).query)
    assert (asked["realm"], asked["client_id"]) == (["acme"], ["spanpost"])


async def test_a_person_is_who_the_provider_says(provider: Provider) -> None:
    """Id, name, verified address and roles come from the signed token, and the login returns to its page."""
    oidc = client_of(provider)
    person, then = await oidc.finish(*await code_for(oidc, "/tasks/7"))
    assert (person.provider, person.id, person.name, person.email, person.tenant) == (
        "oidc",
        "u1",
        "Ann",
        "ann@example.com",
        "default",
    )
    assert (person.roles, then) == ({"viewer", "approver"}, "/tasks/7")


OTHER = RSAKey.generate_key(2048, {"kid": "k1"})
OURS: dict[str, Any] = {"alg": "RS256", "kid": "k1"}


def of_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    """Sign with a public value: HS256, with the public key as the secret (the confusion of algorithms)."""
    text = written({"alg": "HS256", "kid": "k1"}, claims)
    signature = hmac.digest(provider.key.as_pem(private=False), text.encode(), hashlib.sha256)
    return f"{text}.{base64url(signature)}"


def changed(provider: Provider, claims: dict[str, Any]) -> str:
    """Put other claims under a signature of the original ones."""
    signature = jwt.encode(OURS, claims, provider.key).rpartition(".")[2]
    return f"{written(OURS, claims | {'sub': 'root'})}.{signature}"


#: ID tokens that no key of the provider signed, made of correct claims.
FORGED = {
    "no signature": lambda provider, claims: f"{written({'alg': 'none'}, claims)}.",
    "a signature with the public key": of_public_key,
    "another's signature": lambda provider, claims: jwt.encode(OURS, claims, OTHER),
    "another's key within": lambda provider, claims: jwt.encode(
        OURS | {"jwk": OTHER.as_dict(private=False)}, claims, OTHER
    ),
    "changed claims": changed,
    "no token": lambda provider, claims: "not.a.token",
    "two dots": lambda provider, claims: "..",
}


@pytest.mark.slow
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_token_that_the_provider_did_not_sign(provider: Provider, forge: Any) -> None:
    """Any token without a signature by one of the provider's keys is refused."""
    provider.token = lambda claims: forge(provider, claims)
    status, said = await refused(client_of(provider))
    assert (status, "is not valid" in said) == (403, True)


#: Claims under a good signature that belong to another client, login or time; None: missing.
NOT_FOR_US = {
    "another issuer": {"iss": "https://evil.example"},
    "no issuer": {"iss": None},
    "another client": {"aud": "another"},
    "nobody's": {"aud": None},
    "several, asked for by another": {"aud": ["spanpost", "another"], "azp": "another"},
    "several, asked for by nobody": {"aud": ["spanpost", "another"]},
    "another login": {"nonce": "of-another-login"},
    "no login": {"nonce": None},
    "of long ago": {"exp": 1_000_000_000},
    "for ever": {"exp": None},
    "a time that is none": {"exp": "tomorrow"},
    "not yet": {"nbf": 99_999_999_999},
    "nobody": {"sub": None},
    "an empty name": {"sub": ""},
}


@pytest.mark.slow
@pytest.mark.parametrize("lies", NOT_FOR_US.values(), ids=NOT_FOR_US)
async def test_a_token_that_is_not_for_this_login(provider: Provider, lies: dict[str, Any]) -> None:
    """A token that the provider signed for another client, login, time or issuer is refused."""
    provider.token = lambda claims: jwt.encode(
        OURS,
        {name: value for name, value in (claims | lies).items() if value is not None},
        provider.key,
    )
    status, said = await refused(client_of(provider))
    assert (status, "for another client or another time" in said or "is for several" in said) == (403, True)


async def test_a_token_for_several_that_we_asked_for(provider: Provider) -> None:
    """A token for several clients counts if it names us as the requester."""
    provider.lies = {"aud": ["another", "spanpost"], "azp": "spanpost"}
    assert (await login(client_of(provider))).id == "u1"


#: Broken answers of a provider, and the word that reports each.
BROKEN = {
    "no keys": ({"published": {"keys": []}}, 503, "keys"),
    "keys of no form": ({"published": {}}, 503, "keys"),
    "keys that are a text": ({"published": {"keys": "k1"}}, 503, "keys"),
    "a key without its parts": ({"published": {"keys": [{"kty": "RSA", "kid": "k1"}]}}, 503, "keys"),
    "a key of an unknown kind": ({"published": {"keys": [{"kty": "??"}]}}, 503, "keys"),
    "keys that are numbers": ({"published": {"keys": [7]}}, 503, "keys"),
    "keys as a list": ({"published": []}, 503, "something else than JSON objects"),
    "no ID token": ({"token": 7}, 503, "no ID token"),
    "another issuer": ({"metadata": {"issuer": "https://evil.example"}}, 503, "oidc.issuer"),
    "no token endpoint": ({"metadata": {"token_endpoint": None}}, 503, "oidc.issuer"),
    "a token endpoint that is no address": (
        {"metadata": {"token_endpoint": "http://[::1/t"}},
        503,
        "cannot be reached",
    ),
    "a page that is not there": ({"metadata": {"jwks_uri": "/nowhere"}}, 503, "cannot be reached"),
    "userinfo of another person": (
        {"userinfo": {"sub": "u2", "groups": ["boss"]}, "claims": {"sub": "u1"}},
        403,
        "another person",
    ),
    "userinfo of nobody": ({"userinfo": {"groups": ["boss"]}, "claims": {"sub": "u1"}}, 403, "another person"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("given", "status", "word"), BROKEN.values(), ids=BROKEN)
async def test_a_provider_that_is_broken(provider: Provider, given: dict[str, Any], status: int, word: str) -> None:
    """Any broken answer of a provider is a refusal that names the fault, and no error of ours."""
    for name, value in given.items():
        setattr(provider, name, value)
    found_status, said = await refused(client_of(provider))
    assert (found_status, word in said) == (status, True), said


async def test_a_key_that_was_replaced(provider: Provider) -> None:
    """After the provider replaced its key the next login fetches the new one and succeeds."""
    oidc = client_of(provider)
    await login(oidc)
    provider.published, provider.forged = {"keys": [OTHER.as_dict(private=False)]}, OTHER
    assert (await login(oidc)).id == "u1"
    provider.forged = None
    assert (await refused(oidc))[0] == 403


async def test_a_code_is_of_one_login(provider: Provider) -> None:
    """A code with another login's cookie, another state, no cookie, or used twice is refused."""
    oidc = client_of(provider)
    code, state, cookie = await code_for(oidc)
    _, other_state, other_cookie = await code_for(oidc)
    strange = await client_of(provider).begin("/")
    for wrong in (
        (code, state, None),
        (code, state, ""),
        (code, other_state, cookie),
        (code, "", cookie),
        (code, "é", cookie),
        (code, state, f"{cookie}x"),
        (code, state, strange[1]),  # signed by another gateway's secret
        (code, other_state, other_cookie),  # the state fits, and the proof does not
    ):
        with pytest.raises(HttpError) as caught:
            await oidc.finish(*wrong)
        assert caught.value.status_code == 403
    with pytest.raises(HttpError, match="used before") as caught:  # it was spent by the attempt with another's proof
        await oidc.finish(code, state, cookie)
    assert caught.value.status_code == 403


async def test_what_the_token_does_not_say_is_asked(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """Groups and names that only userinfo has count; the token's own claims are not replaced."""
    provider.claims = {"sub": "u1", "name": "Ann"}
    provider.userinfo = {"sub": "u1", "name": "Root", "groups": ["boss"], "email": "a@b.c", "email_verified": True}
    person = await login(client_of(provider))
    assert (person.name, person.roles, person.email) == ("Ann", {"operator"}, "a@b.c")
    assert provider.shown == ["Bearer the-access-token"]
    provider.userinfo = ["no object"]
    provider.claims = {"sub": "u1", "groups": ["sre"]}
    with caplog.at_level(logging.WARNING):
        assert (await login(client_of(provider))).roles == {"viewer", "approver"}
    assert "only the ID token's claims count" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_is_not_verified_is_none(provider: Provider, verified: Any) -> None:
    """An address counts with `email_verified` true beside it, whatever userinfo says about another one."""
    provider.claims = {"sub": "u1", "groups": ["sre"], "email": "boss@example.com"}
    if verified is not None:
        provider.claims["email_verified"] = verified
    provider.userinfo = {"sub": "u1", "name": "Ann", "email": "own@example.com", "email_verified": True}
    assert (await login(client_of(provider))).email == ""


CLAIMS = {
    "one word": ({"groups": "boss"}, {"operator"}),
    "several words": ({"groups": ["sre", "boss"]}, {"viewer", "approver", "operator"}),
    "words that mean nothing": ({"groups": ["sre", "admins", ""]}, {"viewer", "approver"}),
    "other things than words": ({"groups": ["sre", 7, None, ["boss"], {"boss": 1}]}, {"viewer", "approver"}),
}


@pytest.mark.parametrize(("claims", "roles"), CLAIMS.values(), ids=CLAIMS)
def test_roles_of_claims(provider: Provider, claims: dict[str, Any], roles: set[str]) -> None:
    """Words of the roles claim have the roles of the settings, and nothing else in it has any."""
    assert client_of(provider).person_of({"sub": "u1"} | claims).roles == roles


@pytest.mark.parametrize("groups", [None, [], "sre,boss", {"boss": True}, 7, ["SRE"], [["boss"]], "operator"])
def test_no_role_is_no_entry(provider: Provider, groups: Any) -> None:
    """Without a word that has a role nobody gets in, even with the name of a role."""
    with pytest.raises(HttpError) as caught:
        client_of(provider).person_of({"sub": "u1", "name": "Ann", "groups": groups})
    assert (caught.value.status_code, "Ann has no role here" in caught.value.message) == (403, True)


@pytest.mark.parametrize("tenant", [None, "", 7, ["acme"], {"acme": 1}])
def test_no_tenant_is_no_entry(provider: Provider, tenant: Any) -> None:
    """With a tenant claim in the settings, a person without one gets in nowhere, not into the default
    either.
    """
    with pytest.raises(HttpError) as caught:
        client_of(provider, tenant_claim="org").person_of({"sub": "u1", "groups": ["sre"], "org": tenant})
    assert (caught.value.status_code, caught.value.reason) == (403, "no_tenant")


@thorough(200)
@given(st.text(max_size=40))
@example("//evil.example")
@example("/\\evil.example")
@example("/\t/evil.example")
@example("https://evil.example")
@example("javascript:alert(1)")
@example("/a//b?next=//evil.example#x")
def test_one_goes_to_this_host_alone(path: str) -> None:
    """Any requested redirect stays on this host, and the header is one line."""
    where = _own(path)
    assert urlsplit(urljoin(f"{HOME}/api/login", where))[:2] == ("https", "tasks.example")
    assert where.isprintable()
    assert where in (path, "/")


def test_a_secret_in_a_header_is_quoted_first() -> None:
    """Id and secret are quoted as forms are (RFC 6749, 2.3.1), so that a colon in either changes neither."""
    kind, _, text = basic_of("a:b", "s c:ü").partition(" ")
    assert (kind, base64.b64decode(text)) == ("Basic", b"a%3Ab:s+c%3A%C3%BC")
