"""Settings of the section `interactions`: how people's answers are received, and who may give them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from spanpost.interactions.authorization import ACTIONS, DECIDE, HERE, AuthorizationRules, CallerRole, Rule
from spanpost.settings.gateway import digests
from spanpost.settings.section import Duration, Section

_USER = re.compile(r"^[UW][A-Z0-9]{2,30}$")
_GROUP = re.compile(r"^S[A-Z0-9]{2,30}$")
_CHANNEL = re.compile(r"^[CG][A-Z0-9]{2,30}$")
_EMAIL = re.compile(r"^[^@\s<>]+@[^@\s<>]+$")
Word = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class RuleSettings(Section, Rule):
    """An authorization rule. The first rule that names the action and whose conditions are all met decides;
    without one the action is denied.
    """

    actions: tuple[Word, ...] = Field(
        min_length=1,
        description=f"Actions that the rule decides: {', '.join(f'`{action}`' for action in ACTIONS)}; "
        f"`{DECIDE}` stands "
        "for approve, deny and choose. `message` is an answer in the thread, `view` the button *Show more*, "
        "`start` new work by a launcher, `raise` the answer +20 % to a budget's question (beside `choose`).",
    )
    tenant: Word | None = Field(default=None, description="Decides about tasks of this tenant.")
    agent: Word | None = Field(default=None, description="Decides about tasks of the agent with this name.")
    topic: Word | None = Field(default=None, description="Decides about tasks with this `agent.topic`.")
    environment: Word | None = Field(
        default=None, description="Decides about tasks of this `deployment.environment.name`."
    )
    risk: Word | None = Field(default=None, description="Decides about approvals with this `agent.approval.risk`.")
    launcher: Word | None = Field(
        default=None, description="Decides about `start` by this launcher of `launchers.named`."
    )
    users: tuple[Word, ...] = Field(default=(), description="Slack user ids (`U...`) that are allowed.")
    groups: tuple[Word, ...] = Field(
        default=(),
        description="Slack user groups (`S...`) whose members are allowed. Needs the scope `usergroups:read`.",
    )
    channels: tuple[Word, ...] = Field(
        default=(),
        description=f"Channels (`C...`) whose members are allowed; `{HERE}` is the channel of the message. Needs "
        "`channels:read`, in private channels `groups:read`.",
    )
    emails: tuple[Word, ...] = Field(
        default=(), description="Email addresses that are allowed, as Slack knows them. Needs `users:read.email`."
    )
    roles: tuple[CallerRole, ...] = Field(
        default=(),
        description="Roles at the HTTP API that are allowed (`interactions.tokens`, `oidc`). If no rule decides there, "
        "an `operator` may act on tasks and an `approver` may decide.",
    )
    requester: bool = Field(
        default=False,
        description="Allows the person for whom the task runs, as the agent names them in `agent.requested_by` (see "
        "`people`).",
    )
    not_requester: bool = Field(
        default=False,
        description="Denies the person for whom the task runs, even if the rest of the rule allows them. If that "
        "person cannot be identified, everybody is denied.",
    )
    resolver: Word | None = Field(
        default=None,
        description="Allows everybody whom this resolver accepts: a plugin of the entry point group "
        "`spanpost.resolvers`.",
    )

    @field_validator("actions")
    @classmethod
    def _are_actions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, action in enumerate(value, 1):
            if action not in (*ACTIONS, DECIDE):
                raise ValueError(f"number {number} is no action; there are {', '.join((*ACTIONS, DECIDE))}")
        return value

    @field_validator("users", "groups", "channels", "emails")
    @classmethod
    def _are_ids(cls, value: tuple[str, ...], info: object) -> tuple[str, ...]:
        name = getattr(info, "field_name", "")
        form, example = {
            "users": (_USER, "a user id (U...), in Slack under Profile, Copy member ID"),
            "groups": (_GROUP, "a user group's id (S...), as in its address"),
            "channels": (_CHANNEL, f"a channel's id (C...), or {HERE}"),
            "emails": (_EMAIL, "an address"),
        }[name]
        for number, one in enumerate(value, 1):
            if not form.match(one) and not (name == "channels" and one == HERE):
                # Never the value: it may be a token that was pasted into the wrong place.
                raise ValueError(f"number {number} is not {example}")
        return value


def _one_word(value: SecretStr | None, prefix: str, what: str) -> SecretStr | None:
    text = value.get_secret_value().strip() if value is not None else ""
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be one word of ASCII, as Slack shows it")
    if not text.startswith(prefix):
        raise ValueError(what)
    return SecretStr(text)


class AppSettings(Section):
    """One Slack app in one workspace: how it receives events and is identified."""

    app_token: SecretStr | None = Field(
        default=None,
        description="App-level token (`xapp-...`, scope `connections:write`): Socket Mode, which needs no public "
        "address. Never printed.",
    )
    signing_secret: SecretStr | None = Field(
        default=None,
        description="Signing secret of the app: it verifies requests to the gateway's `/slack/events`. Never printed.",
    )
    old_signing_secret: SecretStr | None = Field(
        default=None, description="The previous signing secret, while it is replaced."
    )
    app_id: str = Field(
        default="",
        pattern=r"^(A[A-Z0-9]{2,30})?$",
        description="The app's id (`A...`). If set, requests for another app are refused.",
    )
    team: str = Field(
        default="",
        pattern=r"^([TE][A-Z0-9]{2,30})?$",
        description="The workspace's id (`T...`). Not given: that of the bot token, as Slack reports it.",
    )

    @field_validator("app_token")
    @classmethod
    def _is_an_app_token(cls, value: SecretStr | None) -> SecretStr | None:
        return _one_word(
            value, "xapp-", "is no app-level token (xapp-...); make one under Basic Information, App-Level Tokens"
        )

    @field_validator("signing_secret", "old_signing_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        return _one_word(value, "", "")

    @model_validator(mode="after")
    def _rotates(self) -> AppSettings:
        if self.old_signing_secret is not None and self.signing_secret is None:
            raise ValueError("old_signing_secret needs signing_secret: set that first")
        return self


class FurtherAppSettings(AppSettings):
    """Another app, or the same app in another workspace, with its own bot token."""

    workspace: str = Field(
        default="", description="Name in `slack.workspaces`; the bot token of that workspace is used."
    )
    token: SecretStr | None = Field(
        default=None, description="Bot token (`xoxb-...`), if `workspace` is not given. Never printed."
    )
    tenant: Word | None = Field(default=None, description="Tenant whose tasks may be answered there; not given: any.")

    @field_validator("token")
    @classmethod
    def _is_a_bot_token(cls, value: SecretStr | None) -> SecretStr | None:
        return _one_word(value, "xox", "is no bot token (xoxb-...)")

    @model_validator(mode="after")
    def _has_a_token(self) -> FurtherAppSettings:
        if (self.token is None) is not bool(self.workspace):
            raise ValueError("needs a bot token: say either workspace, a name in slack.workspaces, or token")
        return self


class ApiTokenSettings(Section):
    """A token of the HTTP API: its name and its roles."""

    name: Word = Field(description="Name shown to people as the author of actions with this token.")
    sha256: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = Field(
        description="Hash of the token, as `spanpost token new` prints it; two while it is replaced."
    )
    tenant: Word | None = Field(default=None, description="Tenant that it gives access to; not given: `intake.tenant`.")
    roles: tuple[CallerRole, ...] = Field(
        default=(CallerRole.VIEWER,),
        description="`viewer` sees tasks; `operator` may also cancel, pause, resume, retry, rate, mute and send "
        "messages; "
        "`approver` may decide approvals; `auditor` sees recorded content, prompts and tool arguments included.",
    )

    _digests = field_validator("sha256")(digests)


class InteractionsSettings(AppSettings, AuthorizationRules):
    """People's answers from Slack: buttons, and replies in threads. The bot token is set in the section
    `slack`.
    """

    enabled: bool = Field(default=True, description="`false`: no answers are received.")
    apps: tuple[FurtherAppSettings, ...] = Field(
        default=(),
        description="More apps and workspaces: each a `[[interactions.apps]]` (below).",
    )
    rules: tuple[RuleSettings, ...] = Field(
        default=(),
        description="Authorization rules, in order; each is a `[[interactions.rules]]` (below). Without any, every "
        "action is denied.",
    )
    tokens: tuple[ApiTokenSettings, ...] = Field(
        default=(),
        description="Tokens of the HTTP API (`/api`); each is a `[[interactions.tokens]]` (below). Without any, and "
        "without `oidc`, a gateway on loopback accepts this machine's token (`api.local`).",
    )
    people: dict[str, str] = Field(
        default={},
        description="Person behind an `agent.requested_by` that is neither an email address nor a Slack user id: "
        '`{"alice": "alice@example.com", "build-bot": "U012AB3CD"}`.',
    )
    email_domains: tuple[Word, ...] = Field(
        default=(),
        description='Domains whose email addresses count in rules: `["example.com"]`. Not given: every address '
        "that Slack "
        "has confirmed.",
    )
    comments: Literal["deny", "always", "never"] = Field(
        default="deny", description="Which decisions ask for a comment in a dialog first."
    )
    replies: Literal["all", "mentions", "off"] = Field(
        default="all",
        description="Which replies in a task's thread reach the agent: `all` of people who may `message`, only "
        "`mentions` of the app, or none (`off`).",
    )
    remember: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(0),
        le=timedelta(minutes=5),
        description="How long the identity and the group and channel memberships of a person are cached before Slack "
        "is asked again.",
    )
    log_reads: bool = Field(
        default=False,
        description="Log who reads content: questions, recorded content, messages with their details and acts, from "
        "the API, the board, MCP, Slack's dialogs and the command line. One row of `content_reads` per person, task "
        "and hour. If the row cannot be written, the content is not shown.",
    )
    join_channels: bool = Field(
        default=False,
        description="Join the public channels of the routes at the start. Needs the scope `channels:join`.",
    )

    @field_validator("people")
    @classmethod
    def _are_people(cls, value: dict[str, str]) -> dict[str, str]:
        for name, person in value.items():
            if not (_USER.match(person) or _EMAIL.match(person)):
                raise ValueError(f"{name[:100]!r} must lead to an address or a Slack user id (U...)")
        return {name.strip().casefold(): person for name, person in value.items()}

    @field_validator("email_domains")
    @classmethod
    def _are_domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(domain.casefold().lstrip("@") for domain in value)

    @field_validator("tokens")
    @classmethod
    def _are_different(cls, value: tuple[ApiTokenSettings, ...]) -> tuple[ApiTokenSettings, ...]:
        seen: dict[str, int] = {}
        for number, token in enumerate(value, 1):
            for digest in token.sha256:
                if seen.setdefault(digest, number) != number:
                    raise ValueError(f"numbers {seen[digest]} and {number} have the same token: give each its own")
        return value

    @property
    def has_app(self) -> bool:
        """True if any app can receive events."""
        return self.enabled and any(app.app_token or app.signing_secret for app in (self, *self.apps))
