"""Acts of people, from any provider: the rules judge them, the store records them, granted or refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from spanpost.interactions import subjects, texts
from spanpost.interactions.authorization import (
    VIEW,
    AuthorizationRules,
    Found,
    Lookup,
    Person,
    Ruling,
    foreign,
    judge,
    judge_listing,
    refused,
)
from spanpost.interactions.protocols import Asked, InteractionMetrics, PersonMessage
from spanpost.model.ids import named
from spanpost.model.interventions import Actor, Intervention, Result, Verb, Verdict
from spanpost.model.readings import Approval
from spanpost.model.recorded import Recorded
from spanpost.model.tasks import Task
from spanpost.routing.launch_orders import Launches
from spanpost.store.protocols import Interventions, Reader
from spanpost.text.legible import ShownText, shown
from spanpost.text.locales import ENGLISH, Locale, LocaleMessage
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.interactions")

#: Characters of a person's text that are kept: Slack's own limit for a message.
MOST_WORDS = 4_000
#: Returns a question as it may be shown in a channel. The task is the topmost one.
Reads: TypeAlias = Callable[[Task, Approval, str], ShownText]
_NO_TASK = UUID(int=0)


class People(Protocol):
    """**Protocol:** looks up people and their groups.

    Raises nothing: a lookup that fails returns `Failed`.
    """

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        """Return the result of a lookup; at most five minutes old."""
        ...

    async def forget(self, ruling: Ruling, user: str) -> bool:
        """Forget the lookups behind a refusal that are old enough to be repeated; True if there were any."""
        ...


class RequestedAct(msgspec.Struct, frozen=True, kw_only=True):
    """An act as the provider sent it. Nothing of it is verified yet."""

    verb: Verb
    key: UUID
    user: str
    message: PersonMessage
    #: The provider itself marks the user as a member of another workspace.
    is_foreign: bool = False
    #: For `CHOOSE`: the index of the option, from 0.
    option: int | None = None
    text: str = ""
    idempotency_key: str
    at: datetime


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A request to start work, as the provider sent it."""

    launcher: str
    text: str = ""
    parameters: dict[str, str] = {}
    user: str
    #: Where it was requested.
    message: PersonMessage
    is_foreign: bool = False
    #: The same for every repeat of the request.
    idempotency_key: str
    at: datetime


class ActOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an act; `answer` is for the person, and empty if the message will show it."""

    result: Result
    answer: str = ""
    asked: Asked | None = None
    #: The store's answer, and why the rules refused the act, in plain words.
    verdict: Verdict | None = None
    refusal: str = ""
    #: The language of `answer`.
    locale: Locale = ENGLISH


class Interactions:
    """Receives acts. One for each provider; with `is_bound`, tasks of other tenants are hidden.

    `take` receives the records of an intervention.
    """

    def __init__(
        self,
        reader: Reader,
        interventions: Interventions,
        people: People,
        rules: AuthorizationRules,
        *,
        take: Callable[[Recorded], None],
        source: str,
        tenant: str,
        is_bound: bool = False,
        launches: Launches | None = None,
        watch: InteractionMetrics | None = None,
        speaks: Callable[[Task | None, Sequence[str]], Locale] = lambda task, channels: ENGLISH,
        reads: Reads = lambda task, approval, channel: shown(approval),
    ) -> None:
        self.reader = reader
        self.interventions = interventions
        self._take = take
        self.rules = rules
        self._people = people
        self._source = source
        self.tenant = tenant
        self._is_bound = is_bound
        self._watch = watch
        #: The language for a task (the topmost one), else for one of these channels, by id or name.
        self.speaks = speaks
        #: How a question is shown in a channel.
        self.reads = reads
        #: The known launchers, and which of them retries a task.
        self.launches = launches or Launches()

    @property
    def tenants(self) -> tuple[str, ...]:
        """Tenants whose tasks may be listed: its own; unless it is bound, also those of `view` rules."""
        named = {rule.tenant for rule in self.rules.rules if VIEW in rule.actions and rule.tenant}
        return (self.tenant, *(() if self._is_bound else sorted(named - {self.tenant})))

    def shown(self, asked: Asked | None, message: PersonMessage) -> ShownText | None:
        """Return a question as a message may show it; None without one, or if spanpost decided it."""
        if asked is None or asked.approval is None or (asked.approval.decision and asked.approval.source):
            return None
        return self.reads((asked.above or (asked.task,))[-1], asked.approval, message.channel)

    def locale(self, asked: Asked | None, message: PersonMessage) -> Locale:
        """Return the language of the answer to a person."""
        root = (asked.above or (asked.task,))[-1] if asked is not None else None
        return self.speaks(root, [message.channel])

    async def find(self, key: UUID, message: PersonMessage) -> Asked | None:
        """Return the subject of a key, unless it belongs to another tenant. Raises `StoreUnavailable`."""
        return self._own(await subjects.subject_of(self.reader, self.interventions, key, message))

    async def task_of_message(self, message: PersonMessage) -> Asked | None:
        """Return the task of a message, unless it belongs to another tenant. Raises `StoreUnavailable`."""
        return self._own(await subjects.task_of_message(self.reader, message))

    def _own(self, asked: Asked | None) -> Asked | None:
        return None if asked is not None and self._is_bound and asked.task.tenant != self.tenant else asked

    async def rule(self, action: str, asked: Asked, user: str, message: PersonMessage) -> Ruling:
        """Rule on an action of a user. A refusal that rests on old lookups is judged again with new ones."""
        ruling = await self._judge(action, asked, user, message)
        if not ruling.is_granted and await self._people.forget(ruling, user):
            ruling = await self._judge(action, asked, user, message)
        return ruling

    async def _judge(self, action: str, asked: Asked, user: str, message: PersonMessage) -> Ruling:
        return await self._talk(judge(self.rules, action, asked, user, message), action, asked, message)

    async def _talk(
        self, talk: Generator[Lookup, Found, Ruling], action: str, asked: Asked, message: PersonMessage
    ) -> Ruling:
        try:
            lookup = next(talk)
            while True:
                lookup = talk.send(await self._people.lookup(lookup, message, (action, asked)))
        except StopIteration as done:
            ruling: Ruling = done.value
            return ruling

    async def may_view(self, asked: Asked, user: str, message: PersonMessage, *, is_foreign: bool = False) -> str:
        """Return the refusal for a user who may not see more; empty if granted. Writes no intervention."""
        if not asked.is_shown_there:
            return self.locale(asked, message).say("interactions.elsewhere")
        ruling = foreign() if is_foreign else await self.rule(VIEW, asked, user, message)
        self._count(VIEW, Result.DONE if ruling.is_granted else Result.REFUSED)
        return "" if ruling.is_granted else texts.refused(ruling, self.locale(asked, message))

    async def may_any(
        self, verbs: Sequence[Verb], asked: Asked, user: str, message: PersonMessage, *, is_foreign: bool = False
    ) -> tuple[tuple[Verb, ...], str]:
        """Return the granted verbs, and the refusal if there are none. Writes no intervention."""
        ruling = foreign()
        granted = []
        for verb in () if is_foreign else verbs:
            ruling = await self.rule(verb, asked, user, message)
            granted += [verb] * ruling.is_granted
        self._count(VIEW, Result.DONE if granted else Result.REFUSED)
        return tuple(granted), "" if granted else texts.refused(ruling, self.locale(asked, message))

    async def may_list(self, asked: Asked | None, user: str, message: PersonMessage) -> Ruling:
        """Rule on listing a task, or without a task on listing any. Writes no intervention."""
        if asked is not None and asked.task.tenant != self.tenant:
            return await self.rule(VIEW, asked, user, message)  # membership of the workspace is not enough
        about = asked or Asked(key=_NO_TASK, task=Task(uid=_NO_TASK, tenant=self.tenant, task_id=""))
        ruling = await self._talk(judge_listing(self.rules, asked, user, message), VIEW, about, message)
        if not ruling.is_granted and await self._people.forget(ruling, user):
            ruling = await self._talk(judge_listing(self.rules, asked, user, message), VIEW, about, message)
        return ruling

    async def may(self, act: RequestedAct) -> ActOutcome | None:
        """Return the recorded refusal of an act; None if it would be granted, and nothing is recorded."""
        asked, ruling = await self._weigh(act)
        if asked is not None and ruling.is_granted:
            return None
        return await self._record(act, asked, ruling)

    async def do(self, act: RequestedAct) -> ActOutcome:
        """Record an act, granted or refused, and return its outcome.

        Raises `StoreUnavailable`: nothing was recorded.
        """
        return await self._record(act, *await self._weigh(act))

    async def _weigh(self, act: RequestedAct) -> tuple[Asked | None, Ruling]:
        asked = await self.find(act.key, act.message)
        if asked is None:
            return None, Ruling(refusal=texts.UNKNOWN)
        if not asked.is_shown_there:
            return asked, Ruling(refusal=texts.ELSEWHERE)
        if act.verb.is_decision is not (asked.approval is not None) or (
            act.verb is Verb.CHOOSE and self._option(act, asked) is None
        ):
            return asked, Ruling(refusal=texts.NO_OPTION)
        if act.is_foreign:
            return asked, foreign(act.user)
        ruling = await self.rule(act.verb, asked, act.user, act.message)
        if ruling.is_granted and act.verb is Verb.RETRY and not self.launches.retrier(asked.task):
            ruling = Ruling(refusal=texts.NO_LAUNCHER, person=ruling.person)
        return asked, ruling

    @staticmethod
    def _option(act: RequestedAct, asked: Asked) -> str | None:
        options = asked.options
        return options[act.option] if act.option is not None and 0 <= act.option < len(options) else None

    async def _record(self, act: RequestedAct, asked: Asked | None, ruling: Ruling) -> ActOutcome:
        launcher = self.launches.retrier(asked.task) if asked is not None and act.verb is Verb.RETRY else ""
        intervention = Intervention(
            tenant=asked.task.tenant if asked is not None else self.tenant,
            verb=act.verb,
            key=act.key,
            actor=actor_of(self._source, ruling.person or Person(id=act.user), act.message),
            option=(self._option(act, asked) or "") if asked is not None and act.verb is Verb.CHOOSE else "",
            text=act.text[:MOST_WORDS],
            source=self._source,
            launcher=launcher,
            idempotency_key=act.idempotency_key,
            refusal=ruling.refusal,
            at=act.at,
        )
        verdict = await self._intervene(intervention)
        locale = self.locale(asked, act.message)
        answer = self._answer_to(act, verdict, ruling, locale)
        return ActOutcome(
            result=verdict.result, answer=answer, asked=asked, verdict=verdict, refusal=ruling.refusal, locale=locale
        )

    async def may_start(self, launcher: str, user: str, message: PersonMessage) -> Ruling:
        """Rule on starting work with a launcher. Records nothing."""
        return await self.rule(Verb.START, self._to_start(_NO_TASK, self.tenant, launcher), user, message)

    @staticmethod
    def _to_start(key: UUID, tenant: str, launcher: str, text: str = "") -> Asked:
        blank = Task(uid=key, tenant=tenant, task_id="", name=text)
        return Asked(key=key, task=blank, is_shown_there=True, launcher=launcher)

    async def start(self, order: Start, tenant: str = "", locale: Locale | None = None) -> ActOutcome:
        """Start work with a launcher, if the rules allow it; recorded, granted or refused.

        Raises `StoreUnavailable`. The rules judge the action ``start`` for a task that does not exist yet:
        only their conditions on tenant and launcher can be met.
        """
        tenant = tenant or self.tenant
        key = start_key(tenant, order.idempotency_key)
        asked = self._to_start(key, tenant, order.launcher, order.text)
        if order.is_foreign:
            ruling = foreign(order.user)
        else:
            ruling = await self.rule(Verb.START, asked, order.user, order.message)
        if ruling.is_granted and order.launcher not in self.launches.launchers:
            known = ", ".join(sorted(self.launches.launchers)) or LocaleMessage("why.none")
            why = LocaleMessage("why.no_launcher", {"launcher": line(order.launcher, 60), "known": known})
            ruling = refused(why, person=ruling.person)
        intervention = Intervention(
            tenant=tenant,
            verb=Verb.START,
            key=key,
            actor=actor_of(self._source, ruling.person or Person(id=order.user), order.message),
            text=order.text[:MOST_WORDS],
            source=self._source,
            launcher=order.launcher,
            parameters=order.parameters,
            idempotency_key=order.idempotency_key,
            refusal=ruling.refusal,
            at=order.at,
        )
        verdict = await self._intervene(intervention)
        answer = (
            ""
            if verdict.is_repeat or not ruling.refusal
            else texts.refused(ruling, locale or self.locale(None, order.message))
        )
        return ActOutcome(result=verdict.result, answer=answer, asked=asked, verdict=verdict, refusal=ruling.refusal)

    async def _intervene(self, intervention: Intervention) -> Verdict:
        """Record an intervention, count it, and pass on its records."""
        verdict = await self.interventions.intervene(intervention)
        if verdict.recorded is not None:
            self._take(verdict.recorded)
        self._count(intervention.verb, verdict.result, is_repeat=verdict.is_repeat)
        return verdict

    @staticmethod
    def _answer_to(act: RequestedAct, verdict: Verdict, ruling: Ruling, locale: Locale) -> str:
        if verdict.is_repeat:
            return ""  # the first request was answered already
        if ruling.refusal in texts.WHOLE:
            return locale.say(texts.WHOLE[ruling.refusal])
        return texts.refused(ruling, locale) if ruling.refusal else texts.verdict(act.verb, verdict, locale)

    def _count(self, verb: str, result: Result, *, is_repeat: bool = False) -> None:
        if self._watch is not None:
            self._watch.intervened(str(verb), "repeat" if is_repeat else str(result), self._source)


def start_key(tenant: str, idempotency_key: str) -> UUID:
    """Return the key that stands for a task that is to be started."""
    return UUID(bytes=named(f"{tenant}\0start\0{idempotency_key}"))


def actor_of(source: str, person: Person, message: PersonMessage) -> Actor:
    """Return the actor of an act, as far as it is known."""
    return Actor(provider=source, id=person.id, team=message.team, name=person.name, email=person.email[:320])


class Keeper:
    """Holds asyncio tasks that outlive their request: they are not collected, and are awaited at the end."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[object]] = set()

    def keep(self, task: asyncio.Task[object]) -> None:
        """Hold an asyncio task until it is done."""
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self, seconds: float) -> None:
        """Wait for the pending tasks, then cancel them."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=seconds)
            for task in late:
                task.cancel()
