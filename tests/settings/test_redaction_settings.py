"""Redaction settings: misspelt kinds and dangerous patterns are refused at the start, with a next step."""

from __future__ import annotations

import re

import pytest

from spanpost.cli.examination import examine
from spanpost.model.errors import ConfigError
from spanpost.readers.redaction import Redaction
from spanpost.runtime import assembly
from spanpost.settings import RedactionSettings, load
from spanpost.text.secrets import ALL_KINDS

pytestmark = pytest.mark.usefixtures("clean_environment")

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


def redaction(**section: object) -> Redaction | None:
    return assembly.redaction_of(load(database={"embedded": False}, redaction=section))


def test_it_is_on_unless_it_is_turned_off():
    """Secrets are redacted by default; `enabled = false` keeps them."""
    assert redaction() is not None
    assert redaction(enabled=False) is None


def keep(*kinds: str) -> dict[str, object]:
    return {"action": "keep", "kinds": kinds}


@pytest.mark.parametrize(
    "section", [{"rules": [keep("github-tokens")]}, {"tenants": {"acme": {"rules": [keep("github-tokens")]}}}]
)
def test_a_misspelt_kind_is_refused(section):
    """The message names the closest kind and all kinds."""
    with pytest.raises(
        ConfigError, match=r"there is no kind 'github-tokens' \(did you mean 'github-token'\?\).*anthropic-key"
    ):
        redaction(**section)


def test_kinds_stay_where_they_are_turned_off():
    """A disabled kind is kept, for all tenants or for one."""
    made = redaction(rules=[keep("jwt")], tenants={"acme": {"rules": [keep("github-token")]}})
    assert made is not None
    assert made.of("acme").text(TOKEN) == TOKEN
    assert made.of("other").text(TOKEN) != TOKEN


def test_kinds_of_ones_own_are_taken_out():
    """A pattern adds a kind, by its name in the placeholder; it can be turned off for a tenant."""
    made = redaction(
        rules=[{"action": "hash", "name": "acme-key", "pattern": r"acme_[a-z0-9]{8}"}],
        tenants={"acme": {"rules": [keep("acme-key")]}},
    )
    assert made is not None
    assert made.of("x").text("my acme_ab12cd34 here") == "my [redacted:acme-key] here"
    assert made.of("acme").text("my acme_ab12cd34 here") == "my acme_ab12cd34 here"


@pytest.mark.proves("settings", "regexes")
@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "acme_[a-z]+",
            "acme_.*",
            "acme_(?:ab){2,9}",
            r"acme_(\w)\1",
            "acme_(?=x)",
            "acme_[a-z]{1,}",
            "acme_[a-z]{1,500}",
            "acme_[",
            "a",
            "[a-z]{32}",
        ),
        *("acme_|b", "acme_[a-z]{1,50}[a-z]{1,50}", "acme_a?a?a?a?a?a?a?a?[a-z]{1,100}", "acme_[a-z]{1,9}+"),
    ],
)
def test_a_pattern_that_could_take_long_is_refused(pattern):
    """Unbounded and grouped repeats, look-arounds, back references and patterns without a start are refused."""
    with pytest.raises(ConfigError, match=r"redaction"):
        redaction(rules=[{"action": "hash", "name": "acme-key", "pattern": pattern}])


@pytest.mark.proves("settings", "regexes")
@pytest.mark.parametrize(
    "pattern",
    [r"acme_[A-Za-z0-9]{32}", r"ACME-\d{4}-(?:live|test)-[0-9a-f]{16,64}", r"cust:[\w-]{8,64}", r"x\.y\.z[.]?[a-z]{3}"],
)
@pytest.mark.timeout(30)
def test_a_pattern_that_is_taken_is_done_with_any_text(pattern):
    """A text that begins a match again and again is scanned in time that grows with the text."""
    made = RedactionSettings(rules=[{"action": "hash", "name": "acme-key", "pattern": pattern}])
    compiled = re.compile(made.rules[0].pattern)
    begun = pattern.split("[")[0].replace("\\", "")[:8]
    text = (begun + "a" * 40) * 20_000 + begun * 50_000
    assert len(compiled.sub("", text)) <= len(text)


@pytest.mark.parametrize(
    "section",
    [
        {"hash_key": "short"},
        {"rules": [{"action": "hash", "name": "jwt", "pattern": "acme_x"}]},
        {"rules": [{"action": "hash", "name": "A B", "pattern": "acme_x"}]},
    ],
)
def test_what_cannot_be_is_refused(section):
    """A short key, an already known kind and a kind that is no word are refused."""
    with pytest.raises(ConfigError, match="redaction"):
        redaction(**section)


def test_the_settings_key_comes_before_the_databases():
    """With a key in the settings, processes with different databases make the same hashes; it is never
    printed.
    """
    key = "0123456789abcdef0123456789abcdef"
    first, second = redaction(hash_key=key), redaction(hash_key=key)
    assert first is not None
    assert second is not None
    first.keyed(b"a" * 32)
    second.keyed(b"b" * 32)
    assert first.of("x").text(TOKEN) == second.of("x").text(TOKEN)
    assert key not in repr(load(database={"embedded": False}, redaction={"hash_key": key}))


def test_check_reports_what_is_redacted():
    """`spanpost check` reports how many kinds are on, which are kept, and whether redaction is off."""
    [on] = [
        f
        for f in examine(
            load(
                database={"embedded": False},
                redaction={"rules": [keep("jwt")], "tenants": {"acme": {"rules": [keep("token")]}}},
            )
        )
        if f.name == "redaction"
    ]
    assert f"{len(ALL_KINDS) - 1} kinds" in on.finding
    assert "jwt are kept" in on.finding
    assert "acme" in on.finding
    [off] = [
        f for f in examine(load(database={"embedded": False}, redaction={"enabled": False})) if f.name == "redaction"
    ]
    assert off.finding.startswith("off")
    assert off.next_step
