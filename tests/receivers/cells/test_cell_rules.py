"""The rules of cells without any connection: assignment, settings, the tenant that a router names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http import status
from spanpost.http.guard import AllowedRequest
from spanpost.http.hosts import host_of
from spanpost.http.tokens import SenderTokens, forwarded_tenant, hash_of
from spanpost.model.errors import ConfigError
from spanpost.receivers.cells.assignment import CellAssignment, of_host
from spanpost.receivers.cells.headers import of_other, of_response, of_tenant
from spanpost.runtime.router import refuse_unfit
from spanpost.settings import load
from tests.http.claims import tenant_of
from tests.thorough import thorough

ROUTER = "spt_router_0123456789abcdef0123456789"
TOKENS = SenderTokens("default", [("red", hash_of("red"))], [hash_of("operator")], [hash_of(ROUTER)])
HERE = AllowedRequest(client="10.0.0.7", is_this_machine=False, scheme="https", host="agents.example.com")
#: What a client may try to say about itself.
CLAIMS = (
    "host", "forwarded", "x-forwarded-for", "X-Forwarded-Host", "spanpost-forwarded-tenant", "via", "connection", "te",
    "transfer-encoding", "content-length", "upgrade", "keep-alive", "proxy-authorization", "expect",
)  # fmt: skip


@given(st.text(min_size=1, max_size=200).filter(str.isprintable).filter(lambda text: "\ufffd" not in text))
@thorough(200)
def test_a_router_names_any_tenant(tenant: str) -> None:
    """Every name of a tenant arrives as it was sent, in a header of plain ASCII."""
    try:
        sent = forwarded_tenant(tenant)
    except UnicodeEncodeError:
        return  # lone surrogates are in no settings
    assert sent.isascii()
    assert tenant_of(TOKENS, f"Bearer {ROUTER}", sent) == tenant


@pytest.mark.parametrize(
    ("authorization", "forwarded"),
    [
        ("Bearer red", "red"), ("Bearer red", ""), (None, "red"), ("Bearer operator", "red"),
        (f"Basic {ROUTER}", "red"),
        (f"Bearer {ROUTER}", None), (f"Bearer {ROUTER}", ""), (f"Bearer {ROUTER}", "%00"), (f"Bearer {ROUTER}", "%ff"),
        (f"Bearer {ROUTER}", "a" * 201), (f"Bearer {ROUTER}", "a%0d%0ab"),
    ],
)  # fmt: skip
def test_nobody_else_names_a_tenant(authorization: str | None, forwarded: str | None) -> None:
    """The header counts with a router's token alone, and that token needs it."""
    assert tenant_of(TOKENS, authorization, forwarded) is None


def test_a_cell_without_tenants_tokens_is_not_open() -> None:
    """A cell that has only its router's token refuses everybody without it."""
    cell = SenderTokens("default", routers=[hash_of(ROUTER)])
    assert (cell.is_open, tenant_of(cell, None), cell.is_operator(None)) == (False, None, False)


def test_a_tenant_is_in_one_cell() -> None:
    """The table decides, else the default; a workspace that is named nowhere is in no cell."""
    rules = CellAssignment(default="a", tenants={"blue": "b"}, slack_teams={"T0": "b"})
    assert [rules.of_tenant(one) for one in ("blue", "red", "")] == ["b", "a", "a"]
    assert [rules.of_slack(one) for one in ("T0", "T1", "")] == ["b", "", "b"]
    assert CellAssignment().of_tenant("red") == ""


def test_a_host_is_compared_whole() -> None:
    """A cell's host is found with any port, unless its address has one; a host below or beside it is not."""
    hosts = {host_of("a.example.com"): "a", host_of("b.example.com:8443"): "b"}
    found = {one: of_host(hosts, host_of(one)) for one in (
        "a.example.com", "A.example.com:4318", "x.a.example.com", "a.example.com.evil.test", "b.example.com:8443",
        "b.example.com", "",
    )}  # fmt: skip
    assert list(found.values()) == ["a", "a", "", "", "b", "", ""]


