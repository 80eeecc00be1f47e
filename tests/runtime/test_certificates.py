"""Certificates of the gateway's receivers: judged by `spanpost check`, and reloaded when their files change."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from spanpost.cli.examination import examine
from spanpost.model.errors import ConfigError
from spanpost.runtime.certificates import ServerTls, judge, tls_context, validity
from spanpost.settings import GatewaySettings, load

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def write(path: Path, begins: datetime, ends: datetime) -> tuple[Path, Path]:
    """Write a certificate with that validity, with its chain, and its key."""
    made = trustme.CA().issue_cert("127.0.0.1", not_before=begins, not_after=ends)
    pem, key = path.with_suffix(".pem"), path.with_suffix(".key")
    pem.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return pem, key


@pytest.mark.parametrize(
    ("begins", "ends", "holds", "said", "cure"),
    [
        (NOW - 90 * DAY, NOW + 60 * DAY, True, "holds until", ""),
        (NOW - 90 * DAY, NOW + 3 * DAY, True, "expires soon", "SIGHUP"),
        (NOW - 90 * DAY, NOW - DAY, False, "expired on", "renew it"),
        (NOW + DAY, NOW + 90 * DAY, False, "holds from", "clock"),
        (NOW - DAY / 24, NOW + DAY, True, "holds until", ""),  # one of a day is new
        (
            datetime(1999, 1, 1, tzinfo=UTC),
            datetime(2055, 1, 1, tzinfo=UTC),
            True,
            "2055-01-01",
            "",
        ),  # two forms of time
    ],
)
def test_how_long_it_holds(tmp_path: Path, begins: datetime, ends: datetime, holds: bool, said: str, cure: str) -> None:
    """Expired, not yet valid and soon expiring ones are distinguished, with a next step and the
    certificate's date.
    """
    pem, _ = write(tmp_path / "server", begins, ends)
    found = next(judge(pem, "tls_certificate", NOW))
    assert found.holds is holds
    assert said in found.said
    assert cure in found.cure
    assert (found.cure == "") is (cure == "")


def test_what_is_no_certificate_says_so(tmp_path: Path) -> None:
    """Any bytes in place of a certificate give a finding without an error."""
    for der in (b"", b"\x30", b"\x30\x82\xff\xff", bytes(40), b"0\x03\x30\x01\x00"):
        with pytest.raises(ValueError, match=r"certificate|time data"):
            validity(der)
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ValueError, match="no certificate in it"):
        list(judge(tmp_path / "none.pem", "client_ca", NOW))


def test_check_finds_bad_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spanpost check` finds an expired certificate and a key that does not match, with a next step."""
    monkeypatch.chdir(tmp_path)
    pem, key = write(tmp_path / "old", NOW - 9 * DAY, NOW - DAY)
    _, other = write(tmp_path / "other", NOW - DAY, NOW + 90 * DAY)

    def findings(key: Path) -> str:
        section = {"http_port": 0, "grpc_port": -1, "tls_certificate": str(pem), "tls_key": str(key)}
        found = examine(load(gateway=section, database={"url": "postgresql://u@127.0.0.1:1/x"}))
        return "\n".join(f"{f.finding} -> {f.next_step}" for f in found if f.name == "gateway" and not f.ok)

    assert "expired on" in findings(key)
    assert "renew it" in findings(key)
    assert "the key is not the certificate's" in findings(other)


def test_a_renewed_certificate_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    """A gateway serves a replaced certificate at once; a file that does not match its key changes nothing."""
    pem, key = write(tmp_path / "server", NOW - DAY, NOW + 30 * DAY)
    section = GatewaySettings(tls_certificate=pem, tls_key=key)
    outcomes: list[str] = []
    tls = ServerTls(section, outcomes.append)

    def served() -> bytes | None:
        """Return the certificate that a client receives, in a handshake in memory."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        assert tls.context is not None
        server = tls.context.wrap_bio(to_server, to_client, server_side=True)
        client = trusting.wrap_bio(to_client, to_server)
        for side in (client, server, client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        return client.getpeercert(binary_form=True)

    first = served()
    assert first is not None
    assert not tls.renew()
    write(tmp_path / "server", NOW, NOW + 90 * DAY)
    assert tls.renew()
    renewed = served()
    assert renewed != first
    assert not tls.renew()
    new = tmp_path / "new"
    new.write_bytes(write(tmp_path / "foreign", NOW, NOW + DAY)[0].read_bytes())
    os.replace(new, pem)  # the certificate came before its key
    assert not tls.renew()
    assert served() == renewed
    assert outcomes == ["taken", "refused"]
    with pytest.raises(ConfigError, match="not the certificate's"):
        tls_context(section)
