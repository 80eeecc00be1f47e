"""The scanner: independent secrets that it finds, ordinary text that it leaves alone, and its cost."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.text.names import Strength, verdict
from spanpost.text.rules import TextRules
from spanpost.text.sanitise import scrub
from spanpost.text.secrets import ALL_KINDS, Scanner, is_redacted, unhashed
from tests.text import ordinary, realistic

KEY = b"k" * 32
MEASURED = Path(__file__).parent / "measured.json"
GITHUB = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


def rate(cases: list[realistic.Case]) -> tuple[float, list[str]]:
    """Return the share of removed secrets, and those left."""
    scanner = Scanner(KEY)
    left = [f"{case.what}: {case.text[:120]}" for case in cases if case.secret in scanner.scan(case.text)]
    return 1 - len(left) / len(cases), left


@pytest.mark.proves("redacted")
@pytest.mark.parametrize("source", [realistic.by_form, realistic.by_name, realistic.by_place])
@pytest.mark.parametrize("seed", [1, 2026])
def test_realistic_secrets_are_found(source, seed):
    """At least 98 of 100 random secrets of the vendors' forms, beside names and in texts, are removed."""
    share, left = rate(list(source(seed)))
    assert share >= 0.98, left


@pytest.mark.slow
def test_ordinary_texts_are_left_alone():
    """At most 2 of 1,000 ordinary texts of recordings, docs, logs and packages are changed."""
    texts = [
        *ordinary.captured(),
        *ordinary.documents(),
        *ordinary.logged(),
        *itertools.islice(ordinary.described(), 0, None, 5),
    ]
    scanner = Scanner(KEY)
    touched = [text[:200] for text in texts if scanner.scan(text) != text]
    assert len(texts) > 4_000
    assert len(touched) <= 2 * len(texts) / 1_000, touched


@pytest.mark.slow
def test_the_published_figures_are_measured():
    """The page of the reference and the guide show what the script measures, and at most 2 false alarms of 1,000."""
    published = json.loads(MEASURED.read_text())
    for name, source in {"forms": realistic.by_form, "places": realistic.by_place, "names": realistic.by_name}.items():
        kinds = {case.what for case in source(0)}
        found, count = (sum(column) for column in zip(*published[name].values(), strict=True))
        assert set(published[name]) == kinds
        assert count == published["seeds"] * len(list(source(0)))
        assert found / count - 0.01 <= rate(list(source(0)))[0]
    assert len(published["forms"]) + len(published["places"]) >= 40
    scanner = Scanner(KEY)
    assert sum(scanner.scan(text) != text for text in ordinary.captured()) == published["ordinary"]["captured"][0]
    assert all(1_000 * changed <= 2 * count or changed <= 1 for changed, count in published["ordinary"].values())


@pytest.mark.slow
def test_programs_that_speak_of_secrets_are_left_alone():
    """At most 2 of 1,000 lines about passwords and tokens, and of descriptions, are changed."""
    scanner = Scanner(KEY)
    for source in (ordinary.sources, ordinary.described):
        texts = list(source())
        touched = [text[:200] for text in texts if scanner.scan(text) != text]
        assert len(touched) <= 2 * len(texts) / 1_000, touched


