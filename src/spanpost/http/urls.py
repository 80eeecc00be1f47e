"""Validation of URLs in settings."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from spanpost.http.hosts import is_loopback


def http_url(value: str, *, is_bare: bool = False, is_secure: bool = False) -> str:
    """Return an HTTP URL without surrounding blanks. Raises `ValueError` with the rule, never with the URL
    itself.

    It must have a host and no user: secrets have their own settings. `is_bare`: no query and no fragment,
    because paths are appended; trailing slashes are removed. `is_secure`: https, except for this machine.
    """
    url = value.strip()
    parts = split(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must begin with https:// or http:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user or password")
    if is_bare and (parts.query or parts.fragment):
        raise ValueError("must hold no query and no fragment")
    if is_secure and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https beyond this machine")
    return url.rstrip("/") if is_bare else url


def split(url: str) -> SplitResult:
    """Split a URL. Raises `ValueError` if it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises for an invalid port)
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts
