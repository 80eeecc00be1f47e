"""Settings of the section `redaction`: what is removed from telemetry before it is written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from hashlib import sha512
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.readers.identity import IDENTITY
from spanpost.readers.redaction import RedactionRules, TenantRules
from spanpost.settings.section import Section
from spanpost.text.patterns import MOST_LENGTH
from spanpost.text.rules import UNNAMED, RedactionAction, RedactionRule, TelemetryPart, fault
from spanpost.text.secrets import ALL_KINDS

_NAME = re.compile(r"[a-z][a-z0-9-]{1,39}")
#: Rules of all tenants, and of one.
MOST_RULES = 200
_ATTRIBUTE = Annotated[str, Field(max_length=MOST_LENGTH)]


class RedactionRuleSettings(Section, RedactionRule):
    """One rule: what it selects, and what happens with it. A text is selected if it meets all conditions of the
    rule. Where several rules select the same text, `keep` wins, then `drop`, `redact`, `hash`, then the built-in scan.
    """

    action: RedactionAction = Field(
        description="`hash`: a marker with the length and a keyed hash, `[redacted:acme-key:32:…]`; equal texts stay "
        "equal. `redact`: a marker without a hash, `[redacted:acme-key]`. `drop`: the whole attribute is removed; a "
        "text outside attributes, such as a span's name, becomes the marker. `keep`: the selected text stays, and "
        "only that text."
    )
    attributes: tuple[_ATTRIBUTE, ...] = Field(
        default=(),
        max_length=50,
        description="Names of attributes: `user.email`, `http.request.header.*`; `*` is any text, `?` any "
        "character, and capitals do not matter. Maps within attributes are named by their path. Attributes "
        "that identify tasks, sessions and calls are refused here, and no `*` includes them.",
    )
    parts: tuple[TelemetryPart, ...] = Field(
        default=(),
        description="Parts of telemetry: `span_name`, `span` (attributes of spans and links), `event` (attributes and "
        "body of events), `log` (attributes and body of other log records), `resource`, `scope`, `error` (status "
        "messages, `exception.*`, `error.*`), `alert`, `webhook`. Not given: all.",
    )
    pattern: str = Field(
        default="",
        max_length=MOST_LENGTH,
        description="Regular expression of the text. It has three plain characters in a row and no unbounded "
        "repeats: `acme_[A-Za-z0-9]{32}`, `[a-z.]{1,40}@example\\.com`. `*`, `+`, lookarounds, back "
        "references and repeated groups are refused, so that no text can block the intake.",
    )
    kinds: tuple[str, ...] = Field(
        default=(),
        description="Kinds of secrets that the built-in scan finds, and names of other rules; a misspelt kind is "
        "refused with the list.",
    )
    name: str = Field(
        default=UNNAMED,
        description="Word of the marker and of the metric `spanpost_redactions_total`: lower-case letters, digits "
        "and `-`.",
    )

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a name is lower-case letters, digits and `-`, at most 40, and begins with a letter")
        if value in ALL_KINDS:
            raise ValueError(f"{value!r} is a kind that is known already: choose another name")
        return value

    @model_validator(mode="after")
    def _is_rule(self) -> RedactionRuleSettings:
        if wrong := fault(self):
            raise ValueError(wrong)
        if self.action is not RedactionAction.KEEP and (ids := [one for one in self.attributes if one in IDENTITY]):
            raise ValueError(
                f"attributes: {ids[0]!r} identifies a task, a session, a call or a process: spanpost looks it up and "
                "joins by it, so that no rule changes it; leave it out here, and let the agent send another value"
            )
        return self


class TenantRedactionSettings(Section, TenantRules):
    """Rules of one tenant, besides those of all."""

    rules: tuple[RedactionRuleSettings, ...] = Field(
        default=(), max_length=MOST_RULES, description="Rules of this tenant."
    )


class RedactionSettings(Section, RedactionRules):
    """Secrets, and what rules select, are removed from all telemetry before it is stored, posted or counted."""

    enabled: bool = Field(default=True, description="Remove secrets, and apply the rules.")
    rules: tuple[RedactionRuleSettings, ...] = Field(
        default=(), max_length=MOST_RULES, description="Rules for the telemetry of all tenants."
    )
    tenants: dict[str, TenantRedactionSettings] = Field(
        default={}, description="Rules of single tenants: `[[redaction.tenants.acme.rules]]`."
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
        _check_kinds("rules", self.rules, self.rules)
        for name, one in self.tenants.items():
            _check_kinds(f"tenants.{name}.rules", one.rules, (*self.rules, *one.rules))
        return self

    @property
    def key(self) -> bytes:
        """Key of the hashes, at most 64 bytes; empty where none is set."""
        key = self.hash_key.get_secret_value().encode() if self.hash_key is not None else b""
        return key if len(key) <= 64 else sha512(key).digest()


def _check_kinds(where: str, rules: Iterable[RedactionRule], all_: Iterable[RedactionRule]) -> None:
    known = (*ALL_KINDS, *{rule.name for rule in all_ if rule.name != UNNAMED})
    for n, rule in enumerate(rules):
        for kind in rule.kinds:
            if kind not in known:
                near = difflib.get_close_matches(kind, known, n=1)
                meant = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(
                    f"{where}.{n}.kinds: there is no kind {kind!r}{meant}; there are: {', '.join(sorted(known))}"
                )
