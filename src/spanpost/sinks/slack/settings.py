"""Settings of the sink `slack`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from spanpost.http.urls import http_url
from spanpost.plugins import PluginSettings
from spanpost.sinks.fields import FIELDS
from spanpost.sinks.plugin import Duration, SinkSettings
from spanpost.sinks.slack import links
from spanpost.sinks.slack.rates import Rates
from spanpost.text.locales import Language

_ID = re.compile(r"[UWS][A-Z0-9]{2,30}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
#: A workspace's id; it names a workspace that is not listed.
TEAM = re.compile(r"T[A-Z0-9]{2,30}")


class WorkspaceSettings(PluginSettings, Rates):
    """One workspace: its token, its channel, and its rate limits."""

    token: SecretStr | None = Field(default=None, description="The app's bot token (`xoxb-...`). Never printed.")
    team: str = Field(
        default="",
        pattern=r"^(T[A-Z0-9]{2,30})?$",
        description="In place of a token: the id (`T...`) of a workspace in which people install the app "
        "(`slack_oauth`).",
    )
    tenant: str = Field(
        default="",
        max_length=200,
        description="Only tasks of this tenant are posted there and answered from there; required with "
        "`team`. Not given: any.",
    )
    channel: str = Field(
        default="#agents",
        description="Default channel of routes: its id (`C...`) or its name. The app must be a member. With an id, "
        "uncertain messages can be looked up without the scope `channels:read`.",
    )
    edits_per_minute: float = Field(
        default=Rates.edits_per_minute,
        gt=0,
        description="Edits (`chat.update`) per minute in the workspace. Slack allows 50 and more (Tier 3).",
    )
    deletions_per_minute: float = Field(
        default=Rates.deletions_per_minute,
        gt=0,
        description="Deletions (`chat.delete`, for `spanpost erase`) per minute. Slack allows 50 and more (Tier 3).",
    )
    posts_per_minute: float = Field(
        default=Rates.posts_per_minute,
        gt=0,
        description='Posts (`chat.postMessage`) per minute in the workspace. Slack allows "several hundred".',
    )
    posts_per_channel_per_minute: float = Field(
        default=Rates.posts_per_channel_per_minute,
        gt=0,
        description="Posts per minute in one channel. Slack allows about one a second.",
    )
    lookups_per_minute: float = Field(
        default=Rates.lookups_per_minute,
        gt=0,
        description="Lookups of uncertain messages (`conversations.history`) per minute. Slack allows 50 (Tier 3).",
    )

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        text = value.get_secret_value().strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("must be one word of ASCII, as Slack shows it")
        if text.startswith("xapp-"):
            raise ValueError("is an app-level token (xapp-...); set the bot token (xoxb-...)")
        return SecretStr(text)

    @field_validator("channel")
    @classmethod
    def _is_named(cls, value: str) -> str:
        return value.strip() or "#agents"

    @model_validator(mode="after")
    def _is_installed_or_has_a_token(self) -> WorkspaceSettings:
        if self.team and self.token is not None:
            raise ValueError("give either token or team: the token of a team comes from its installation")
        if self.team and not self.tenant.strip():
            raise ValueError("team needs tenant: only that tenant's tasks are posted there")
        if "*" in self.tenant:
            raise ValueError("tenant is one tenant's name, without *")
        return self


def are_ids(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return ids of people and groups. Raises ValueError for anything else, which would mention the wrong people."""
    for one in value:
        if not _ID.fullmatch(one):
            raise ValueError("must be ids as Slack shows them: of people U..., of user groups S...")
    return value


