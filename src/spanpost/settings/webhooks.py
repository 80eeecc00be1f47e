"""Settings of the room `hooks`: which providers may send requests, how they sign them, and what is made of those."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.interactions.webhooks.schemes import SCHEMES, Algorithm, Scheme, key_of
from spanpost.launchers.registry import NAME
from spanpost.settings.routes import Words
from spanpost.settings.section import Section
from spanpost.text.templates import mistake

_Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$", to_lower=True)]


class SignatureSettings(Section):
    """How a provider signs that is none of the known: an HMAC over id, timestamp and raw body, in a header."""

    signature_header: _Header = Field(description="Header with the signature.")
    prefix: str = Field(default="", max_length=40, description="What stands before it, e.g. `sha256=`.")
    separator: str = Field(default="", max_length=1, description="What parts several signatures in the header.")
    timestamp_header: _Header | None = Field(default=None, description="Header with the time, in Unix seconds.")
    timestamp_prefix: str = Field(
        default="", max_length=40, description="Or what stands before it among the signatures, e.g. `t=`."
    )
    id_header: _Header | None = Field(default=None, description="Header with the request's id, where that is signed too.")
    signed: str = Field(
        default="{timestamp}.{body}", max_length=200, description="What is signed, of `{id}`, `{timestamp}` and `{body}`."
    )
    encoding: Literal["hex", "base64"] = Field(default="hex", description="How the signature is written.")
    key: Literal["text", "base64"] = Field(default="text", description="What the secret is: a text, or base64 of the key.")
    algorithm: Algorithm = Field(default="sha256", description="Of the HMAC.")

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


class DoesSettings(Section):
    """What is made of a request: the first whose conditions it meets. Texts in braces are of its JSON body: `{issue.title}`.

    `{header.<name>}` is a header. What a body does not hold is empty.
    """

    when: dict[str, Words] = Field(
        default={},
        description='What must stand where: `{"action" = "labeled", "header.x-github-event" = "issues"}`. A word, or a list of which one must '
        "fit; `*` in it stands for anything.",
    )
    start: str | None = Field(default=None, description="Start work by this launcher of `launchers.named`.")
    text: str = Field(
        default="", max_length=4_000, description="What is to be done, for the launcher; or the words of a `message`."
    )
    parameters: dict[str, str] = Field(default={}, description="What the launcher is given by name.")
    task: str = Field(default="", description="Or: the id of a task that is asked something.")
    verb: Literal["message", "cancel", "pause", "resume", "mute", "unmute"] = Field(
        default="message", description="What it is asked; `text` are the words of a message, or the reason."
    )
    approval: str = Field(default="", description="Or: the id of a question that is decided.")
    decision: str = Field(default="", description="How: `approve`, `deny` or one of its options. `text` is the comment.")
    by: str = Field(default="", description="Who did it, for people; empty: the provider's name.")

    @model_validator(mode="after")
    def _does_one_thing(self) -> DoesSettings:
        asked = [name for name in ("start", "task", "approval") if getattr(self, name)]
        if len(asked) > 1:
            raise ValueError(f"does one thing: say one of start, task and approval, not {' and '.join(asked)}")
        if bool(self.approval) is not bool(self.decision):
            raise ValueError("approval and decision stand together")
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
        default=None, description="How it signs: `standard` (Standard Webhooks), `github`, `stripe` or `slack`."
    )
    signature: SignatureSettings | None = Field(default=None, description="Or how, where it is none of these.")
    secret: SecretStr = Field(description="Key of its signatures, of 16 bytes at least. Never printed.")
    old_secret: SecretStr | None = Field(default=None, description="The one before, while it is replaced.")
    idempotency_key: str = Field(
        default="",
        description="What an event is known by that may be sent twice, of its body: `{id}`. Not given: its signed id, else the request itself.",
    )
    tenant: str | None = Field(default=None, min_length=1, description="Whose it is; not given: the gateway's own tenant.")
    does: tuple[DoesSettings, ...] = Field(
        default=(), description="What is made of a request, in order; what meets none is taken and nothing is made of it."
    )

    @field_validator("scheme")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in SCHEMES:
            raise ValueError(f"there is no such scheme (there: {', '.join(SCHEMES)}); declare another by signature")
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
            raise ValueError(f"once: {why}")
        return self

    @property
    def declared(self) -> Scheme:
        """The scheme by which it signs."""
        if self.scheme is not None:
            return SCHEMES[self.scheme]
        assert self.signature is not None
        said = self.signature.model_dump()
        fields: dict[str, Any] = {name: value if value is not None else "" for name, value in said.items()}
        return Scheme(**fields)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys by which it may sign."""
        secrets = [one for one in (self.secret, self.old_secret) if one is not None]
        return tuple(key_of(one.get_secret_value(), self.declared) for one in secrets)


class HooksSettings(Section):
    """Requests of other programs, at the gateway's ``/hooks/<name>``."""

    providers: dict[str, ProviderSettings] = Field(
        default={}, description="Who may send them, each a `[webhooks.providers.<name>]` (see [start work](../how-to/start-work.md))."
    )
    max_body: int = Field(default=1_048_576, ge=1_024, le=26_214_400, description="Bytes of a request that is taken.")

    @field_validator("providers")
    @classmethod
    def _are_named(cls, value: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name in value:
            if not NAME.fullmatch(name) or len(name) > 60:
                raise ValueError(f"{name[:60]!r}: a name is lower-case words of letters and digits, joined by single - or _")
        return value
