"""Authorization rules: pure functions that fail closed.

1. The first rule that names the action, and whose conditions the task meets, decides. Without one, the act is
   refused.
2. Guests, bots, deactivated users, strangers and members of another workspace may do nothing, whatever a rule says.
3. `not_requester` shuts out the person for whom the task runs, and everybody if that person cannot be identified.
   A task inherits missing attributes from the tasks above it: a sub-agent cannot bypass a rule.
4. Then one of the rule's sets of people must contain the person. A rule without people allows no one.
5. A lookup that fails allows no one, and the refusal says which lookup failed.

`judge` is a generator: it yields each lookup, is sent the result, and returns a ruling. So rules are tested
without a network, and only necessary lookups are made.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from spanpost.interactions.protocols import Answer, Asked, PersonMessage
from spanpost.model.interventions import Verb
from spanpost.text.locales import ENGLISH, LocaleMessage

#: An action that is no intervention and still needs a rule.
VIEW: Final = "view"
DECIDE: Final = "decide"
#: The answer to a budget's question that raises its limit; beside `choose`.
RAISE: Final = "raise"
#: To approve further than one question.
GRANT: Final = "grant"
ACTIONS: Final = (*(str(verb) for verb in Verb), VIEW, RAISE, GRANT)
#: Actions that are decided like another where no rule names them.
_LIKE: Final = {GRANT: str(Verb.APPROVE), str(Verb.REVOKE): GRANT}
#: In place of a channel: the channel of the message.
HERE: Final = "here"
_FOREIGN: Final = LocaleMessage("why.foreign")
_WHO_YOU_ARE: Final = LocaleMessage("why.who_you_are")
_DECISIONS: Final = frozenset(str(verb) for verb in Verb if verb.is_decision)
_SLACK_ID: Final = re.compile(r"^(?:slack:|<@|@)?([UW][A-Z0-9]{2,30})>?\Z")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A person, as the provider knows them."""

    id: str
    #: slack, api (a token) or oidc (a person). Slack ids mean nothing for the other providers.
    provider: str = "slack"
    #: Roles from a token or an identity provider (`CallerRole`).
    roles: frozenset[str] = frozenset()
    team: str = ""
    name: str = ""
    #: Confirmed by the provider; empty if unknown.
    email: str = ""
    is_bot: bool = False
    is_gone: bool = False
    is_guest: bool = False
    is_stranger: bool = False


class PersonOf(msgspec.Struct, frozen=True):
    """Lookup of a user. Answered by a `Person`."""

    id: str


class MembersOf(msgspec.Struct, frozen=True):
    """Lookup of the members of a user group or a channel. Answered by a set of user ids."""

    id: str
    is_group: bool


class Ask(msgspec.Struct, frozen=True):
    """Question to a resolver about a person. Answered by an `Answer`."""

    resolver: str
    person: Person


class Failed(msgspec.Struct, frozen=True):
    """A lookup that failed."""

    reason: str


Lookup: TypeAlias = PersonOf | MembersOf | Ask
Found: TypeAlias = Person | frozenset[str] | Answer | Failed


