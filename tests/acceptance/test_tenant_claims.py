"""Tenants of a real gateway by client certificates and by the header of a trusted proxy, on both protocols."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from spanpost.http.tokens import hash_of
from tests.acceptance.gateway_process import Start, query
from tests.receivers.endpoints import traces

pytestmark = pytest.mark.acceptance

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def _by_grpc(target: str, number: int, credentials: Any, *metadata: tuple[str, str]) -> str:
    """Send a span; return the name of the answer's code."""
    import grpc

    with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary(_METHOD)(traces(number), metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def _tenants(dsn: str) -> list[tuple[str, str]]:
    return sorted(query(dsn, "SELECT tenant, name FROM agent_events"))


@pytest.mark.proves("proven-tenant")
def test_certificates_name_tenants(start: Start, dsn: str, tmp_path: Path) -> None:
    """A listed certificate is its tenant's over HTTP and gRPC, an unlisted one of the same CA is no tenant's."""
    import grpc
    import trustme

    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("127.0.0.1", "acme.example", "globex.example", "unlisted.example"):
        made = ca.issue_cert(name)
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    listed = [
        f'[[gateway.certificates]]\ntenant = "{tenant}"\nnames = ["{tenant}.example"]' for tenant in ("acme", "globex")
    ]
    gateway = start(
        "[gateway]\ntls_certificate = '127.0.0.1.pem'\ntls_key = '127.0.0.1.key'\nclient_ca = 'ca.pem'\n"
        f'[[gateway.tokens]]\ntenant = "globex"\nsha256 = ["{hash_of("spt_globex")}"]\n' + "\n".join(listed)
    ).ready()

    def by_http(number: int, name: str, **headers: str) -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        sent = {"content-type": "application/x-protobuf", **headers}
        with httpx.Client(verify=context, timeout=30) as client:
            return client.post(f"{gateway.http}/v1/traces", content=traces(number), headers=sent).status_code

    def by_grpc(number: int, name: str, *metadata: tuple[str, str]) -> str:
        pair = [(tmp_path / f"{name}.{end}").read_bytes() for end in ("key", "pem")]
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes(), *pair)
        return _by_grpc(gateway.grpc.removeprefix("https://"), number, credentials, *metadata)

    token = {"authorization": "Bearer spt_globex"}
    assert [by_http(1, "acme.example"), by_http(2, "globex.example"), by_http(3, "unlisted.example")] == [200, 200, 401]
    assert [by_http(4, "acme.example", **token), by_http(5, "unlisted.example", **token)] == [403, 200]
    assert [by_grpc(6, "acme.example"), by_grpc(7, "unlisted.example")] == ["OK", "UNAUTHENTICATED"]
    assert by_grpc(8, "acme.example", ("authorization", "Bearer spt_globex")) == "PERMISSION_DENIED"
    assert _tenants(dsn) == [("acme", "chat 1"), ("acme", "chat 6"), ("globex", "chat 2"), ("globex", "chat 5")]


@pytest.mark.proves("proven-tenant", "tenant-attacks")
def test_a_trusted_proxys_header_names_tenants(start: Start, dsn: str) -> None:
    """From a trusted address the header decides for telemetry, agents and alerts; from another it is refused."""
    alert = {
        "version": "4", "status": "firing", "alerts": [{
            "status": "firing", "labels": {"alertname": "Slow"}, "annotations": {}, "fingerprint": "1",
            "startsAt": "2026-11-21T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
        }],
    }  # fmt: skip
    statuses: dict[str, list[Any]] = {}
    for trusted in ("127.0.0.1", "10.0.0.0/8"):
        toml = f'[gateway]\ntenant_header = "X-Tenant"\ntrusted_proxies = ["{trusted}"]\n'
        gateway = start(toml).ready()
        url, target = gateway.http, gateway.grpc.removeprefix("http://")
        body, kind = traces(1), {"content-type": "application/x-protobuf"}
        named = {"x-tenant": "acme"}
        with httpx.Client(base_url=url, timeout=30) as client:
            statuses[trusted] = [
                client.post("/v1/traces", content=body, headers={**kind, **named}).status_code,
                client.post("/v1/traces", content=body, headers=kind).status_code,
                client.post("/v1/traces", content=body, headers={**kind, "x-tenant": "acme, globex"}).status_code,
                client.get("/control/v1/version", headers=named).status_code,
                client.post("/alerts/alertmanager", content=json.dumps(alert), headers={
                    "content-type": "application/json", **named}).status_code,
                _by_grpc(target, 2, None, ("x-tenant", "globex")),
                _by_grpc(target, 3, None),
                _by_grpc(target, 3, None, ("x-tenant", "acme"), ("x-tenant", "globex")),
            ]  # fmt: skip
        assert gateway.end() == 0
    assert statuses == {
        "127.0.0.1": [200, 401, 400, 200, 200, "OK", "UNAUTHENTICATED", "INVALID_ARGUMENT"],
        "10.0.0.0/8": [403, 401, 403, 403, 403, "PERMISSION_DENIED", "UNAUTHENTICATED", "PERMISSION_DENIED"],
    }
    assert [row for row in _tenants(dsn) if row[1].startswith("chat")] == [("acme", "chat 1"), ("globex", "chat 2")]
    assert query(dsn, "SELECT tenant, name FROM alerts") == [("acme", "Slow")]