@given(st.lists(st.tuples(st.sampled_from([*CLAIMS, "x-own", "cookie"]), st.text("abc,- ", max_size=8)), max_size=12))
@thorough(200)
def test_no_claim_of_a_client_passes(given_headers: list[tuple[str, str]]) -> None:
    """Whatever headers a client sends, the cell gets the router's own of each kind, once, and no framing."""
    raw = [(name.encode(), value.encode()) for name, value in given_headers]
    for sent in (of_other(raw, HERE), of_tenant(raw, HERE, "red", ROUTER)):
        names = [name.lower() for name, _ in sent]
        own = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
        assert [value for name, value in sent if name in own] == ["10.0.0.7", "https", "agents.example.com"]
        assert not {"connection", "transfer-encoding", "content-length", "upgrade", "host", "forwarded"} & {*names}
    assert of_tenant(raw, HERE, "red", ROUTER)[:2] == [
        ("authorization", f"Bearer {ROUTER}"), ("spanpost-forwarded-tenant", "red"),
    ]  # fmt: skip
    assert not {b"connection", b"transfer-encoding", b"content-length"} & {name for name, _ in of_response(raw)}


@given(st.text(max_size=300), st.integers(0, 2000), st.booleans())
@thorough(100)
def test_the_message_of_a_refusal_is_read_back(text: str, code: int, has_details: bool) -> None:
    """What `as_protobuf` writes is read by `message_of`; cut or foreign bytes give no error."""
    body = status.as_protobuf(code, text, retry_after=int(has_details))
    assert status.message_of(body) == text.encode("utf-8", "replace").decode()
    for length in range(0, len(body), 7):
        status.message_of(body[:length])
    status.message_of(b"\xff" * 20)


CELL = {"urls": ["http://127.0.0.1:1"], "token": ROUTER}


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"named": {}}, "cells.named"),
        ({"named": {"a": CELL}, "default": "b"}, "there is no cell 'b'; there is a"),
        ({"named": {"a": CELL}, "tenants": {"red": "x"}}, "there is no cell 'x'"),
        ({"named": {"A!": CELL}}, "cells.named"),
        ({"named": {"a": {**CELL, "token": "short"}}}, "32 characters or more"),
        ({"named": {"a": {**CELL, "urls": []}}}, "at least 1 item"),
        ({"named": {"a": {**CELL, "urls": ["http://u:p@h"]}}}, "must hold no user or password"),
        ({"named": {"a": {**CELL, "public_url": "https://h/x"}}}, "must hold no path"),
        ({"named": {n: {**CELL, "public_url": "https://h"} for n in "ab"}}, "have the same public_url"),
        ({"named": {"a": CELL}, "slack_teams": {"acme": "a"}}, "is no id of a workspace"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(clean_environment: Path, cells: dict[str, Any], said: str) -> None:
    """Each mistake has a message that says what is wrong, and never the token."""
    with pytest.raises(ConfigError) as refused:
        load(cells=cells)
    assert said in str(refused.value)
    assert ROUTER not in str(refused.value)


def test_a_token_comes_from_the_environment(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret of a cell need not stand in the file beside its address."""
    (clean_environment / "spanpost.toml").write_text('[cells.named.a]\nurls = ["http://127.0.0.1:1"]\n')
    monkeypatch.setenv("SPANPOST_CELLS__NAMED__A__TOKEN", ROUTER)
    cells = load().cells
    assert cells is not None
    assert cells.named["a"].token.get_secret_value() == ROUTER


def test_a_tenant_with_a_token_has_a_cell(clean_environment: Path) -> None:
    """A router does not start while a tenant that may send is in no cell."""
    tokens = [{"tenant": "red", "sha256": [hash_of("red")]}]
    settings = load(gateway={"tokens": tokens}, cells={"named": {"a": CELL}, "tenants": {"blue": "a"}})
    with pytest.raises(ConfigError, match="tenant 'red' has a token and no cell"):
        refuse_unfit(settings)
    refuse_unfit(load(gateway={"tokens": tokens}, cells={"named": {"a": CELL}, "default": "a"}))


def test_a_routers_token_is_no_tenants(clean_environment: Path) -> None:
    """One token cannot be a router's and a tenant's."""
    tokens = [{"tenant": "red", "sha256": [hash_of("red")]}]
    with pytest.raises(ConfigError, match="one of them is a tenant's token"):
        load(gateway={"tokens": tokens, "router_tokens": [hash_of("red")]})
