"""Each way in which a request proves its tenant, and the lies about it, for the hostile tenants."""

from __future__ import annotations

import copy
import json
import random
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import trustme

from spanpost.http.tokens import hash_of
from tests.faults.hostile_telemetry import TENANTS, Sent

#: A tenant whose token and certificate may name both of the others. It sends nothing itself.
_SHARED = "shared"
#: A certificate of the CA that no setting lists.
_UNLISTED = "unlisted"
_HEADER, _ATTRIBUTE = "x-tenant", "company.tenant"
#: An address that is no trusted proxy.
STRANGER = "127.0.0.2"


class Claim(NamedTuple):
    """What a request says about its tenant, and by what."""

    way: str
    token: str = ""
    certificate: str = _UNLISTED
    header: str = ""
    attribute: str = ""
    #: Sent from `STRANGER`.
    is_strange: bool = False
    #: Nothing of it may be recorded.
    is_lie: bool = False
    is_grpc: bool = False
    #: A resource of the other tenant comes with it, and is to be left out.
    is_beside: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the request."""
        found = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return found | ({_HEADER: self.header} if self.header else {})


def claims(tenant: str) -> tuple[Claim, ...]:
    """Return each way to prove a tenant."""
    shared = f"spt_{_SHARED}"
    return (
        Claim("token", f"spt_{tenant}"),
        Claim("certificate", certificate=tenant),
        Claim("token and certificate", f"spt_{tenant}", tenant),
        Claim("header", header=tenant),
        Claim("header beside a shared token", shared, header=tenant),
        Claim("header beside a shared certificate", certificate=_SHARED, header=tenant),
        Claim("attribute beside a shared token", shared, attribute=tenant),
        Claim("attribute beside a shared certificate", certificate=_SHARED, attribute=tenant),
    )


def lies(tenant: str, other: str) -> tuple[Claim, ...]:
    """Return claims of which nothing may be recorded for anyone."""
    own = f"spt_{tenant}"
    found = (
        Claim("token, another's header", own, header=other),
        Claim("token, another's certificate", own, other),
        Claim("token, another's attribute", own, attribute=other),
        Claim("certificate, another's header", certificate=tenant, header=other),
        Claim("certificate, another's attribute", certificate=tenant, attribute=other),
        Claim("header, another's attribute", header=tenant, attribute=other),
        Claim("shared token with a header, another's attribute", f"spt_{_SHARED}", header=tenant, attribute=other),
        Claim("two tenants in a header", header=f"{tenant}, {other}"),
        Claim("an attribute alone", attribute=other),
        Claim("a wrong token beside a header", "spt_wrong", header=other),
        Claim("a header from a stranger", header=other, is_strange=True),
        Claim("a token and a header from a stranger", own, header=tenant, is_strange=True),
    )
    return tuple(one._replace(is_lie=True) for one in found)


def claimed(chance: random.Random, tenant: str, sent: Sent) -> Iterator[tuple[Claim, Sent]]:
    """Yield a request with a way that proves its tenant; sometimes lies about it come before."""
    other = next(one for one in TENANTS if one != tenant)
    if sent.is_api:  # it has tokens of its own, and the header says nothing there
        yield Claim("API", f"api_{tenant}", header=chance.choice(["", other])), sent
        return
    if chance.random() < 0.25:
        lie = chance.choice(lies(tenant, other))
        # Of an empty request nothing can be rejected: it is answered 200.
        if not lie.attribute or (_resources(sent) and '"attributes"' in json.dumps(_entries(sent))):
            by_grpc = bool(_resources(sent)) and not lie.is_strange and chance.random() < 0.4
            yield lie._replace(is_grpc=by_grpc), _named(sent, lie.attribute)
    claim = chance.choice(claims(tenant))
    if claim.attribute and not _resources(sent):
        claim = claim._replace(attribute="", header=tenant)
    named = _named(sent, claim.attribute)
    # What is of the other tenant is left out, and the rest is recorded.
    if not claim.attribute and _resources(sent) and chance.random() < 0.1:
        claim, named = claim._replace(is_beside=True), _beside(sent, other)
    yield claim._replace(is_grpc=bool(_resources(sent)) and chance.random() < 0.4), named


def _resources(sent: Sent) -> list[Any]:
    body = sent.body if isinstance(sent.body, dict) else {}
    return list(body.get("resourceSpans") or body.get("resourceLogs") or ())


def _entries(sent: Sent) -> list[Any]:
    return [
        one for resource in _resources(sent) for name in ("scopeSpans", "scopeLogs") for one in resource.get(name, ())
    ]


def _named(sent: Sent, tenant: str) -> Sent:
    """Return the request with a tenant's attribute in each resource; empty: without."""
    if not tenant:
        return sent
    body = copy.deepcopy(sent.body)
    for one in _resources(sent._replace(body=body)):
        one["resource"]["attributes"].append({"key": _ATTRIBUTE, "value": {"stringValue": tenant}})
    return sent._replace(body=body)


def _beside(sent: Sent, other: str) -> Sent:
    """Return the request with each resource once more, as the other tenant's."""
    body = copy.deepcopy(sent.body)
    for more in _named(sent, other).body.items():
        body[more[0]] += more[1]
    return sent._replace(body=body)


class Certificates:
    """A CA's certificates in files, for the gateway and for each client."""

    def __init__(self, home: Path) -> None:
        self._home = home
        ca = trustme.CA()
        ca.cert_pem.write_to_path(home / "ca.pem")
        for name in ("127.0.0.1", *TENANTS, _SHARED, _UNLISTED):
            made = ca.issue_cert(name if name == "127.0.0.1" else f"{name}.example")
            made.private_key_pem.write_to_path(home / f"{name}.key")
            (home / f"{name}.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))

    def contexts(self) -> Mapping[str, ssl.SSLContext]:
        """Return the TLS context of each client's certificate, by its name."""
        found = {}
        for name in (*TENANTS, _SHARED, _UNLISTED):
            found[name] = ssl.create_default_context(cafile=str(self._home / "ca.pem"))
            found[name].load_cert_chain(self._home / f"{name}.pem", self._home / f"{name}.key")
        return found

    def grpc_credentials(self, name: str) -> grpc.ChannelCredentials:
        """Return the same for gRPC, of one certificate."""
        pair = [(self._home / f"{name}.{end}").read_bytes() for end in ("key", "pem")]
        return grpc.ssl_channel_credentials((self._home / "ca.pem").read_bytes(), *pair)

    def settings(self) -> str:
        """Return the gateway's settings: all ways, for both tenants."""
        parts = [
            f'tls_certificate = "{self._home}/127.0.0.1.pem"\ntls_key = "{self._home}/127.0.0.1.key"\n'
            f'client_ca = "{self._home}/ca.pem"\ntenant_header = "{_HEADER}"\ntenant_attribute = "{_ATTRIBUTE}"\n'
            'trusted_proxies = ["127.0.0.1"]'
        ]
        for tenant in (*TENANTS, _SHARED):
            others = f"tenants = {list(TENANTS)}\n" if tenant == _SHARED else ""
            parts += [
                f'[[gateway.tokens]]\ntenant = "{tenant}"\nsha256 = ["{hash_of(f"spt_{tenant}")}"]\n{others}',
                f'[[gateway.certificates]]\ntenant = "{tenant}"\nnames = ["{tenant}.example"]\n{others}',
            ]
        return "\n".join(parts)
