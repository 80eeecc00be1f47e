"""The authorization rules, without any Slack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.interactions.authorization import (
    ACTIONS,
    Ask,
    AuthorizationRules,
    Failed,
    Found,
    Lookup,
    MembersOf,
    Person,
    PersonOf,
    Rule,
    Ruling,
    judge,
)
from spanpost.interactions.protocols import Answer, Asked, PersonMessage
from spanpost.model.readings import Approval
from spanpost.testing.nouns import a_task

PLACE = PersonMessage(team="T1", channel="C1", ts="1.2")
ALICE = Person(id="UALICE", team="T1", name="alice", email="alice@acme.example")


class World:
    """Results of look-ups. `looked` has the look-ups that were made."""

    def __init__(self, person: Person | Failed = ALICE, **found: Found) -> None:
        self.person, self.found = person, found
        self.looked: list[Lookup] = []

    def __call__(self, lookup: Lookup) -> Found:
        self.looked.append(lookup)
        if isinstance(lookup, PersonOf):
            return self.person
        return self.found.get(lookup.id if isinstance(lookup, MembersOf) else lookup.resolver, Failed("missing_scope"))


def ruled(
    world: World,
    *rules: Rule,
    action: str = "approve",
    risk: str = "",
    people: dict[str, str] | None = None,
    **task: Any,
) -> Ruling:
    asked = Asked(key=uuid4(), task=a_task(**task), approval=Approval(id="a", risk=risk), is_shown_there=True)
    talk = judge(AuthorizationRules(rules=rules, people=people or {}), action, asked, "UALICE", PLACE)
    try:
        lookup = next(talk)
        while True:
            lookup = talk.send(world(lookup))
    except StopIteration as done:
        ruling: Ruling = done.value
        return ruling


def rule(*actions: str, **fields: Any) -> Rule:
    return Rule(actions=frozenset(actions or ("decide",)), **fields)


def test_without_a_rule_everybody_is_refused() -> None:
    """Without a rule there is no right, and nobody is looked up."""
    world = World()
    for action in ACTIONS:
        assert not ruled(world, action=action).is_granted
    assert world.looked == []


def test_a_rule_without_people_grants_nothing() -> None:
    """Conditions alone grant nothing."""
    assert not ruled(World(), rule(tenant="default")).is_granted


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"users": ("UALICE",)}, {}),
        ({"groups": ("S1",)}, {"S1": frozenset({"UALICE"})}),
        ({"channels": ("C9",)}, {"C9": frozenset({"UALICE"})}),
        ({"channels": ("here",)}, {"C1": frozenset({"UALICE"})}),
        ({"emails": ("Alice@Acme.example",)}, {}),
        ({"resolver": "okta"}, {"okta": Answer(is_allowed=True)}),
    ],
)
def test_each_way_in(fields: dict[str, Any], found: dict[str, Found]) -> None:
    """Users, groups, channels, addresses and resolvers grant their members, and without members nobody."""
    assert ruled(World(**found), rule(**fields)).is_granted
    stranger = Person(id="UALICE", team="T1", email="mallory@acme.example")
    nobody: dict[str, Found] = {
        name: Answer(is_allowed=False) if name == "okta" else frozenset({"UBOB"}) for name in found
    }
    outside = {"users": ("UBOB",)} if "users" in fields else fields
    ruling = ruled(World(stranger, **nobody), rule(**outside))
    assert not ruling.is_granted
    assert ruling.who != ()


@pytest.mark.proves("by-the-rules", "foreign-action")
@pytest.mark.parametrize(
    "flaw",
    [{"is_bot": True}, {"is_gone": True}, {"is_guest": True}, {"is_stranger": True}, {"team": "T2"}, {"team": ""}],
)
def test_some_people_may_nothing(flaw: dict[str, Any]) -> None:
    """Bots, former members, guests and foreigners are refused although a rule names them, without details."""
    person = Person(**({"id": "UALICE", "team": "T1"} | flaw))
    ruling = ruled(World(person), rule(users=("UALICE",)))
    assert not ruling.is_granted
    assert ruling.who == ()


@pytest.mark.proves("by-the-rules")
def test_what_cannot_be_looked_up_refuses_with_the_reason() -> None:
    """A failed look-up of a person, a group or a resolver grants nothing; another way in still does."""
    assert "missing_scope" in ruled(World(Failed("missing_scope")), rule(users=("UALICE",))).refusal
    assert "missing_scope" in ruled(World(), rule(groups=("S1",))).refusal
    assert "missing_scope" in ruled(World(), rule(resolver="okta")).refusal
    assert ruled(World(C1=frozenset({"UALICE"})), rule(groups=("S1",), channels=("here",))).is_granted


def test_the_first_rule_that_fits_decides() -> None:
    """A narrow rule before a wide one takes away what the wide one grants."""
    narrow, wide = rule(risk="high", users=("UBOB",)), rule(users=("UALICE",))
    assert not ruled(World(), narrow, wide, risk="high").is_granted
    assert ruled(World(), narrow, wide, risk="low").is_granted
    assert ruled(World(), wide, narrow, risk="high").is_granted


def test_each_condition_narrows() -> None:
    """Tenant, agent, topic and environment must all match the task."""
    task = {"agent_name": "deployer", "topic": "deploy", "environment": "prod"}
    fits = rule(tenant="default", agent="deployer", topic="deploy", environment="prod", users=("UALICE",))
    assert ruled(World(), fits, **task).is_granted
    for field in ("tenant", "agent", "topic", "environment"):
        other = replace(fits, **{field: "another"})
        assert not ruled(World(), other, **task).is_granted


@pytest.mark.parametrize(
    "said", ["UALICE", "<@UALICE>", "slack:UALICE", "alice@acme.example", " ALICE@acme.example ", "alice"]
)
def test_the_requester(said: str) -> None:
    """Known by id, address or map, requesters may act where a rule says so, and not where one excludes them."""
    people = {"alice": "UALICE"}
    assert ruled(World(), rule(requester=True), requested_by=said, people=people).is_granted
    shut = rule(users=("UALICE",), not_requester=True)
    assert not ruled(World(), shut, requested_by=said, people=people).is_granted
    assert ruled(World(), shut, requested_by="bob@acme.example", people=people).is_granted
    assert ruled(World(), shut, requested_by=None, people=people).is_granted


def test_no_rule_is_got_around_by_a_sub_agent() -> None:
    """A sub-agent's missing attributes come from the tasks above it, whose requester is excluded too."""
    above = (
        a_task("between", agent_name="coder"),
        a_task("root", agent_name="boss", topic="deploy", environment="prod", requested_by="UALICE"),
    )

    def ruling(*rules: Rule, **task: Any) -> bool:
        own = {"agent_name": "sub", "topic": None, "environment": None, "requested_by": None} | task
        asked = Asked(key=uuid4(), task=a_task(**own), approval=Approval(id="a"), is_shown_there=True, above=above)
        talk = judge(AuthorizationRules(rules=rules), "approve", asked, "UALICE", PLACE)
        try:
            lookup = next(talk)
            while True:
                lookup = talk.send(World()(lookup))
        except StopIteration as done:
            return bool(done.value.is_granted)

    strict, wide = {"users": ("UBOB",)}, rule(users=("UALICE",))
    assert ruling(wide)
    for narrow in ({"agent": "boss"}, {"agent": "sub"}, {"topic": "deploy"}, {"environment": "prod"}):
        assert not ruling(rule(**narrow, **strict), wide), narrow
    assert ruling(rule(environment="prod", **strict), wide, environment="test")
    assert not ruling(rule(users=("UALICE",), not_requester=True))
    assert not ruling(rule(users=("UALICE",), not_requester=True), requested_by="UBOB")
    assert ruling(rule(requester=True))
    assert not ruling(rule(requester=True), requested_by="UBOB")


def test_an_unknown_requester_excludes_everybody() -> None:
    """If the requester is unknown, anybody could be the requester."""
    assert not ruled(World(), rule(users=("UALICE",), not_requester=True), requested_by="the boss").is_granted
    nameless = World(Person(id="UALICE", team="T1"))
    assert not ruled(nameless, rule(users=("UALICE",), not_requester=True), requested_by="bob@acme.example").is_granted
    assert not ruled(World(), rule(requester=True), requested_by="the boss").is_granted


def test_addresses_of_other_domains_count_for_nothing() -> None:
    """With domains in the settings, only their addresses count."""
    for domains, is_granted in ((("acme.example",), True), (("other.example",), False), ((), True)):
        asked = Asked(key=uuid4(), task=a_task(), is_shown_there=True)
        talk = judge(
            AuthorizationRules(rules=(rule("cancel", emails=(ALICE.email,)),), email_domains=domains),
            "cancel",
            asked,
            "UALICE",
            PLACE,
        )
        next(talk)
        with pytest.raises(StopIteration) as done:
            talk.send(ALICE)
        assert done.value.value.is_granted is is_granted


FOUND = st.one_of(
    st.builds(Failed, st.text(max_size=5)),
    st.frozensets(st.sampled_from(["UALICE", "UBOB"])),
    st.builds(Answer, is_allowed=st.booleans(), reason=st.text(max_size=5)),
    st.builds(
        Person, id=st.sampled_from(["UALICE", "UBOB"]), team=st.sampled_from(["T1", "T2", ""]), is_guest=st.booleans()
    ),
)
RULES = st.builds(
    Rule,
    actions=st.frozensets(st.sampled_from([*ACTIONS, "decide"]), min_size=1),
    users=st.sampled_from([(), ("UALICE",), ("UBOB",)]),
    groups=st.sampled_from([(), ("S1",)]),
    channels=st.sampled_from([(), ("here",), ("C2",)]),
    requester=st.booleans(),
    not_requester=st.booleans(),
    resolver=st.sampled_from(["", "okta"]),
)


@pytest.mark.proves("by-the-rules")
@given(st.lists(RULES, max_size=4), st.sampled_from(ACTIONS), st.lists(FOUND, min_size=8, max_size=8))
def test_nothing_is_granted_without_a_reason(rules: list[Rule], action: str, found: list[Found]) -> None:
    """With any results of lookups a grant rests on a workspace member whom the deciding rule includes."""
    asked = Asked(key=uuid4(), task=a_task(requested_by="UBOB"), is_shown_there=True)
    talk = judge(AuthorizationRules(rules=tuple(rules)), action, asked, "UALICE", PLACE)
    answers, seen = iter(found), []
    try:
        lookup = next(talk)
        while True:
            seen.append((lookup, next(answers)))
            lookup = talk.send(seen[-1][1])
    except StopIteration as done:
        ruling: Ruling = done.value
    assert ruling.is_granted is not bool(ruling.refusal)
    if ruling.is_granted:
        person = seen[0][1]
        assert isinstance(person, Person)
        assert (person.team, person.is_guest) == ("T1", False)
        decides = next(one for one in rules if one.takes(action, asked))
        ways = [person.id in decides.users, decides.requester and person.id == "UBOB"]
        ways += [isinstance(a, frozenset) and person.id in a for lookup, a in seen[1:] if isinstance(lookup, MembersOf)]
        ways += [isinstance(a, Answer) and a.is_allowed for lookup, a in seen[1:] if isinstance(lookup, Ask)]
        assert any(ways)
        assert not (decides.not_requester and person.id == "UBOB")