class CallerRole(StrEnum):
    """A caller's role. Public: settings, JSON. Every role may read."""

    VIEWER = "viewer"
    #: May cancel, pause, resume, retry, rate, mute and send messages.
    OPERATOR = "operator"
    #: May decide approvals.
    APPROVER = "approver"
    #: May read recorded content, including prompts and tool arguments.
    AUDITOR = "auditor"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: these people may do these actions on tasks that meet the conditions.

    A missing condition always holds.
    """

    actions: Collection[str]
    tenant: str | None = None
    agent: str | None = None
    topic: str | None = None
    environment: str | None = None
    risk: str | None = None
    launcher: str | None = None
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    requester: bool = False
    resolver: str | None = None
    not_requester: bool = False

    def takes(self, action: str, asked: Asked) -> bool:
        """Tell whether this rule decides about the action on that task."""
        risk = asked.approval.risk if asked.approval is not None else ""
        return (
            (action in self.actions or (DECIDE in self.actions and action in _DECISIONS))
            and (self.tenant is None or self.tenant == asked.task.tenant)
            and (self.agent is None or self.agent in asked.agents)
            and (self.topic is None or self.topic == asked.topic)
            and (self.environment is None or self.environment == asked.environment)
            and (self.risk is None or self.risk == risk)
            and (self.launcher is None or self.launcher == asked.launcher)
        )


@dataclass(frozen=True, kw_only=True)
class AuthorizationRules:
    """All rules, in order, and how people are identified."""

    rules: tuple[Rule, ...] = ()
    #: Names in `agent.requested_by`, and the e-mail address or user id of each. Keys in lower case.
    people: Mapping[str, str] = field(default_factory=dict)
    #: Domains whose addresses count; empty: every address that the provider confirmed. Lower case.
    email_domains: tuple[str, ...] = ()

    def with_rules(self, rules: Sequence[Rule]) -> AuthorizationRules:
        """Return other rules for people who are identified in the same way."""
        return AuthorizationRules(rules=tuple(rules), people=self.people, email_domains=self.email_domains)


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """A ruling. `refusal` is empty if the act is granted."""

    refusal: str = ""
    #: The refusal as locale messages; if empty, only `refusal` can be shown.
    why: tuple[LocaleMessage | str, ...] = ()
    person: Person | None = None
    #: Who may do it, for a refused person: (kind, value), kind user, group, channel, email, role, requester
    #: or resolver.
    who: tuple[tuple[str, str], ...] = ()

    @property
    def is_granted(self) -> bool:
        """True if the act is granted."""
        return not self.refusal


def refused(*why: LocaleMessage | str, person: Person | None = None, who: tuple[tuple[str, str], ...] = ()) -> Ruling:
    """Return a refusal. It is recorded in English."""
    return Ruling(refusal="; ".join(map(ENGLISH.tell, why)), why=why, person=person, who=who)


def foreign(user: str = "") -> Ruling:
    """Refuse a user whom the provider itself marks as a member of another workspace."""
    return refused(_FOREIGN, person=Person(id=user) if user else None)


def action_of(rules: AuthorizationRules, action: str, asked: Asked) -> str:
    """Return the action whose rule decides: where no rule names `GRANT` or revoking, the one that it is like."""
    while action in _LIKE and not any(rule.takes(action, asked) for rule in rules.rules):
        action = _LIKE[action]
    return action


def judge(
    rules: AuthorizationRules, action: str, asked: Asked, user: str, message: PersonMessage
) -> Generator[Lookup, Found, Ruling]:
    """Rule on a user's action, requested in that message."""
    rule = next((rule for rule in rules.rules if rule.takes(action, asked)), None)
    if rule is None:
        return refused(
            LocaleMessage("why.no_rule", {"action": LocaleMessage(f"action.{action}")}), person=Person(id=user)
        )
    person = yield PersonOf(user)
    if not isinstance(person, Person):
        return refused(_failed(_WHO_YOU_ARE, person), person=Person(id=user))
    if why := unfit(person, message.team):
        return refused(why, person=person)
    person = msgspec.structs.replace(person, email=_counted(person.email, rules.email_domains))
    who = may(rule, message)
    for requester in asked.requesters if rule.not_requester else ():
        is_requester = _is_requester(person, requester, rules.people)
        if is_requester is None:
            return refused(LocaleMessage("why.perhaps_requester"), person=person, who=who)
        if is_requester:
            return refused(LocaleMessage("why.requester"), person=person, who=who)
    failures: list[LocaleMessage | str] = []
    if (yield from _holds(rule, rules, asked, person, message, failures)):
        return Ruling(person=person, who=who)
    unique = {ENGLISH.tell(one): one for one in failures}
    return refused(
        *(unique.values() or [LocaleMessage("why.may_not", {"action": LocaleMessage(f"action.{action}")})]),
        person=person,
        who=who,
    )


def not_requester(rules: AuthorizationRules, asked: Asked, ruling: Ruling) -> Ruling:
    """Refuse a granted act to the people for whom the task runs, and to all where one cannot be identified."""
    if ruling.person is None:
        return ruling
    for requester in asked.requesters:
        is_requester = _is_requester(ruling.person, requester, rules.people)
        if is_requester is not False:
            why = LocaleMessage("why.requester" if is_requester else "why.perhaps_requester")
            return refused(why, person=ruling.person, who=ruling.who)
    return ruling


