"""The tenant of a request: every combination of what may name one, and everything else refused."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http.stored_tokens import TokenRefused
from spanpost.http.tenancy import TenantGrant, TenantRefused, TenantSources, decide, names_of
from spanpost.http.tokens import SenderTokens, hash_of
from tests.http.claims import tenant_of

PROXY, STRANGER = "10.0.0.7", "10.9.0.7"
RULES = TenantSources(
    header="x-tenant",
    trusted_proxies=(ip_network("10.0.0.0/24"),),
    certificates={"acme.example": TenantGrant("acme"), "globex.example": TenantGrant("globex")},
    others={hash_of("shared"): frozenset({"acme", "globex"})},
)
TOKENS = [("acme", hash_of("acme")), ("collector", hash_of("shared"))]
SENDERS = SenderTokens("default", TOKENS, routers=[hash_of("router")], rules=RULES)


@pytest.mark.parametrize(
    ("token", "more", "tenant"),
    [
        (None, {"peer": PROXY, "named": ["acme"]}, "acme"),
        (None, {"peer": PROXY, "named": ["acme", "acme"]}, "acme"),
        (None, {"peer": PROXY, "named": ["a%2Cb"]}, "a,b"),
        (None, {"certificate": ["acme.example"]}, "acme"),
        (None, {"certificate": ["other.example"]}, None),
        (None, {"peer": PROXY}, None),
        ("acme", {}, "acme"),
        ("acme", {"peer": PROXY, "named": ["acme"]}, "acme"),
        ("acme", {"certificate": ["acme.example"]}, "acme"),
        ("acme", {"certificate": ["acme.example"], "peer": PROXY, "named": ["acme"]}, "acme"),
        ("shared", {}, "collector"),
        ("shared", {"peer": PROXY, "named": ["globex"]}, "globex"),
        ("wrong", {"peer": PROXY, "named": ["acme"]}, None),
        ("wrong", {"certificate": ["acme.example"]}, None),
        ("router", {"forwarded": "globex"}, "globex"),
        ("acme", {"forwarded": "globex"}, None),
        (None, {"forwarded": "globex", "peer": PROXY, "named": ["globex"]}, None),
    ],
)
def test_what_names_a_tenant(token: str | None, more: dict[str, Any], tenant: str | None) -> None:
    """A token, a listed certificate or a trusted proxy's header names the tenant, and a wrong token ends it."""
    assert tenant_of(SENDERS, f"Bearer {token}" if token else None, **more) == tenant


@pytest.mark.proves("proven-tenant", "tenant-attacks")
@pytest.mark.parametrize(
    ("token", "more", "status"),
    [
        (None, {"peer": STRANGER, "named": ["acme"]}, 403),
        ("acme", {"peer": STRANGER, "named": ["acme"]}, 403),
        ("acme", {"peer": "", "named": ["acme"]}, 403),
        ("acme", {"peer": PROXY, "named": ["globex"]}, 403),
        ("shared", {"peer": PROXY, "named": ["initech"]}, 403),
        ("acme", {"certificate": ["globex.example"]}, 403),
        ("acme", {"certificate": ["acme.example", "globex.example"]}, 403),
        (None, {"certificate": ["globex.example"], "peer": PROXY, "named": ["acme"]}, 403),
        ("router", {"forwarded": "globex", "peer": PROXY, "named": ["acme"]}, 403),
        ("router", {"forwarded": "globex", "certificate": ["acme.example"]}, 403),
        (None, {"peer": PROXY, "named": ["acme", "globex"]}, 400),
        (None, {"peer": PROXY, "named": ["acme, globex"]}, 400),
        (None, {"peer": PROXY, "named": [""]}, 400),
        (None, {"peer": PROXY, "named": ["%00"]}, 400),
        (None, {"peer": PROXY, "named": ["%ff"]}, 400),
        (None, {"peer": PROXY, "named": ["\xe9"]}, 400),
        (None, {"peer": PROXY, "named": ["x" * 201]}, 400),
    ],
)
def test_contradictions_are_refused(token: str | None, more: dict[str, Any], status: int) -> None:
    """Claims of different tenants, a header of another address or without one tenant are refused with a 4xx."""
    with pytest.raises(TokenRefused) as caught:
        tenant_of(SENDERS, f"Bearer {token}" if token else None, **more)
    assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (status, "tenant", 0)


def test_without_the_setting_a_header_says_nothing() -> None:
    """A gateway whose settings name no header and list no certificate has one tenant, whatever a sender claims."""
    senders = SenderTokens("default")
    assert tenant_of(senders, None, named=["acme"], peer=PROXY, certificate=["acme.example"]) == "default"


@pytest.mark.parametrize("rules", [TenantSources(header="x-tenant"), TenantSources(certificates=RULES.certificates)])
def test_header_and_certificates_close_the_gateway(rules: TenantSources) -> None:
    """Once a header or certificates name tenants, a request that proves none has none, and is no operator."""
    senders = SenderTokens("default", rules=rules)
    assert (tenant_of(senders, None, peer=PROXY), senders.is_open, senders.is_operator(None)) == (None, False, False)


_tenants = st.sampled_from(["acme", "globex", "initech"])
_grants = st.builds(TenantGrant, _tenants, st.frozensets(_tenants))


@given(st.lists(st.none() | _grants, max_size=3), st.none() | _tenants)
def test_nothing_gives_more_than_each_credential(credentials: list[TenantGrant | None], named: str | None) -> None:
    """Whatever is decided, every credential may use that tenant and every further one; without any there is none."""
    found = [one for one in credentials if one is not None]
    try:
        grant = decide(*credentials, named=named)
    except TenantRefused:
        return
    assert (grant is None) == (not found and named is None)
    if grant is not None:
        assert named in (None, grant.tenant)
        assert all(one.may_use(tenant) for one in found for tenant in (grant.tenant, *grant.others))


def test_the_names_of_a_certificate() -> None:
    """Alternative names identify a client; the common name does where there are none, and an address never."""
    alternative = (("DNS", "a.example"), ("URI", "spiffe://a"), ("IP Address", "10.0.0.1"))
    subject = ((("commonName", "boss"),),)
    assert names_of({"subject": subject, "subjectAltName": alternative}) == ("a.example", "spiffe://a")
    assert (names_of({"subject": subject}), names_of(None)) == (("boss",), ())
