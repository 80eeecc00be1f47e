"""Certificates of the gateway's receivers: read, checked, and read again after renewal."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from spanpost.model.errors import ConfigError
from spanpost.settings.gateway import GatewaySettings

log = logging.getLogger("spanpost.runtime.gateway")

#: Interval of checks for renewed certificates, seconds.
_RENEW_INTERVAL: Final = 30.0
#: Remaining life at which a certificate is reported; for a short-lived one, a third of its life.
SOON: Final = timedelta(days=14)
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Certificates:
    """Certificate, key and client authority of TLS, read from their files when asked."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    @property
    def chain(self) -> bytes:
        assert self._settings.tls_certificate is not None
        return self._settings.tls_certificate.read_bytes()

    @property
    def key(self) -> bytes:
        assert self._settings.tls_key is not None
        return self._settings.tls_key.read_bytes()

    @property
    def client_ca(self) -> bytes | None:
        return self._settings.client_ca.read_bytes() if self._settings.client_ca else None


class ServerTls:
    """The TLS context of an HTTP port (None without TLS), kept up with its files.

    `count` counts a renewal by its outcome. Raises `ConfigError` for unusable files.
    """

    def __init__(self, section: GatewaySettings, count: Callable[[str], None]) -> None:
        self.context = tls_context(section)
        self._section = section
        self._count = count
        #: State of the files when they were read last.
        self._stamp = stamp(section)

    def check(self, section: GatewaySettings) -> None:
        """Raise `ConfigError` or OSError if the files of new settings cannot be used."""
        if self.context is not None:
            tls_context(section)  # keep a certificate that works if the new one does not fit its key

    def replace(self, section: GatewaySettings) -> None:
        """Use the files of new settings for new connections."""
        if self.context is not None and section.tls_certificate and section.tls_key:
            take(self.context, section)
            self._stamp = stamp(section)

    def renew(self) -> bool:
        """Use certificates whose files have changed; True if there were any. A certificate that does not
        fit its key is ignored, and logged.
        """
        now = stamp(self._section)
        if self.context is None or not now or now == self._stamp:
            return False
        self._stamp = now
        try:
            tls_context(self._section)
            take(self.context, self._section)
        except (ConfigError, OSError) as error:
            log.error("the renewed certificate is refused, the old one stays: %s", error)
            self._count("refused")
            return False
        self._count("taken")
        log.info("the certificate was renewed: new connections use it")
        return True

    async def keep(self) -> None:
        """Check the files for changes until it is cancelled."""
        while self.context is not None:
            await asyncio.sleep(_RENEW_INTERVAL)
            self.renew()


def tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Return the TLS context of the HTTP port, None without TLS. Raises `ConfigError` for unusable files."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        take(context, settings)
        if settings.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        said = str(error)
        if "KEY_VALUES_MISMATCH" in said:
            said = "the key is not the certificate's"
        raise ConfigError(
            f"gateway: the certificates cannot be used ({said}): tls_certificate, tls_key and client_ca must "
            "be readable PEM "
            "files, and the key must be the certificate's"
        ) from None
    return context


def take(context: ssl.SSLContext, settings: GatewaySettings) -> None:
    """Use the present content of the files for new connections. A removed client CA is dropped at the next
    start.
    """
    assert settings.tls_certificate is not None
    # With no password at all, OpenSSL would ask for one on the terminal.
    context.load_cert_chain(settings.tls_certificate, settings.tls_key, password="")
    if settings.client_ca is not None:
        context.load_verify_locations(settings.client_ca)


def stamp(settings: GatewaySettings) -> tuple[tuple[int, int, int], ...]:
    """Return a value that changes when a file is renewed: overwritten, moved or linked. Empty if a file is
    missing.
    """
    files = [path for path in (settings.tls_certificate, settings.tls_key, settings.client_ca) if path is not None]
    try:
        return tuple((found.st_mtime_ns, found.st_ino, found.st_size) for found in (path.stat() for path in files))
    except OSError:
        return ()


class Validity(NamedTuple):
    """When a certificate becomes valid, and when it expires."""

    begins: datetime
    ends: datetime


class Judgement(NamedTuple):
    """The finding about one certificate, and what to do; `holds` is False if clients refuse it."""

    holds: bool
    said: str
    cure: str = ""


def judge(path: Path, field: str, now: datetime) -> Iterator[Judgement]:
    """Yield a finding for each certificate of a file. Raises OSError and ValueError."""
    found = [validity(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(path.read_text("ascii", "replace"))]
    if not found:
        raise ValueError("there is no certificate in it")
    renewed = "; the gateway takes a renewed file by itself within a minute, at SIGHUP at once"
    for number, (begins, ends) in enumerate(found, 1):
        which = f"{field}: {path}" + (f", number {number} of {len(found)}," if len(found) > 1 else "")
        if now < begins:
            yield Judgement(
                False, f"{which} holds from {begins:%Y-%m-%d %H:%M} UTC only", "look at this machine's clock, or wait"
            )
        elif now >= ends:
            yield Judgement(
                False, f"{which} expired on {ends:%Y-%m-%d %H:%M} UTC: clients refuse it", f"renew it{renewed}"
            )
        elif ends - now < min(SOON, (ends - begins) / 3):
            yield Judgement(True, f"{which} expires soon, on {ends:%Y-%m-%d %H:%M} UTC", f"renew it before{renewed}")
        else:
            yield Judgement(True, f"{which} holds until {ends:%Y-%m-%d}")


def validity(der: bytes) -> Validity:
    """Return a certificate's validity (RFC 5280, 4.1.2.5). Raises `ValueError` for other content.

    Parsed here, because the standard library decodes only the certificates of peers.
    """
    try:
        _, start, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, start)  # its TBSCertificate
        tag, _, end = _element(der, at)
        if tag == 0xA0:  # the version, which may be left out
            _, _, end = _element(der, end)
        for _ in range(2):  # behind the serial number: signature and issuer
            _, _, end = _element(der, end)
        _, at, _ = _element(der, end)
        begins, at = _time(der, at)
        ends, _ = _time(der, at)
    except IndexError:
        raise ValueError("this is no certificate") from None
    return Validity(begins, ends)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag, start and end of an element."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length > 127:
        size = length & 127
        length, start = int.from_bytes(der[start : start + size]), start + size
    return tag, start, start + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii", "replace")
    if tag == 0x17:  # UTCTime: two digits of the year
        text = ("19" if text >= "50" else "20") + text
    elif tag != 0x18:
        raise ValueError("this is no certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), end
