"""Acts of people, from any provider: the rules judge them, the store records them, granted or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeAlias
from uuid import UUID

import msgspec

from spanpost.interactions import subjects, texts
from spanpost.interactions.alerts import AlertActs
from spanpost.interactions.authorization import (
    GRANT,
    RAISE,
    VIEW,
    AuthorizationRules,
    Found,
    Lookup,
    Person,
    Ruling,
    action_of,
    foreign,
    judge,
    judge_listing,
    not_requester,
    refused,
)
from spanpost.interactions.protocols import Asked, InteractionMetrics, PersonMessage
from spanpost.interactions.read_log import ReadLog
from spanpost.interactions.requested_acts import ActOutcome, RequestedAct, Start, WrongParameters
from spanpost.model.ids import named
from spanpost.model.interventions import RATINGS, Actor, Intervention, Result, Verb, Verdict
from spanpost.model.readings import Approval
from spanpost.model.recorded import Recorded
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.routing.launch_orders import Launches
from spanpost.routing.parameters import checked
from spanpost.sinks.slack.blocks import escape
from spanpost.store.protocols import Interventions, Reader
from spanpost.tasks.approval_rules import ApprovalRules
from spanpost.tasks.budget_limits import asks_to_raise
from spanpost.tasks.interventions import id_of
from spanpost.text.legible import ShownText, shown
from spanpost.text.locales import ENGLISH, Locale, LocaleMessage
from spanpost.text.sanitise import line

log = logging.getLogger("spanpost.interactions")

#: Characters of a person's text that are kept: Slack's own limit for a message.
MOST_WORDS = 4_000
#: Returns a question as it may be shown in a channel. The task is the topmost one.
Reads: TypeAlias = Callable[[Task, Approval, str], ShownText]
_NO_TASK = UUID(int=0)
#: The verbs that take one of several options.
_WITH_OPTION: Final = (Verb.CHOOSE, Verb.RATE)


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
        always_for: timedelta = ApprovalRules.always_for,
        alerts: AlertActs | None = None,
        read_log: ReadLog | None = None,
        credential: str = "",
        client: str = "",
    ) -> None:
        self.reader = reader
        self.interventions = interventions
        self._take = take
        self.rules = rules
        self._people = people
        self._source = source
        #: What proves the identity of people here; and their program.
        self._credential = credential or source
        self._client = client
        self.tenant = tenant
        self._is_bound = is_bound
        self._watch = watch
        #: The language for a task (the topmost one), else for one of these channels, by id or name.
        self.speaks = speaks
        #: How a question is shown in a channel.
        self.reads = reads
        self.always_for = always_for
        self.alerts = alerts
        self.read_log = read_log
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
        asked = await subjects.subject_of(self.reader, self.interventions, key, message)
        if asked is None and self.alerts is not None:
            asked = await self.alerts.find(self.reader, key, message)
        return self._own(asked)

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

    async def could(self, act: RequestedAct) -> Asked | None:
        """Return the subject of an act that would be granted; None for another act. Records nothing."""
        asked, ruling = await self._weigh(act)
        return asked if ruling.is_granted else None

    async def do(self, act: RequestedAct) -> ActOutcome:
        """Record an act, granted or refused, and return its outcome.

        Raises `StoreUnavailable`: nothing was recorded.
        """
        outcome = await self._record(act, *await self._weigh(act))
        return await self.alerts.finished(act, outcome) if self.alerts is not None else outcome

    async def _weigh(self, act: RequestedAct) -> tuple[Asked | None, Ruling]:
        if act.verb is Verb.REVOKE:
            return await self._weigh_revocation(act)
        asked = await self.find(act.key, act.message)
        if asked is None:
            return None, Ruling(refusal=texts.UNKNOWN)
        if not asked.is_shown_there:
            return asked, Ruling(refusal=texts.ELSEWHERE)
        if (
            act.verb.is_decision is not (asked.approval is not None)
            or act.verb.is_of_alert is not (asked.alert is not None)
            or (act.verb in _WITH_OPTION and self._option(act, asked) is None)
        ):
            return asked, Ruling(refusal=texts.NO_OPTION)
        if act.is_foreign:
            return asked, foreign(act.user)
        ruling = await self.rule(act.verb, asked, act.user, act.message)
        option = self._option(act, asked) if act.verb is Verb.CHOOSE else None
        if ruling.is_granted and asked.approval is not None and asks_to_raise(asked.approval.id, option or ""):
            ruling = await self.rule(RAISE, asked, act.user, act.message)
        if ruling.is_granted and act.scope is not Scope.ONCE:
            granting = await self.rule(action_of(self.rules, GRANT, asked), asked, act.user, act.message)
            ruling = granting if not granting.is_granted else ruling
        if ruling.is_granted and asked.approval is not None and asked.approval.needs > 1 and act.verb is not Verb.DENY:
            ruling = not_requester(self.rules, asked, ruling)
        if ruling.is_granted and act.verb is Verb.RETRY and not self.launches.retrier(asked.task):
            ruling = Ruling(refusal=texts.NO_LAUNCHER, person=ruling.person)
        if ruling.is_granted and asked.alert is not None and act.verb is not Verb.ACKNOWLEDGE:
            assert self.alerts is not None
            if self.alerts.choose(asked.alert) is None:
                ruling = Ruling(refusal=texts.NO_ALERTMANAGER, person=ruling.person)
        return asked, ruling

    async def _weigh_revocation(self, act: RequestedAct) -> tuple[Asked | None, Ruling]:
        asked = self._own(await subjects.standing_of(self.reader, self.interventions, act.key, act.message))
        if asked is None or asked.standing is None:
            return None, Ruling(refusal=texts.UNKNOWN)
        if not asked.is_shown_there:
            return asked, Ruling(refusal=texts.ELSEWHERE)
        if act.is_foreign:
            return asked, foreign(act.user)
        ruling = await self.rule(action_of(self.rules, Verb.REVOKE, asked), asked, act.user, act.message)
        if not ruling.is_granted and ruling.person is not None:
            # Its owner may always end it.
            person = self._actor(ruling, act.user, act.message)
            if id_of(person) == asked.standing.granted_by_id:
                return asked, Ruling(person=ruling.person)
        return asked, ruling

    @staticmethod
    def _option(act: RequestedAct, asked: Asked) -> str | None:
        options = RATINGS if act.verb is Verb.RATE else asked.options
        return options[act.option] if act.option is not None and 0 <= act.option < len(options) else None

    async def _record(self, act: RequestedAct, asked: Asked | None, ruling: Ruling) -> ActOutcome:
        launcher = self.launches.retrier(asked.task) if asked is not None and act.verb is Verb.RETRY else ""
        intervention = Intervention(
            tenant=asked.task.tenant if asked is not None else self.tenant,
            verb=act.verb,
            key=act.key,
            actor=self._actor(ruling, act.user, act.message),
            scope=act.scope,
            option=(self._option(act, asked) or "") if asked is not None and act.verb in _WITH_OPTION else "",
            text=act.text[:MOST_WORDS],
            source=self._source,
            launcher=launcher,
            parameters=act.parameters,
            idempotency_key=act.idempotency_key,
            refusal=ruling.refusal,
            at=act.at,
        )
        verdict = await self._intervene(intervention)
        locale = self.locale(asked, act.message)
        answer = self._answer_to(act, verdict, ruling, locale)
        return ActOutcome(
            verb=act.verb, result=verdict.result, answer=answer, asked=asked, verdict=verdict, refusal=ruling.refusal,
            locale=locale,
        )  # fmt: skip

    async def may_start(self, launcher: str, user: str, message: PersonMessage) -> Ruling:
        """Rule on starting work with a launcher. Records nothing."""
        return await self.rule(Verb.START, self._to_start(_NO_TASK, self.tenant, launcher), user, message)

    @staticmethod
    def _to_start(key: UUID, tenant: str, launcher: str, text: str = "") -> Asked:
        blank = Task(uid=key, tenant=tenant, task_id="", name=text)
        return Asked(key=key, task=blank, is_shown_there=True, launcher=launcher)

    async def start(self, order: Start, tenant: str = "", locale: Locale | None = None) -> ActOutcome:
        """Start work with a launcher, if the rules allow it; recorded, granted or refused.

        Raises `StoreUnavailable`, and `WrongParameters` for a person who may start it. The rules judge the action
        ``start`` for a task that does not exist yet: only their conditions on tenant and launcher can be met.
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
        parameters = order.parameters
        if ruling.is_granted:
            parameters, faults = checked(self.launches.declared(order.launcher), order.parameters)
            if faults:
                raise WrongParameters(faults)
        intervention = Intervention(
            tenant=tenant,
            verb=Verb.START,
            key=key,
            actor=self._actor(ruling, order.user, order.message),
            text=order.text[:MOST_WORDS],
            source=self._source,
            launcher=order.launcher,
            parameters=parameters,
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
        return ActOutcome(
            verb=Verb.START, result=verdict.result, answer=answer, asked=asked, verdict=verdict, refusal=ruling.refusal
        )

    def _actor(self, ruling: Ruling, user: str, message: PersonMessage) -> Actor:
        person = actor_of(self._source, ruling.person or Person(id=user), message)
        return msgspec.structs.replace(person, credential=self._credential, client=self._client)

    async def _intervene(self, intervention: Intervention) -> Verdict:
        """Record an intervention, count it, and pass on its records."""
        store = self.alerts.store if self.alerts is not None and intervention.verb.is_of_alert else self.interventions
        verdict = await store.intervene(intervention)
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
        return texts.refused(ruling, locale) if ruling.refusal else escape(texts.verdict(act.verb, verdict, locale))

    def _count(self, verb: str, result: Result, *, is_repeat: bool = False) -> None:
        if self._watch is not None:
            self._watch.intervened(str(verb), "repeat" if is_repeat else str(result), self._source)


def start_key(tenant: str, idempotency_key: str) -> UUID:
    """Return the key that stands for a task that is to be started."""
    return UUID(bytes=named(f"{tenant}\0start\0{idempotency_key}"))


def actor_of(source: str, person: Person, message: PersonMessage) -> Actor:
    """Return the actor of an act, as far as it is known."""
    return Actor(provider=source, id=person.id, team=message.team, name=person.name, email=person.email[:320])