def judge_listing(
    rules: AuthorizationRules, asked: Asked | None, user: str, message: PersonMessage
) -> Generator[Lookup, Found, Ruling]:
    """Rule on listing a task; without a task, on listing any.

    If a rule about `VIEW` matches the task, that rule decides; otherwise every member of the workspace may.
    """
    if asked is not None and any(rule.takes(VIEW, asked) for rule in rules.rules):
        return (yield from judge(rules, VIEW, asked, user, message))
    person = yield PersonOf(user)
    if not isinstance(person, Person):
        return refused(_failed(_WHO_YOU_ARE, person), person=Person(id=user))
    why = unfit(person, message.team)
    return refused(why, person=person) if why is not None else Ruling(person=person)


def _holds(
    rule: Rule,
    rules: AuthorizationRules,
    asked: Asked,
    person: Person,
    message: PersonMessage,
    failures: list[LocaleMessage | str],
) -> Generator[Lookup, Found, bool]:
    is_of_slack = person.provider == "slack"
    if (is_of_slack and person.id in rule.users) or (person.email and _listed(person.email, rule.emails)):
        return True
    if not person.roles.isdisjoint(rule.roles):
        return True
    if rule.requester and asked.requesters and _is_requester(person, asked.requesters[0], rules.people):
        return True
    lookups = [MembersOf(group, True) for group in rule.groups]
    channels = [message.channel if channel == HERE else channel for channel in rule.channels]
    lookups += [MembersOf(channel, False) for channel in channels if channel]
    # Outside a message "here" names no channel: else anyone could create a channel and meet the rule.
    if is_of_slack and "" in channels:
        failures.append(LocaleMessage("why.no_message"))
    for lookup in lookups if is_of_slack else ():
        found = yield lookup
        if isinstance(found, frozenset):
            if person.id in found:
                return True
        else:
            failures.append(_failed(LocaleMessage("why.who_is_in", {"id": lookup.id}), found))
    if rule.resolver:
        answer = yield Ask(rule.resolver, person)
        if isinstance(answer, Answer):
            if answer.is_allowed is True:
                return True
            if answer.reason:
                failures.append(answer.reason)
        else:
            failures.append(_failed(LocaleMessage("why.what_says", {"resolver": rule.resolver}), answer))
    if rule.emails and not person.email:
        failures.append(LocaleMessage("why.no_email"))
    return False


def unfit(person: Person, team: str) -> LocaleMessage | None:
    """Return why a person may do nothing at all; None if they may."""
    if person.is_bot:
        return LocaleMessage("why.bot")
    if person.is_gone:
        return LocaleMessage("why.gone")
    if person.is_stranger or not person.team or person.team != team:
        return _FOREIGN
    if person.is_guest:
        return LocaleMessage("why.guest")
    return None


def may(rule: Rule, message: PersonMessage) -> tuple[tuple[str, str], ...]:
    """Return the people whom a rule allows, for the text of a refusal."""
    found = [("user", user) for user in rule.users]
    found += [("group", group) for group in rule.groups]
    found += [
        ("channel", message.channel if channel == HERE else channel)
        for channel in rule.channels
        if channel != HERE or message.channel
    ]
    found += [("email", email) for email in rule.emails]
    found += [("role", role) for role in rule.roles]
    found += [("requester", "")] * rule.requester
    found += [("resolver", rule.resolver)] if rule.resolver else []
    return tuple(found)


def runs_for(rules: AuthorizationRules, requested_by: str, person: Person) -> bool:
    """Tell whether a task runs for a person; False where that is unknown."""
    known = msgspec.structs.replace(person, email=_counted(person.email, rules.email_domains))
    return _is_requester(known, requested_by, rules.people) is True


def _is_requester(person: Person, requested_by: str, people: Mapping[str, str]) -> bool | None:
    """Tell whether the task runs for that person; None if that is unknown."""
    said = requested_by.strip()
    said = people.get(said.casefold(), said).strip()
    if match := _SLACK_ID.match(said):
        return match[1] == person.id if person.provider == "slack" else None
    if "@" in said.strip("@"):
        return said.casefold() == person.email.casefold() if person.email else None
    return None


def _counted(email: str, domains: Sequence[str]) -> str:
    """Return the address if it counts, else an empty string."""
    return email if not domains or email.rpartition("@")[2].casefold() in domains else ""


def _listed(email: str, emails: Sequence[str]) -> bool:
    return email.casefold() in (one.casefold() for one in emails)


def _failed(what: LocaleMessage, found: object) -> LocaleMessage:
    reason: LocaleMessage | str = found.reason if isinstance(found, Failed) else LocaleMessage("why.odd_answer")
    return LocaleMessage("why.not_found", {"what": what, "reason": reason})
