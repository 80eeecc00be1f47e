"""URLs in settings: which are accepted, and that a refusal does not repeat them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.http.hosts import is_loopback
from spanpost.http.urls import http_url


@pytest.mark.parametrize(
    ("given_url", "options", "taken"),
    [
        (" https://a.example/x/?y=1 ", {}, "https://a.example/x/?y=1"),
        ("https://a.example/x//", {"is_bare": True}, "https://a.example/x"),
        ("http://localhost:3000", {"is_secure": True}, "http://localhost:3000"),
        ("http://[::1]:3000/", {"is_secure": True, "is_bare": True}, "http://[::1]:3000"),
        ("http://127.8.9.1", {"is_secure": True}, "http://127.8.9.1"),
    ],
)
def test_urls_are_taken(given_url: str, options: dict[str, bool], taken: str) -> None:
    """An address is kept as written, except for spaces and final slashes of a base address."""
    assert http_url(given_url, **options) == taken


@pytest.mark.parametrize(
    ("given_url", "options", "says"),
    [
        ("canary", {}, "must begin with"),
        ("ftp://canary.example", {}, "must begin with"),
        ("https://:443/canary", {}, "name a host"),
        ("https://canary:port", {}, "is not a URL"),
        ("https://[canary", {}, "is not a URL"),
        ("https://canary@a.example", {}, "no user or password"),
        ("https://:canary@a.example", {}, "no user or password"),
        ("https://a.example?canary=1", {"is_bare": True}, "no query"),
        ("https://a.example#canary", {"is_bare": True}, "no fragment"),
        ("http://canary.example", {"is_secure": True}, "must be https"),
    ],
)
def test_urls_are_refused(given_url: str, options: dict[str, bool], says: str) -> None:
    """A refusal says what is wrong and contains nothing of the URL, which may be a secret."""
    with pytest.raises(ValueError, match=says) as refused:
        http_url(given_url, **options)
    assert "canary" not in str(refused.value)


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    """Any text is a URL with a host, or refused with `ValueError`."""
    with suppress(ValueError):
        assert http_url(text).partition("://")[0].lower() in ("http", "https")


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "::", "localhost.example", "127.0.0.1.example", ""])
def test_others_are_not_this_machine(host: str) -> None:
    """An address that others reach, or a name that only resembles a loopback one, is not this machine alone."""
    assert not is_loopback(host)
