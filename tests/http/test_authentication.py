"""Whose a request is: decided by one credential, in one place."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from spanpost.http.authentication import Authenticator, authorization_of, bearer_of_basic, caller_of
from spanpost.http.bearer import digest_of, holder_of
from spanpost.http.errors import HttpError
from spanpost.http.tenancy import RequestClaims, TenantGrant, TenantSources
from tests.thorough import thorough

MADE = "spt_3h7Qk2mZrX0uYc9bVnL5tGfW8aJdEs1oPqRiTyUxKlM"
TENANT, OPERATOR = "Bearer spt_tenant", "Bearer spt_operator"


class Tokens:
    """One tenant's token and one operator's; with `is_open` none is needed."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self.rules = TenantSources()

    def grant(self, claims: RequestClaims, scopes: object = ()) -> TenantGrant | None:
        if claims.authorization == TENANT:
            return TenantGrant("acme")
        return TenantGrant("default") if self.is_open and claims.authorization is None else None

    def is_operator(self, authorization: str | None, *, reads: bool = True, is_strict: bool = False) -> bool:
        return authorization == OPERATOR or self.is_open


class Callers:
    """A caller by token, another by session; `here` says whether the token was checked as this machine's."""

    way_in = "; ask for one"

    def __init__(self, person: str | None = None) -> None:
        self.person = person
        self.here: list[bool] = []

    async def of_token(self, token: str, *, is_this_machine: bool) -> str | None:
        self.here.append(is_this_machine)
        return "the token's" if token == "spt_known" else None

    async def of_session(self, request: Request) -> str | None:
        return self.person


def scope_of(*authorizations: str, query: str = "", method: str = "GET", **headers: str) -> dict[str, Any]:
    given = [(b"authorization", one.encode("latin-1")) for one in authorizations]
    given += [(name.encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": method,
        "path": "/api/tasks",
        "query_string": query.encode(),
        "headers": given,
        "client": ("127.0.0.1", 1),
    }


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode("latin-1")).decode()


@pytest.mark.proves("no-token-shown", "wrong-token")
@pytest.mark.parametrize(
    "query",
    [
        "token=x",
        "access_token=x",
        "accesstoken=x",
        "a=b&api_key=x",
        "APIKEY=x",
        "Authorization=x",
        "auth=x",
        "a&token=",
        "%74oken=x",
        "access-token=x",
        "x-api-key=x",
        "a;token=x",
        "bearer=x",
        f"q={MADE}",
        f"{MADE}=1",
        f"q=spt%5f{MADE[4:]}",
    ],
)
def test_a_token_in_the_url_is_refused(query: str) -> None:
    """A token in the URL is refused even beside a valid one, since logs contain URLs; the answer hides it."""
    for tokens in ((), (TENANT,)):
        with pytest.raises(HttpError) as caught:
            authorization_of(scope_of(*tokens, query=query))
        assert (caught.value.status_code, caught.value.reason) == (400, "token_in_url")
        assert "x" not in caught.value.message.replace("Bearer ...", "")


@pytest.mark.parametrize("query", ["", "q=token=x", "tokens=x", "my_token=x", "q=auth", "q=spt_short", f"q=not{MADE}"])
def test_other_words_in_the_url_are_none(query: str) -> None:
    """A query parameter that only resembles a token's name is like any other."""
    assert authorization_of(scope_of(TENANT, query=query)) == TENANT


@pytest.mark.proves("proven-tenant", "wrong-token")
def test_of_several_credentials_none_counts() -> None:
    """Two Authorization headers authenticate nothing: a proxy may have judged by the other one."""
    assert authorization_of(scope_of(TENANT, OPERATOR)) == ""
    for judge in (Authenticator(Tokens()).tenant, Authenticator(Tokens()).require_operator):
        with pytest.raises(HttpError) as caught:
            judge(scope_of(TENANT, TENANT))
        assert caught.value.status_code == 401


@pytest.mark.parametrize("given", [(), ("",), ("Bearer",), ("Bearer ",), ("Bearer spt_other",), ("spt_tenant",),
                                   ("Digest x",)])  # fmt: skip
def test_without_a_known_token_there_is_no_tenant(given: tuple[str, ...]) -> None:
    """A request without a known token has no tenant, and the answer says how to send one."""
    for judge in (Authenticator(Tokens()).tenant, Authenticator(Tokens()).tenant_or_operator):
        with pytest.raises(HttpError) as caught:
            judge(scope_of(*given))
        assert (caught.value.status_code, (caught.value.headers or {})["www-authenticate"]) == (401, "Bearer")


def test_tenants_and_operators_are_not_each_other() -> None:
    """A tenant's token is no operator's, and the reverse; the answer says which one to use."""
    one = Authenticator(Tokens())
    assert one.tenant(scope_of(TENANT)) == "acme"
    assert one.tenant_or_operator(scope_of(TENANT)) == ("acme", False)
    assert one.tenant_or_operator(scope_of(OPERATOR)) == (None, True)
    one.require_operator(scope_of(OPERATOR))
    with pytest.raises(HttpError) as caught:
        one.tenant(scope_of(OPERATOR))
    assert (caught.value.status_code, caught.value.reason, caught.value.outcome) == (403, "operator_token", "token")
    with pytest.raises(HttpError):
        one.require_operator(scope_of(TENANT))
    assert Authenticator(Tokens(is_open=True)).tenant(scope_of()) == "default"


def test_the_password_of_basic_is_a_token_where_that_is_said() -> None:
    """Webhook senders that only have Basic send the token as its password; elsewhere such a password is no
    token.
    """
    one = Authenticator(Tokens())
    assert one.tenant_or_operator(scope_of(basic("anybody", "spt_tenant"))) == ("acme", False)
    assert one.tenant_or_operator(scope_of(basic("", "spt_operator"))) == (None, True)
    with pytest.raises(HttpError):
        one.tenant(scope_of(basic("anybody", "spt_tenant")))


@pytest.mark.parametrize(
    "said", ["Basic", "Basic !", "Basic YQ", "Basic " + "=" * 9, basic("spt_tenant", ""), "basic é"]
)
def test_a_basic_that_is_none(said: str) -> None:
    """Basic without name and password, or with the token as the name, authenticates nothing."""
    with pytest.raises(HttpError) as caught:
        Authenticator(Tokens()).tenant_or_operator(scope_of(said))
    assert caught.value.status_code == 401


@pytest.mark.slow
@thorough(100)
@given(
    st.text(st.characters(codec="latin-1", exclude_characters=":"), max_size=20),
    st.text(st.characters(codec="latin-1"), max_size=40),
)
def test_any_password_of_basic_is_whole(user: str, password: str) -> None:
    """A password arrives as it was sent, with colons and spaces."""
    assert bearer_of_basic(basic(user, password)) == f"Bearer {password}"


async def test_a_token_goes_before_a_session() -> None:
    """An Authorization header alone decides: with an unknown token a valid session does not help."""
    known = Callers("the session's")
    assert await caller_of(Request(scope_of("bEaReR  spt_known")), known) == "the token's"
    for bad in ("Bearer spt_other", "", basic("a", "spt_known"), "spt_known"):
        with pytest.raises(HttpError, match="not known here; ask for one") as caught:
            await caller_of(Request(scope_of(bad)), known)
        assert caught.value.status_code == 401
    assert known.here == [False, False]  # a request that no guard has passed is never this machine's


async def test_a_session_changes_nothing_from_elsewhere() -> None:
    """A session may read; a change needs an Origin header that the guard has accepted."""
    known = Callers("the session's")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert await caller_of(Request(scope_of(method=method)), known) == "the session's"
    for method in ("POST", "PUT", "PATCH", "DELETE", "get"):
        with pytest.raises(HttpError) as caught:
            await caller_of(Request(scope_of(method=method)), known)
        assert (caught.value.status_code, caught.value.reason) == (403, "foreign_origin")
        allowed = Request(scope_of(method=method, origin="http://127.0.0.1:4318"))
        assert await caller_of(allowed, known) == "the session's"
    with pytest.raises(HttpError, match="a token is needed"):
        await caller_of(Request(scope_of()), Callers())


def test_tokens_are_compared_by_their_hashes() -> None:
    """Tokens are compared by SHA-256 alone; none, one of another case and a too long one are unknown."""
    known = [("one", digest_of("spt_1")), ("two", digest_of("spt_2")), ("two", digest_of("spt_ü"))]
    assert [holder_of(token, known) for token in ("spt_1", "spt_2", "spt_ü")] == ["one", "two", "two"]
    long = "x" * 1025
    for token in ("", " ", "SPT_1", "spt_1 ", digest_of("spt_1").hex(), long):
        assert holder_of(token, [*known, ("long", digest_of(long)), ("empty", digest_of(""))]) is None
