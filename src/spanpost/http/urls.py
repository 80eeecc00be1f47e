"""URLs that settings hold: read once, and refused in words that say what is wrong with them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from spanpost.http.hosts import is_loopback


def http_url(value: str, *, is_bare: bool = False, is_secure: bool = False) -> str:
    """Return a URL of HTTP as it was given, without blanks around it. Raises `ValueError` that says what it must be, and holds none of it.

    It names a host, and no user: secrets have settings of their own. `is_bare`: it has no query and no fragment, for paths are added
    to it, and its last slash is taken off. `is_secure`: https, unless it leads to this machine.
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
    """Return the parts of a URL. Raises `ValueError` where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises for a port that is none)
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts
