"""Settings of the sections `routes` and `notifications`."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from spanpost.settings.section import Duration, Section, Zone
from spanpost.text.locales import Language


def _is_something(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value or (not isinstance(value, str) and any(not one for one in value)):
        raise ValueError("matches nothing: name what is taken, or leave it out")
    return value


#: A word or a list of words; ``*`` stands for anything.
Words: TypeAlias = Annotated[str | tuple[str, ...], AfterValidator(_is_something)]


class RouteSettings(Section):
    """Where checkpoints of some tasks go: the first route of a sink whose conditions are all met. A
    condition that is not given matches every task.

    A condition is a word, or a list of words of which one must match; `*` matches any text.
    """

    enabled: bool = Field(
        default=True, description="`false`: the route matches its tasks and posts nothing. Other routes do not change."
    )
    sink: str = Field(min_length=1, description="Sink to post to, e.g. `console` or `slack`.")
    address: str = Field(
        default="",
        description="Address in the sink, e.g. `#deploys`, or `acme/#deploys` in the workspace `acme`; empty: "
        "the sink's "
        "default.",
    )
    tenant: Words | None = Field(default=None, description="Receives tasks of this tenant.")
    agent: Words | None = Field(default=None, description="Receives tasks of the agent with this name.")
    topic: Words | None = Field(default=None, description="Receives tasks with this `agent.topic`.")
    environment: Words | None = Field(default=None, description="Receives tasks of this `deployment.environment.name`.")
    service: Words | None = Field(default=None, description="Receives tasks of this `service.name`.")
    repo: Words | None = Field(default=None, description="Receives tasks with this `agent.repo`.")
    attributes: dict[str, Words] = Field(
        default={},
        description='Receives tasks with these attributes of their spans or their resource: `{"team.name" = '
        '"payments"}`. '
        "Attributes named here are kept with the task, 200 characters of each; no others are.",
    )
    status: Words | None = Field(
        default=None, description="Also receives tasks while they are in this status; other routes still apply."
    )
    severity: Literal["warning", "error"] | None = Field(
        default=None,
        description="Also receives tasks from the moment they reach this severity, and their checkpoints of at "
        "least it; "
        "other routes still apply. `warning`: it waits, stalls, its context fills, or a child task failed; "
        "`error`: it failed.",
    )
    cost_usd: Annotated[Decimal, Field(gt=0)] | None = Field(
        default=None,
        description="Also receives tasks that cost at least this many US dollars; other routes still apply.",
    )
    verbosity: Literal["live", "milestones", "final", "mute"] | None = Field(
        default=None, description="How much is posted; not given: the sink's setting."
    )
    interval: Duration | None = Field(
        default=None,
        ge=timedelta(0),
        description="Minimum time between two milestones of one task; of several that come earlier, the newest "
        "is posted "
        "at the end of the interval. Not given: the sink's setting.",
    )
    mention: tuple[str, ...] | None = Field(
        default=None,
        description="Who is mentioned when a task fails or asks: ids of the sink, in Slack people (`U...`) and groups "
        "(`S...`). Not given: the sink's setting.",
    )
    prefix: str = Field(default="", max_length=40, description="Text before each task's name, e.g. `[prod]`.")
    fallback: str | None = Field(
        default=None, description="Address for deliveries that the address refuses; not given: the sink's setting."
    )
    content: bool | None = Field(
        default=None,
        description="Show prompts, and the tool arguments in the details of questions. Not given: the sink's setting.",
    )
    language: Language | None = Field(
        default=None,
        description="Language of spanpost's own text: `en` (English) or `ko` (Korean). Text of agents is not "
        "translated. "
        "Not given: the sink's setting.",
    )
    digest: Literal["hourly", "daily"] | None = Field(
        default=None,
        description="One message for all tasks of an hour or a day instead of one message each: results, "
        "failures, cost, "
        "and what waits. Questions and alerts are still posted at once.",
    )
    digest_at: str = Field(
        default="09:00",
        description="Time at which the day of a daily digest begins, and its message is posted: `HH:MM`.",
    )
    timezone: Zone = Field(default="UTC", description="IANA name of the time zone of `digest_at`: `Asia/Seoul`.")
    digest_failures: bool = Field(
        default=False, description="Post a message of its own for each task that fails, at once, besides the digest."
    )
    board: bool = Field(
        default=False,
        description="One message that lists the running tasks of this route and is edited; those that need a "
        "person come "
        "first.",
    )
    board_interval: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(seconds=10),
        description="Interval at which the board is checked; it is edited if it has changed.",
    )
    dry_run: bool = Field(
        default=False, description="Send nothing; write what would be sent to a file, as without a token."
    )

    @field_validator("digest_at")
    @classmethod
    def _is_time(cls, value: str) -> str:
        if not re.fullmatch(r"(?:[01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f"{value!r} is no time of a day: write HH:MM, such as `09:00`")
        return value

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        passing = [name for name in ("status", "severity", "cost_usd") if getattr(self, name) is not None]
        if passing and (self.digest or self.board):
            what = "digest" if self.digest else "board"
            raise ValueError(
                f"{what}: not with {passing[0]}, which changes while a task runs; ask for its agent, topic or "
                "another field"
            )
        return self


class NotificationSettings(Section):
    """Age limit of notifications."""

    max_age: Duration = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="Older checkpoints are recorded and not posted. Seconds, or ISO 8601 (`PT15M`).",
    )