class SlackSettings(WorkspaceSettings, SinkSettings):
    """Messages in Slack. Without a token nothing is posted: messages are written to `preview_file`, else to stderr."""

    verbosity: Literal["live", "milestones", "final", "mute"] = Field(
        default="milestones",
        description="How much is posted in threads if the route does not say. `live`: every checkpoint; `milestones`: "
        "steps, each fifth of the progress, artifacts, warnings, errors, questions, alerts, ends; `final`: "
        "questions, alerts and ends, and no message before; `mute`: nothing.",
    )
    language: Language = Field(
        default="en",
        description="Language of spanpost's own text if the route does not say: `en` (English) or `ko` "
        "(Korean). Text of agents is not translated.",
    )
    workspaces: dict[str, WorkspaceSettings] = Field(
        default={},
        description="More workspaces under names of your choice, each with its `token`, `channel` and rates; "
        "the address of a route is then `name/#channel`. Each token can be set by a variable: "
        "`SPANPOST_SLACK__WORKSPACES__<NAME>__TOKEN`.",
    )
    mention: tuple[str, ...] = Field(
        default=(),
        description="Who is mentioned when a task fails or asks: ids of people (`U...`) and groups (`S...`). No others "
        "are mentioned.",
    )
    fallback: str = Field(
        default="",
        description="Channel for messages that their own channel refuses: it is archived or unknown, or the "
        "app is not a member.",
    )
    closing: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(0),
        description="Minimum time that a task runs before its end is a line of the thread, which mentions the person "
        "for whom it ran, if the route does not say; the message itself always says how it ended. `0`: always.",
    )
    links: dict[str, str] = Field(
        default={},
        description="Links of each task by their label, with fields that are filled and escaped: "
        '`{"trace" = "https://grafana.example/trace/{trace_id}"}`. '
        f"Fields: {', '.join(f'`{name}`' for name in FIELDS)}, and any attribute: `attributes.shop.dealer`. "
        "A link is left out where a field is not known.",
    )
    content: bool = Field(
        default=False,
        description="Show prompts, and the tool arguments in the details of questions. An agent's own text (`agent.*`) "
        "is always shown. A question whose arguments are hidden can be denied in Slack, or decided on the board.",
    )
    logs: bool = Field(
        default=True,
        description="Show the log tails of errors: folded, and above 2,800 characters as a file (`files:write`).",
    )
    find_people: bool = Field(
        default=True,
        description="Look up the person of an `agent.requested_by` that is an email address, or that "
        "`interactions.people` leads to one, so that they are mentioned (`users:read.email`).",
    )
    interactive: bool | None = Field(
        default=None,
        description="Show buttons. Not given: if `interactions` of this process receives answers. Where others "
        "deliver, too, such as durable agents on the same database, set it in each.",
    )
    stop_button: bool = Field(
        default=False,
        description="Show in each task's thread that the task is working, with Slack's button *Stop*: it cancels the "
        "task for a person who may cancel it. For an app that is declared an agent, with `interactions`.",
    )
    dry_run: bool = Field(
        default=False,
        description="Post nothing, even with a token; messages are written to `preview_file`, else to stderr.",
    )
    preview_file: Path | None = Field(
        default=None,
        description="Without a token, or with `dry_run`: write messages to this file as JSON lines instead of "
        "to stderr.",
    )
    base_url: str = Field(
        default="https://slack.com/api/", description="Address of the Web API, or of an emulator or proxy."
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10),
        gt=timedelta(0),
        le=timedelta(seconds=12),
        description="Time limit of one call of the Web API.",
    )
    reconcile_timeout: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="How long an uncertain message is looked up before it is posted again. Default: twice "
        "`timeout` plus 30 s; by then Slack's history shows what was posted.",
    )

    @field_validator("base_url")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        return http_url(value, is_bare=True) + "/"

    @field_validator("workspaces")
    @classmethod
    def _have_names(cls, value: dict[str, WorkspaceSettings]) -> dict[str, WorkspaceSettings]:
        for name in value:
            if not _NAME.fullmatch(name) or name == "default":
                raise ValueError("a workspace's name is lower-case letters, digits, - and _, and not `default`")
        return value

    @model_validator(mode="after")
    def _are_different(self) -> SlackSettings:
        teams = [one.team for one in (self, *self.workspaces.values()) if one.team]
        if doubled := next((team for team in teams if teams.count(team) > 1), ""):
            raise ValueError(f"workspaces: {doubled} is the team of two: a workspace has one name")
        return self

    @field_validator("mention")
    @classmethod
    def _are_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return are_ids(value)

    @field_validator("links")
    @classmethod
    def _lead_somewhere(cls, value: dict[str, str]) -> dict[str, str]:
        for name, address in value.items():
            if not name.strip() or len(name) > 40:
                raise ValueError("a link's label is a word of at most 40 characters")
            if wrong := links.problem(address):
                raise ValueError(f"the link {name!r} {wrong}")
        return value

    @property
    def kept(self) -> frozenset[str]:
        """Names of the attributes that links have as fields."""
        return frozenset().union(*(links.Template(*one).kept for one in self.links.items()))

    def tenant_of(self, address: str) -> str | None:
        """Return the only tenant whose tasks may go to an address; None: any.

        Raises ValueError for a wrong workspace name.
        """
        name, _, _ = address.rpartition("/")
        if TEAM.fullmatch(name):
            if listed := self.name_of(name):
                raise ValueError(f"the workspace {name} is listed as {listed!r}: name it so")
            return name
        one = self.workspaces.get(name) if name else self
        return (one.tenant.strip() or None) if one is not None else None

    def name_of(self, team: str) -> str | None:
        """Return the name of a workspace that is listed by its team; `default` is the sink's own."""
        named = {"default": self, **self.workspaces}
        return next((name for name, one in named.items() if one.team == team), None)

    @property
    def lookup_wait(self) -> timedelta:
        """How long an uncertain message is looked up before it is posted again."""
        return 2 * self.timeout + timedelta(seconds=30) if self.reconcile_timeout is None else self.reconcile_timeout
