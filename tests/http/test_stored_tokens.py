"""Access tokens of the database, as one process knows them: scopes, expiry, trust, last use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spanpost.http.bearer import digest_of
from spanpost.http.stored_tokens import StoredTokens, TokenRefused
from spanpost.http.tokens import SenderTokens, hash_of
from spanpost.interactions.authorization import CallerRole
from spanpost.model.access_tokens import OF_CALLERS, AccessToken, TokenScope, TokenState, ending
from spanpost.model.errors import StoreUnavailable
from spanpost.runtime.access_tokens import TokenReader
from spanpost.store.memory_access_tokens import MemoryAccessTokens
from tests.http.claims import tenant_of

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
TRUST = 300.0


class Clock:
    """One clock, as a time and as seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def a_token(secret: str, *scopes: str, tenant: str | None = "acme", **more: datetime | None) -> AccessToken:
    return AccessToken(
        id=uuid4(), name=secret, tenant=tenant, scopes=frozenset(scopes), digest=digest_of(secret), made_by="me",
        made_at=NOW, **more,
    )  # fmt: skip


def known(*tokens: AccessToken) -> tuple[StoredTokens, Clock]:
    clock = Clock()
    stored = StoredTokens(TRUST, clock=clock, monotonic=clock.monotonic)
    stored.take(TokenState("1", tokens, is_closed=bool(tokens)))
    return stored, clock


def test_a_token_does_what_its_scopes_say_and_no_more() -> None:
    """Each scope opens its own endpoints: any other use of a valid token is refused by name, with 403."""
    secrets = {scope: f"spt_{scope}" for scope in TokenScope}
    stored, _ = known(
        *(
            a_token(secret, scope, tenant=None if scope in (TokenScope.METRICS, TokenScope.ROUTE) else "acme")
            for scope, secret in secrets.items()
        )
    )
    senders = SenderTokens("default", stored=stored)
    for needed in (TokenScope.SEND, TokenScope.CONTROL, TokenScope.ALERTS):
        for has, secret in secrets.items():
            if has is needed:
                assert tenant_of(senders, f"Bearer {secret}", scope=needed) == "acme"
                continue
            with pytest.raises(TokenRefused) as caught:
                tenant_of(senders, f"Bearer {secret}", scope=needed)
            assert (caught.value.status, caught.value.reason) == (403, "scope")
    assert [has for has, secret in secrets.items() if senders.is_operator(f"Bearer {secret}")] == ["metrics"]
    assert not senders.is_operator("Bearer spt_metrics", reads=False)
    assert tenant_of(senders, "Bearer spt_route", "other") == "other"
    for has in (TokenScope.SEND, TokenScope.METRICS, TokenScope.AUDITOR):
        with pytest.raises(TokenRefused):
            tenant_of(senders, f"Bearer spt_{has}", "other")


@pytest.mark.proves("proven-tenant", "wrong-token")
def test_expired_unknown_and_odd_tokens_are_unknown() -> None:
    """An expired token counts from its time on; unknown, long and foreign texts are never found."""
    stored, clock = known(a_token("spt_short", "send", expires_at=NOW + timedelta(seconds=1010)))
    assert stored.find("spt_short") is not None
    clock.seconds += 10
    assert stored.find("spt_short") is None
    for text in ("", "spt_", "spt_other", "spt_" + "x" * 10_000, "other", "spt_\udcff"):
        assert stored.find(text) is None


@pytest.mark.proves("revoked")
def test_cached_tokens_are_trusted_for_a_while_and_then_refused() -> None:
    """Without the database a cached token is valid for `trust_tokens`; then it is answered 503, as is an unknown
    one, while tokens of the settings go on.
    """
    stored, clock = known(a_token("spt_cached", "send"))
    senders = SenderTokens("default", [("own", hash_of("spt_settings"))], stored=stored)
    clock.seconds += TRUST
    assert tenant_of(senders, "Bearer spt_cached") == "acme"
    clock.seconds += 1
    for token in ("spt_cached", "spt_unknown"):
        with pytest.raises(TokenRefused) as caught:
            tenant_of(senders, f"Bearer {token}")
        assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert tenant_of(senders, "Bearer spt_settings") == "own"
    stored.take(None)
    assert tenant_of(senders, "Bearer spt_cached") == "acme"


