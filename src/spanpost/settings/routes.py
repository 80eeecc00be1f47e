"""Settings of the sections `routes` and `notifications`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from spanpost.routing import noise
from spanpost.routing.routes import Route, Verbosity, Weekday
from spanpost.settings.conditions import ConditionSettings, Words
from spanpost.settings.section import Duration, Section, TimeOfDay, Zone
from spanpost.sinks.plugin import SinkSettings
from spanpost.sinks.redaction import SinkRule
from spanpost.text.locales import Language

#: Settings of a route that a sink may have too, for its routes that leave them out.
OF_SINKS: Final = ("verbosity", "interval", "closing", "mention", "fallback", "content", "language")
#: Settings that a preset makes, where the route does not say.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "busy": {"board": True, "digest": "daily", "digest_failures": True},
}
#: Default interval between two milestones of one task.
MILESTONE_INTERVAL: Final = timedelta(seconds=30)


class RouteSettings(ConditionSettings, Route):
    """A route says where the checkpoints of some tasks are posted. For each sink, the first route whose
    conditions are all met is used. A condition that is not given matches every task.

    A condition is a word, or a list of words of which one must match; `*` matches any text.
    """

    enabled: bool = Field(
        default=True, description="`false`: the route matches its tasks and posts nothing. Other routes do not change."
    )
    sink: str = Field(min_length=1, description="Sink to post to, e.g. `console` or `slack`.")
    address: str = Field(
        default="",
        description="Address in the sink, e.g. `#deploys`, or `acme/#deploys` in the workspace `acme`; empty: the "
        "sink's default.",
    )
    status: Words | None = Field(
        default=None, description="Also receives tasks while they are in this status; other routes still apply."
    )
    severity: Literal["warning", "error"] | None = Field(
        default=None,
        description="Also receives tasks from the moment they reach this severity, and those of their checkpoints "
        "that have at least this severity; other routes still apply. `warning`: the task waits, is stalled or fills "
        "its context window, or a child task failed; `error`: the task failed.",
    )
    cost_usd: Annotated[Decimal, Field(gt=0)] | None = Field(
        default=None,
        description="Also receives tasks that cost at least this many US dollars; other routes still apply.",
    )
    score_below: float | None = Field(
        default=None,
        description="Also receives a task if the mean score of one of its evaluations is below this: people's ratings "
        "(`person_rating`: 1 for each 👍, 0 for each 👎), or those of evaluators. Other routes still apply.",
    )
    evaluation: Words | None = Field(
        default=None, description="Names of the evaluations that count for `score_below`; not given: any."
    )
    verbosity: Verbosity = Field(
        default=Verbosity.LIVE, description="How much is posted; not given: the sink's setting."
    )
    interval: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="Minimum time between two milestones of one task. If several come earlier, the newest is posted at "
        "the end of the interval. Not given: the sink's setting.",
    )
    after: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="Minimum time that a task runs before it has a message; one that ends earlier has none. Questions "
        "and failures are posted at once.",
    )
    closing: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="Minimum time that a task runs before its end is a line of the thread, which mentions the person "
        "for whom it ran; a failure always is. Not given: the sink's setting.",
    )
    quiet: tuple[time, time] | None = Field(
        default=None,
        description="Hours without new messages and lines, in `timezone`: `22:00-07:00`. Questions and failures are "
        "posted at once; messages that exist are edited.",
    )
    mention: tuple[str, ...] = Field(
        default=(),
        description="Who is mentioned when a task fails or asks: ids of the sink, in Slack people (`U...`) and groups "
        "(`S...`). Not given: the sink's setting.",
    )
    prefix: str = Field(default="", max_length=40, description="Text before each task's name, e.g. `[prod]`.")
    fallback: str = Field(
        default="", description="Address for deliveries that the address refuses; not given: the sink's setting."
    )
    content: bool = Field(
        default=True,
        description="Show prompts, and the tool arguments in the details of questions. Not given: the sink's setting.",
    )
    language: Language | Literal[""] = Field(
        default="",
        description="Language of spanpost's own text: `en` (English) or `ko` (Korean). Text of agents is not "
        "translated. Not given: the sink's setting.",
    )
    preset: Literal["busy"] | None = Field(
        default=None,
        description="Settings for a purpose, where this route does not say otherwise. `busy`, for channels with more "
        "than 50 tasks a day: `board`, a daily `digest`, and `digest_failures`.",
    )
    digest: Literal["hourly", "daily", "weekly"] | None = Field(
        default=None,
        description="One message for all tasks of an hour, a day or a week instead of one message each: results, "
        "failures, cost, and what waits. Questions and alerts are still posted at once.",
    )
    digest_at: TimeOfDay = Field(
        default=Route.digest_at,
        description="Time at which the day of a daily or weekly digest begins, and its message is posted: `HH:MM`.",
    )
    digest_day: Weekday = Field(default="monday", description="Day on which the week of a weekly digest begins.")
    timezone: Zone = Field(
        default="UTC", description="IANA name of the time zone of `digest_at` and `quiet`: `Asia/Seoul`."
    )
    digest_failures: bool = Field(
        default=False, description="Post a message of its own for each task that fails, at once, besides the digest."
    )
    board: bool = Field(
        default=False,
        description="One message that lists the running tasks of this route and is edited; those that need a person "
        "come first.",
    )
    board_interval: Duration = Field(
        default=timedelta(minutes=1),
        ge=timedelta(seconds=10),
        description="Interval at which the board is checked; it is edited if it has changed.",
    )
    redact: tuple[SinkRule, ...] = Field(
        default=(),
        max_length=50,
        description="Text that this route hides, besides what its sink hides: patterns, or rules as "
        "`[[routes.redact]]`. The rows do not change.",
    )
    dry_run: bool = Field(
        default=False,
        description="Send nothing; write what would be sent to a file, as without a token. The sink's setting "
        "turns it on for all its routes.",
    )

    @field_validator("quiet", mode="before")
    @classmethod
    def _are_hours(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return noise.hours(value)
        except ValueError:
            raise ValueError(f"{value!r} are no hours of a day: write two times, such as `22:00-07:00`") from None

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        passing = [
            name for name in ("status", "severity", "cost_usd", "score_below") if getattr(self, name) is not None
        ]
        if self.evaluation is not None and self.score_below is None:
            raise ValueError("evaluation: has no effect without score_below; set that too, or leave it out")
        if passing and (self.digest or self.board or self.preset):
            what = "digest" if self.digest else "board" if self.board else "preset"
            raise ValueError(
                f"{what}: not with {passing[0]}, which changes while a task runs; ask for its agent, topic or "
                "another field"
            )
        return self

    def completed(self, sink: SinkSettings, tenant: str | None) -> RouteSettings:
        """Return the route with the settings of its sink for those that it leaves out.

        `tenant` is the tenant to which its address belongs, if there is one.
        """
        known: dict[str, Any] = {name: getattr(sink, name) for name in OF_SINKS if name in type(sink).model_fields}
        known |= PRESETS[self.preset] if self.preset else {}
        found = {name: value for name, value in known.items() if name not in self.model_fields_set}
        verbosity = Verbosity(found.get("verbosity", self.verbosity))
        if found.get("interval", self.interval) is None:
            found["interval"] = MILESTONE_INTERVAL if verbosity is Verbosity.MILESTONES else timedelta(0)
        off = {} if self.enabled else {"verbosity": Verbosity.MUTE, "digest": None, "board": False}
        is_dry = self.dry_run or getattr(sink, "dry_run", False)
        own = {"tenant": self.tenant if tenant is None else tenant, "verbosity": verbosity, "dry_run": is_dry}
        return self.model_copy(update={**found, **own, **off})


class NotificationSettings(Section):
    """Age limit of notifications, and how long their delivery may take."""

    max_age: Duration = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="Older checkpoints are recorded and not posted. Seconds, `15m`, or ISO 8601 (`PT15M`).",
    )
    delivery_timeout: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(seconds=2),
        le=timedelta(minutes=10),
        description="Longest time that a sink may take for one delivery. What a killed process was delivering is "
        "taken over by another after twice this time.",
    )
