"""Redaction: secrets and disguises are removed, and texts cut between characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.text.sanitise import ELLIPSIS, MARKS, cut, is_redacted, line, link, paragraph, scrub, strip

# Written in halves, so that no scanner takes this file for a leak.
SECRETS = [
    "xox" + "b-123456789012-abcdefghijkl",
    "xox" + "e.xoxp-1-Mi0yLTEyMzQ1Njc4",
    "xap" + "p-1-A012-3456-abcdef0123",
    "sk" + "-proj-abcdefghijklmnop1234",
    "sk" + "-ant-api03-abcdefghijklmnop1234",
    "sk" + "_live_abcdefghijklmnop1234",
    "gh" + "p_abcdefghijklmnopqrstuvwxyz0123456789",
    "github" + "_pat_11ABCDEFG0abcdefghij_klmnop",
    "glpat" + "-abcdefghij0123456789",
    "AKI" + "AIOSFODNN7EXAMPLE",
    "AIz" + "aSyA1234567890abcdefghijklmnopqrstuv",
    "ey" + "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA\nabc-def\n"
    "-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s[:8])
def test_known_secrets_are_scrubbed(secret):
    """Each kind of secret is removed anywhere in a sentence, and the sentence stays."""
    for text in (secret, f"used {secret}, it failed", f'{{"a": "{secret}"}}', f"({secret})"):
        begin, _, end = text.partition(secret)
        found = scrub(text)
        assert found.startswith(f"{begin}[redacted:")
        assert found.endswith(f"]{end}")
        assert is_redacted(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://bob:s3cr3t@db/x", "postgres://bob:[redacted:url-credentials]@db/x"),
        (
            "https://a:p@ss@host/x?mail=me@example.com",
            "https://a:[redacted:url-credentials]@host/x?mail=me@example.com",
        ),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted:authorization]"),
        ("https://hooks.slack.com/services/T0/B0/abc", "https://hooks.slack.com/services/[redacted:webhook-url]"),
        ("login?password=hunter22&x=1", "login?password=[redacted:password]&x=1"),
        ('{"api_key": "abcd1234"}', '{"api_key": "[redacted:api-key]"}'),
        ("-----BEGIN PRIVATE KEY-----\nMIIEcutoff", "[redacted:private-key]"),
    ],
)
def test_secrets_known_by_their_place_are_scrubbed(text, expected):
    """User info of an address, bearer tokens, webhooks and named fields lose the secret and keep the name."""
    assert scrub(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "task-1234567890abcdefghij",
        "12,400 tokens: fine",
        "risk-free assessment",
        "see https://example.com/a@b",
        "basic tests",
        "sky",
        "key: value",
    ],
)
def test_ordinary_text_is_left_alone(text):
    """Text that only resembles a secret is not changed."""
    assert scrub(text) == text


@given(st.text(max_size=300), st.sampled_from(SECRETS), st.text(max_size=50))
def test_scrubbing_twice_is_scrubbing_once(before, secret, after):
    """A scrubbed text stays as it is, in any context."""
    once = scrub(f"{before} {secret} {after}")
    assert scrub(once) == once
    assert secret not in once


def test_an_invisible_character_does_not_hide_a_secret():
    """A zero-width space inside a token does not hide it from the pattern: stripping comes first."""
    secret = SECRETS[0]
    assert line(secret[:9] + "\u200b" + secret[9:], 100) == "[redacted:slack-token]"


@pytest.mark.proves("literal", "bidi")
@given(st.text(alphabet=st.characters(), max_size=400))
def test_stripped_text_holds_nothing_that_steers(text):
    """Stripped text of any input has no control, format or surrogate character and no stacked marks."""
    out = strip(text)
    assert all(ch == "\n" or ch == "\u200d" or unicodedata.category(ch) not in ("Cc", "Cf", "Cs") for ch in out)
    run = 0
    for ch in out:
        run = run + 1 if unicodedata.category(ch) in ("Mn", "Me") else 0
        assert run <= MARKS
    assert strip(out) == out
    out.encode()


def test_terminal_sequences_go_as_a_whole():
    """A colour or a window title is removed completely."""
    assert strip("a\x1b[31mred\x1b[0m\x1b]0;title\x07b") == "aredb"


def test_emoji_survive():
    """A family, a flag and a skin tone are unchanged."""
    text = "👩‍👩‍👧‍👦 🇩🇪 ✋🏽 ⚙️ é"
    assert strip(text) == text


@given(st.text(max_size=200), st.integers(0, 60))
def test_cut_keeps_the_limit_and_is_a_prefix(text, limit):
    """A cut text is no longer than the limit, begins as the text did, and ends with a sign of the cut."""
    out = cut(text, limit)
    assert len(out) <= limit
    if len(text) <= limit:
        assert out == text
    elif limit:
        assert out.endswith(ELLIPSIS)
        assert text.startswith(out[:-1])


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧‍👦", "🇩🇪", "✋🏽", "é", "각"])
def test_cut_does_not_split_what_a_reader_sees_as_one(cluster):
    """At no limit does a part of a cluster remain."""
    text = "ab" + cluster * 3 + "cd"
    for limit in range(1, len(text)):
        kept = cut(text, limit)[:-1]
        assert kept.removeprefix("ab").replace(cluster, "") in ("", "a", "c"), (limit, kept)


@given(st.text(max_size=300), st.integers(1, 80))
def test_line_is_one_line(text, limit):
    """A line has no line feed and no surrounding space, and keeps its limit."""
    out = line(text, limit)
    assert "\n" not in out
    assert out == out.strip()
    assert len(out) <= limit


def test_a_log_keeps_its_end():
    """A cut log keeps its last lines."""
    text = "\n".join(f"line {i}" for i in range(1000))
    out = paragraph(text, 100, keep="tail")
    assert len(out) <= 100
    assert out.endswith("line 999")
    assert out.startswith(ELLIPSIS)


@pytest.mark.proves("literal", "urls")
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://slack.com@evil.example/",
        "https://user:pw@example.com/",
        "https://example.com/a|b",
        "https://example.com/>x",
        "https://",
        "http://[::1",
        "https://exa\u202emple.com/",
        "ftp://example.com/",
        "https://example.com/?token=" + SECRETS[0],
    ],
)
def test_unsafe_addresses_are_no_links(url):
    """Other schemes, users, disguises, secrets and unparseable addresses are not linked."""
    assert link(url) is None


def test_a_safe_address_is_itself():
    """http and https addresses pass unchanged."""
    assert link("https://example.com/a?b=1&c=2#d") == "https://example.com/a?b=1&c=2#d"


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [
        *("a://", "x://::::", "sk-", "xoxb-", "eyJ", "eyJaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "password="),
        *('"secret": "', "bearer ", "a\u0301", "-", "\x1b[", "\x1b]", "\u200b"),
    ],
)
@pytest.mark.timeout(60)
def test_no_pattern_backtracks_over_its_input(seed):
    """A text of 300,000 characters that begins a secret repeatedly takes linear time, not half an hour."""
    text = (seed * (300_000 // len(seed) + 1))[:300_000]
    assert scrub(text)
    assert isinstance(strip(text), str)