def test_a_gateway_closes_with_its_first_token_and_before_the_first_read() -> None:
    """Without tokens a sender is the default tenant; never before the database was read, and never once it had a
    sender's token, revoked or not.
    """
    clock = Clock()
    stored = StoredTokens(TRUST, clock=clock, monotonic=clock.monotonic)
    senders = SenderTokens("default", stored=stored)
    with pytest.raises(TokenRefused):
        tenant_of(senders, None)
    stored.take(TokenState("1"))
    assert tenant_of(senders, None) == "default"
    stored.take(TokenState("2", is_closed=True))
    assert tenant_of(senders, None) is None
    assert not senders.is_operator(None)
    assert tenant_of(SenderTokens("default", is_required=True), None) is None


async def test_a_use_is_saved_at_most_once_a_minute() -> None:
    """A thousand requests of one token are one write a minute, with the last time."""
    clock, rows, writes = Clock(), MemoryAccessTokens(), []
    rows.rows = [a_token("spt_busy", "send")]
    stored = StoredTokens(clock=clock, monotonic=clock.monotonic)
    reader = TokenReader(rows, stored, lambda: None, monotonic=clock.monotonic)
    await reader.read()
    for second in range(130):
        clock.seconds = 1000.0 + second
        for _ in range(10):
            stored.find("spt_busy")
        before = rows.rows
        await reader.save()
        writes += [second] if rows.rows is not before and rows.rows != before else []
    assert writes == [0, 60, 120]
    await reader.save(is_last=True)
    assert rows.rows[0].used_at == clock()


async def test_an_expired_token_ends_what_it_began() -> None:
    """Streams and waits check their token at the next read after it has expired, though the database is unchanged."""
    clock, rows = Clock(), MemoryAccessTokens()
    rows.rows = [a_token("spt_short", "viewer", expires_at=NOW + timedelta(seconds=1010))]
    stored = StoredTokens(TRUST, clock=clock, monotonic=clock.monotonic)
    calls: list[bool] = []
    reader = TokenReader(rows, stored, lambda: calls.append(stored.find("spt_short") is not None))
    await reader.read()
    waiting = asyncio.create_task(stored.change())
    await asyncio.sleep(0)
    await reader.read()
    assert (calls, waiting.done()) == ([True], False)
    clock.seconds += 10
    await reader.read()
    assert calls == [True, False]
    await waiting


async def test_an_outage_is_noticed_by_those_who_wait() -> None:
    """When cached tokens are no longer trusted, streams and waits check their token again, and find it invalid."""
    stored, clock = known(a_token("spt_one", "viewer"))
    found = stored.find("spt_one")
    assert found is not None
    seen: list[bool] = []

    class Away(MemoryAccessTokens):
        async def state(self, seen: str = "") -> TokenState | None:
            raise StoreUnavailable("away")

    reader = TokenReader(Away(), stored, lambda: seen.append(stored.is_valid(found.id)), monotonic=clock.monotonic)
    await reader.read()
    assert seen == []
    clock.seconds += TRUST + 1
    await reader.read()
    assert seen == [False]


def test_every_role_is_a_scope() -> None:
    """The scopes of the API are the roles that the rules know."""
    assert {str(role) for role in CallerRole} == {str(scope) for scope in OF_CALLERS}


def test_which_names_end_soon() -> None:
    """A name ends with its newest token: within two weeks before and after that it is reported, unless revoked."""
    days = {"soon": 10, "late": 15, "over": -10, "long over": -15, "never": None, "rotated": 1, "revoked": 1}
    ends = {name: NOW + timedelta(days=in_days) if in_days is not None else None for name, in_days in days.items()}
    tokens = [a_token(name, "send", expires_at=until) for name, until in ends.items() if name != "revoked"]
    tokens.append(a_token("rotated", "send", expires_at=NOW + timedelta(days=90)))
    tokens.append(a_token("revoked", "send", expires_at=ends["revoked"], revoked_at=NOW))
    assert [token.name for token in ending(tokens, NOW)] == ["over", "soon"]
    assert ending(reversed(tokens), NOW) == ending(tokens, NOW)
