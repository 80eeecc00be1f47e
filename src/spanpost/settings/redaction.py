"""Settings of the section `redaction`: which secrets are removed from telemetry."""

from __future__ import annotations

import difflib
import re
from hashlib import sha512
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.readers.redaction import KeptKinds, RedactionRules, SecretPattern
from spanpost.settings.section import Section
from spanpost.text.secrets import ALL_KINDS

_KIND = re.compile(r"[a-z][a-z0-9-]{1,39}")
#: Allowed expressions: literals, classes and choices, each repeated a bounded number of times.
_ITEM = r"(?:\\[dwsbDWS.\\+*?^$(){}|\[\]/-]|\[\^?(?:\\.|[^\]\\\[])+\]|[A-Za-z0-9_ .:,;@#%&=/~<>!\"'-])"
_COUNT = r"(?:\?|\{\d{1,3}(?:,\d{1,3})?\})"
_BOUNDED = re.compile(rf"(?:{_ITEM}{_COUNT}?|\(\?:|\||\)(?!\?|\{{))+")
_BEGINNING = re.compile(r"(?:[A-Za-z0-9_:@#%&=/~-]|\\[.+*?^$(){}|\[\]/-]){3}")
#: Maximum number of ways to match at one position; and the largest repeat count.
_MOST_WAYS, _MOST_COUNT = 200, 200


class PatternSettings(Section, SecretPattern):
    """Your own kind of secret."""

    kind: str = Field(
        description="Name that replaces the secret: `[redacted:acme-key:32:…]`. Lower-case letters, digits and `-`."
    )
    pattern: Annotated[str, Field(min_length=4, max_length=200)] = Field(
        description="Regular expression of the secret. It begins with at least three plain characters and has no "
        "unbounded repeats: `acme_[A-Za-z0-9]{32}`. `*`, `+`, lookarounds, back references and repeated "
        "groups are refused, so that no text can block the intake."
    )

    @field_validator("kind")
    @classmethod
    def _is_kind(cls, value: str) -> str:
        if not _KIND.fullmatch(value):
            raise ValueError("a kind is lower-case letters, digits and `-`, at most 40, and begins with a letter")
        if value in ALL_KINDS:
            raise ValueError(f"{value!r} is a kind that is known already: choose another name")
        return value

    @field_validator("pattern")
    @classmethod
    def _is_bounded(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        if not _BEGINNING.match(value) or _has_choice_outside(value):
            raise ValueError(
                f"{value!r} has to begin with three plain characters, so that it is looked for quickly: `acme_...`"
            )
        if not _BOUNDED.fullmatch(value):
            raise ValueError(
                f"{value!r} repeats without a bound, or holds an expression that is not accepted: "
                "write `{1,64}` for `+` and `{0,64}` for `*`, `(?:...)` for a group, and repeat no group"
            )
        ways = value.count("?") - value.count("(?:") + 1
        product = max(ways, 1)
        for least, most in re.findall(r"\{(\d+)(?:,(\d+))?\}", value):
            product *= int(most or least) - int(least) + 1
            if int(most or least) > _MOST_COUNT:
                raise ValueError(f"{value!r} repeats more than {_MOST_COUNT} times")
        if product > _MOST_WAYS:
            raise ValueError(f"{value!r} can match in too many ways at one place: make its bounds narrower")
        return value


class TenantRedactionSettings(Section, KeptKinds):
    """Differences for one tenant."""

    off: tuple[str, ...] = Field(
        default=(), description="Kinds of secrets that are not removed from the telemetry of this tenant either."
    )


class RedactionSettings(Section, RedactionRules):
    """Secrets are removed from all telemetry before it is stored, posted or counted."""

    enabled: bool = Field(default=True, description="Remove secrets.")
    off: tuple[str, ...] = Field(
        default=(),
        description="Kinds of secrets that are not removed. `spanpost check` shows how many kinds are on; a misspelt "
        "kind is refused with the list.",
    )
    tenants: dict[str, TenantRedactionSettings] = Field(
        default={}, description='Settings of single tenants: `{"acme" = {off = ["jwt"]}}`.'
    )
    patterns: tuple[PatternSettings, ...] = Field(
        default=(), max_length=50, description="Kinds of secrets of your own."
    )
    hash_key: SecretStr | None = Field(
        default=None,
        description="Key of the hashes that replace secrets, at least 32 characters. Not given: a random key in the "
        "database, or one per process without a database. A process that forwards should have the gateway's key.",
    )

    @field_validator("hash_key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError(
                "hash_key is too short: give at least 32 random characters, as `openssl rand -hex 32` prints them"
            )
        return value

    @model_validator(mode="after")
    def _are_known(self) -> RedactionSettings:
        kinds = [one.kind for one in self.patterns]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise ValueError(f"patterns: {twice[0]!r} is there twice: give each a name of its own")
        known = (*ALL_KINDS, *kinds)
        for where, off in (
            ("off", self.off),
            *((f"tenants.{name}.off", one.off) for name, one in self.tenants.items()),
        ):
            for kind in off:
                if kind not in known:
                    near = difflib.get_close_matches(kind, known, n=1)
                    meant = f" (did you mean {near[0]!r}?)" if near else ""
                    raise ValueError(
                        f"{where}: there is no kind {kind!r}{meant}; there are: {', '.join(sorted(known))}"
                    )
        return self

    @property
    def key(self) -> bytes:
        """Key of the hashes, at most 64 bytes; empty where none is set."""
        key = self.hash_key.get_secret_value().encode() if self.hash_key is not None else b""
        return key if len(key) <= 64 else sha512(key).digest()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are looked for in the telemetry of all tenants."""
        return tuple(kind for kind in (*ALL_KINDS, *(one.kind for one in self.patterns)) if kind not in self.off)


def _has_choice_outside(pattern: str) -> bool:
    """Return whether a choice stands outside of all groups: then only its first branch must begin like the
    whole.
    """
    depth = 0
    for at, c in enumerate(re.sub(r"\\.|\[\^?(?:\\.|[^\]\\])+\]", "xx", pattern)):
        depth += (c == "(") - (c == ")")
        if c == "|" and not depth:
            return at >= 0
    return False
