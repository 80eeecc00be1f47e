"""Settings of the section `webhooks`: which providers may send requests, how they sign them, and what each
request does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.interactions.webhooks.base import Does
from spanpost.interactions.webhooks.schemes import SCHEMES, WINDOW, Algorithm, Scheme, key_of
from spanpost.launchers.registry import NAME
from spanpost.settings.conditions import Words
from spanpost.settings.section import Section
from spanpost.text.templates import mistake

_Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$", to_lower=True)]


class SignatureSettings(Section):
    """Signature of a provider with no known scheme: an HMAC over id, timestamp and raw body, in a header."""

    signature_header: _Header = Field(description="Header with the signature.")
    prefix: str = Field(default="", max_length=40, description="Text before the signature, e.g. `sha256=`.")
    separator: str = Field(default="", max_length=1, description="Character between several signatures in the header.")
    timestamp_header: _Header | None = Field(default=None, description="Header with the time.")
    timestamp_prefix: str = Field(
        default="", max_length=40, description="Or its prefix among the signatures, e.g. `t=`."
    )
    timestamp_unit: Literal["s", "ms"] = Field(
        default="s", description="Unit of the time: seconds (`s`) or milliseconds (`ms`) since 1970."
    )
    id_header: _Header | None = Field(default=None, description="Header with the request's id, if that is signed too.")
    signed: str = Field(
        default="{timestamp}.{body}",
        max_length=200,
        description="The signed text, made of `{id}`, `{timestamp}` and `{body}`.",
    )
    encoding: Literal["hex", "base64"] = Field(default="hex", description="Encoding of the signature.")
    key: Literal["text", "base64"] = Field(
        default="text", description="Form of the secret: a text, or base64 of the key."
    )
    algorithm: Algorithm = Field(default="sha256", description="Hash algorithm of the HMAC.")

    @model_validator(mode="after")
    def _is_whole(self) -> SignatureSettings:
        if self.signed.count("{body}") != 1:
            raise ValueError("signed: must hold {body} once")
        has_time = bool(self.timestamp_header or self.timestamp_prefix)
        if has_time is not ("{timestamp}" in self.signed):
            raise ValueError("signed: {timestamp} must be signed where there is one, and only there")
        if bool(self.id_header) is not ("{id}" in self.signed):
            raise ValueError("signed: {id} must be signed where there is one, and only there")
        return self


class DoesSettings(Section, Does):
    """What a request does: the first whose conditions it meets. Placeholders in texts are fields of its
    JSON body: `{issue.title}`.

    `{header.<name>}` is a header. A field that the body lacks is empty.
    """

    when: dict[str, Words] = Field(
        default={},
        description='Conditions on fields: `{"action" = "labeled", "header.x-github-event" = "issues"}`. A word, or a '
        "list of words of which one must match; `*` matches any text.",
    )
    start: str = Field(default="", description="Start work by this launcher of `launchers.named`.")
    text: str = Field(
        default="", max_length=4_000, description="The work to do, for the launcher; or the text of a `message`."
    )
    parameters: dict[str, str] = Field(default={}, description="Parameters of the launcher by name.")
    task: str = Field(default="", description="Or: the id of a task to act on.")
    verb: Literal["message", "cancel", "pause", "resume", "mute", "unmute"] = Field(
        default="message", description="The action; `text` is the text of a message, or the reason."
    )
    approval: str = Field(default="", description="Or: the id of a question to decide.")
    decision: str = Field(
        default="", description="The decision: `approve`, `deny` or one of its options. `text` is the comment."
    )
    by: str = Field(default="", description="Name of the author for people; empty: the provider's name.")

    @model_validator(mode="after")
    def _does_one_thing(self) -> DoesSettings:
        asked = [name for name in ("start", "task", "approval") if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"does one thing: say one of start, task and approval, not {' and '.join(asked)}")
        if bool(self.approval) is not bool(self.decision):
            raise ValueError("approval and decision belong together")
        for name in ("text", "task", "approval", "decision", "by"):
            if why := mistake(getattr(self, name)):
                raise ValueError(f"{name}: {why}")
        for name, text in self.parameters.items():
            if why := mistake(text):
                raise ValueError(f"parameters.{name}: {why}")
        return self


class ProviderSettings(Section):
    """A program that sends requests to ``/hooks/<name>``."""

    scheme: str | None = Field(
        default=None, description="Signature scheme: `standard` (Standard Webhooks), `github`, `stripe` or `slack`."
    )
    signature: SignatureSettings | None = Field(default=None, description="Or a signature of another form.")
    secret: SecretStr = Field(description="Key of its signatures, at least 16 bytes. Never printed.")
    old_secret: SecretStr | None = Field(default=None, description="The previous secret, while it is replaced.")
    idempotency_key: str = Field(
        default="",
        description="Identity of an event that may be sent twice, from its body: `{id}`. Not given: its signed id, "
        "else the request itself.",
    )
    window: float = Field(
        default=WINDOW,
        ge=1,
        le=1_800,
        description="Largest difference between the signed time of a request and the gateway's clock, seconds. At most "
        "half an hour: requests are remembered for an hour, and none may be replayed after that.",
    )
    tenant: str | None = Field(default=None, min_length=1, description="Tenant; not given: the gateway's own tenant.")
    does: tuple[DoesSettings, ...] = Field(
        default=(),
        description="What a request does, in order; a request that meets no condition is accepted and ignored.",
    )

    @field_validator("scheme")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in SCHEMES:
            raise ValueError(f"there is no such scheme (known: {', '.join(SCHEMES)}); declare another by signature")
        return value

    @model_validator(mode="after")
    def _fits(self) -> ProviderSettings:
        if (self.scheme is None) is (self.signature is None):
            raise ValueError("says how it signs by either scheme or signature")
        for name in ("secret", "old_secret"):
            secret = getattr(self, name)
            try:
                if secret is not None:
                    key_of(secret.get_secret_value(), self.declared)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if why := mistake(self.idempotency_key):
            raise ValueError(f"idempotency_key: {why}")
        return self

    @property
    def declared(self) -> Scheme:
        """The signature scheme."""
        if self.scheme is not None:
            return SCHEMES[self.scheme]
        assert self.signature is not None
        said = self.signature.model_dump()
        fields: dict[str, Any] = {name: value if value is not None else "" for name, value in said.items()}
        return Scheme(**fields)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that verify signatures."""
        secrets = [one for one in (self.secret, self.old_secret) if one is not None]
        return tuple(key_of(one.get_secret_value(), self.declared) for one in secrets)


class HooksSettings(Section):
    """Requests of other programs, at the gateway's ``/hooks/<name>``."""

    providers: dict[str, ProviderSettings] = Field(
        default={},
        description="Programs that may send requests, each a `[webhooks.providers.<name>]` (see [start "
        "work](../how-to/start-work.md)).",
    )
    max_body: int = Field(default=1_048_576, ge=1_024, le=26_214_400, description="Maximum bytes of a request.")

    @field_validator("providers")
    @classmethod
    def _are_named(cls, value: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name in value:
            if not NAME.fullmatch(name) or len(name) > 60:
                raise ValueError(
                    f"{name[:60]!r}: a name is lower-case words of letters and digits, joined by single - or _"
                )
        return value