@pytest.mark.parametrize(
    "text",
    [
        *(
            "basic authentication",
            "Bearer instruments",
            "secret=false",
            "api_key=None",
            "npm_config_registry=https://r.example",
        ),
        *(
            "hf_transfer_enabled_by_default",
            "xoxo-love-and-kisses",
            "ssh://git@github.com/acme/shop.git",
            "git@github.com:a/b.git",
        ),
        *(
            "max_tokens=1024, token_type=bearer",
            '"token_type": "Bearer"',
            "primary_key=id",
            "author: Ann Smith",
            "auth.method=password",
        ),
        *(
            "5f2b9c1e-7a4d-4f0e-9b1a-2c3d4e5f6a7b",
            "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
            "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
        *(
            "claude-3-5-sonnet-20241022",
            "manylinux2014_x86_64",
            "/usr/lib/python3.11/site-packages/aiohttp/client.py:1043",
        ),
        *("12,400 tokens: fine", "key: value", "https://example.com/a@b", "http://localhost:8080/x?mail=a@b.example"),
        *(
            "password=${DB_PASSWORD}",
            "password: <your password>",
            "token: ****",
            "--password PASSWORD",
            "use --token to log in",
        ),
        *(
            "password = getpass.getpass()",
            "self.token = token or os.environ['TOKEN']",
            "def login(user: str, password: str | None = None):",
        ),
        *(
            "the password is required",
            "your token is invalid",
            "secret/config/app",
            "password-protected",
            "token-based",
            "OAuth2 tokens",
        ),
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    ],
)
def test_what_only_resembles_a_secret_stays(text):
    """Words, ids, digests, models, paths, placeholders and programs are no secrets."""
    assert Scanner(KEY).scan(text) == text


def test_a_placeholder_has_kind_length_and_a_keyed_hash():
    """Equal secrets have equal hashes under one key only, and without the key nobody can test guesses."""
    other = GITHUB[:-1] + "b"
    found = Scanner(KEY).scan(f"{GITHUB} and {GITHUB} and {other}")
    hashes = re.findall(r"\[redacted:github-token:40:([0-9a-f]{10})\]", found)
    assert len(hashes) == 3
    assert hashes[0] == hashes[1] != hashes[2]
    assert Scanner(b"x" * 32).scan(GITHUB) != Scanner(KEY).scan(GITHUB)
    assert unhashed(Scanner(KEY).scan(GITHUB)) == Scanner().scan(GITHUB) == "[redacted:github-token]"


CASES = [case for source in (realistic.by_form, realistic.by_name, realistic.by_place) for case in source(7)]


@given(st.sampled_from(CASES), st.text(max_size=60), st.text(max_size=60))
def test_scanning_twice_is_scanning_once(case, before, after):
    """A scanned text stays as it is, in any context: a repeated span has equal content."""
    scanner = Scanner(KEY)
    once = scanner.scan(f"{before} {case.text} {after}")
    assert scanner.scan(once) == once


@given(st.lists(st.sampled_from(CASES), min_size=2, max_size=4))
def test_secrets_beside_each_other_are_all_found(cases):
    """Secrets on adjacent lines are found as often as each alone."""
    scanner = Scanner(KEY)
    left = [
        c.what
        for c in cases
        if c.secret in scanner.scan("\n\n".join(c.text for c in cases)) and c.secret not in scanner.scan(c.text)
    ]
    assert left == []


@given(st.text(max_size=400))
def test_any_text_is_taken(text):
    """No text raises, and the parts between placeholders are unchanged."""
    found = Scanner(KEY).scan(text)
    rest = re.split(r"\[redacted:[a-z0-9-]+:\d+:[0-9a-f]{10}\]", found)
    at = 0
    for part in rest:
        at = text.index(part, at) + len(part)
    assert is_redacted(found) or found == text


@pytest.mark.proves("redacted")
@pytest.mark.parametrize(
    "hidden",
    [
        GITHUB[:9] + "\u200b" + GITHUB[9:],
        GITHUB[:9] + "\u00ad" + GITHUB[9:],
        "\u202e" + GITHUB,
        "\x1b[1m".join((GITHUB[:20], GITHUB[20:])),
        "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in GITHUB),
        GITHUB[:15] + "\n" + GITHUB[15:],
        GITHUB[:15] + "\\\n    " + GITHUB[15:],
        GITHUB[:15] + "\\n" + GITHUB[15:],
        json.dumps(json.dumps({"password": GITHUB})),
        f"password%3D{GITHUB}",
        "Basic " + base64.b64encode(f"bob:{GITHUB}".encode()).decode(),
        "PASSWORD=" + "hunter2secret",
        "PassWord : " + "hunter2secret",
    ],
)
def test_a_disguise_hides_nothing(hidden):
    """Invisible characters, full width, colours, escapes, broken lines and capitals hide no secret."""
    found = Scanner(KEY).scan(f"x {hidden} y")
    assert GITHUB[15:] not in found
    assert "hunter2" not in found
    assert is_redacted(found)


@pytest.mark.proves("redacted", "regexes")
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [
        *(
            "a",
            "A",
            "\n",
            "\u200b",
            "\\",
            "key=",
            "key=key ",
            "password=",
            "password is ",
            "token ",
            "token for ",
            "<password>",
            '"password", "',
        ),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "eyJ",
            "eyJaaaaaaaaa.",
            "sk-",
            "ghp_aaaa",
            "ghp_abcdefgh\n",
            "xoxb-1",
        ),
        *(
            "://",
            "://a:",
            "://a:b/",
            "a@",
            "curl -u ",
            "mysql -p",
            "bearer ",
            "authorization: ",
            "cookie: a=b; ",
            "Private-Lines: 1\nAAAA",
            "&&",
        ),
        *(
            ' secret \\\\\\\\"',
            "machine a ",
            "pat.",
            "1/1234567890123456/",
            "JQQJ9",
            "AAAAAAAA\n",
            "0123456789abcdef-",
            '"d":"',
            "?code=a",
            "$2b$",
            "[redacted:",
        ),
    ],
)
@pytest.mark.timeout(60)
def test_no_text_takes_long(seed):
    """A text of 300,000 characters that begins a secret repeatedly takes linear time, not half an hour."""
    text = (seed * (300_000 // len(seed) + 1))[:300_000]
    assert Scanner(KEY).scan(text)


def test_kinds_can_be_left_alone():
    """A disabled kind is kept, the rest is removed."""
    scanner = Scanner(KEY, TextRules(off=frozenset({"github-token"})))
    assert GITHUB in scanner.scan(f"{GITHUB} password=hunter2!x")
    assert "hunter2" not in scanner.scan(f"{GITHUB} password=hunter2!x")
    assert "github-token" in ALL_KINDS


def test_what_was_replaced_is_counted_by_kind():
    """A counter has the number of replaced secrets by kind, and nothing of their text."""
    scanner = Scanner(KEY)
    scanner.scan(f"{GITHUB} {GITHUB} password=hunter2!x")
    assert scanner.found == Counter({"github-token": 2, "password": 1})


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        *((n, Strength.STRONG) for n in ("password", "DB_PASS", "dbPassword", "clientSecret", "api-key", "X-Api-Key",
                                         "http.request.header.authorization",
                                         "SECRET_KEY_BASE", "access_token", "AWS_SECRET_ACCESS_KEY", "refreshToken",
                                         "http.request.header.cookie",
                                         "private_key", "db.password", "password2", "authToken", "signing_key",
                                         "credentials", "PGPASSWORD")),
        *((n, Strength.WEAK) for n in ("signature", "sig", "auth", "private_key_id", "STRIPE_KEY")),
        *((n, Strength.NONE) for n in ("gen_ai.usage.input_tokens", "max_tokens", "token_type", "primary_key", "key",
                                       "author", "auth.method", "session.id",
                                       "gen_ai.token.type", "tokenizer", "tokens", "llm.token_count.prompt",
                                       "public_key", "k8s.secret.name", "cache_key",
                                       "next_page_token", "has_password", "eos_token", "secret_arn", "token_limit",
                                       "monkey", "keyboard", "authority")),
    ],
)  # fmt: skip
def test_a_name_says_how_sure_it_is(name, strength):
    """Names of secrets are distinguished from names of counts, types, ids and places, in any spelling."""
    assert verdict(name).strength is strength


def test_an_alphabetic_password_is_distinguished_from_a_name() -> None:
    """A password of random letters in a sentence is removed, and the name of a function stays."""
    assert scrub("the password is LJnGcxphUhYtQC now") == "the password is [redacted:password] now"
    assert scrub("the password is getUserPasswordFromStore") == "the password is getUserPasswordFromStore"
