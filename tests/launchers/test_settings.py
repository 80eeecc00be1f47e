"""Launchers' settings: found by their kind, refused with the next step, shown to nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import AuthorizationRules, Failed, Person, PersonOf, Rule
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.requested_acts import Start
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Result, Verb
from spanpost.model.launch_orders import OrderQuery
from spanpost.routing.launch_orders import Launches, on_end
from spanpost.runtime.assembly import open_launchers
from spanpost.settings import load
from spanpost.store.memory import MemoryStore
from spanpost.testing.nouns import NOON, a_task

pytestmark = pytest.mark.usefixtures("clean_environment")
COMMAND = {"kind": "command", "command": ["/bin/true"]}


def test_nothing_set_is_nothing() -> None:
    """Without settings there is no launcher, no retry and no rule."""
    assert (load().launchers.launchers, open_launchers(load())) == (frozenset(), {})


def test_what_is_off_starts_nothing() -> None:
    """A disabled launcher is not opened, and neither retries nor rules start it."""
    named = {"on": COMMAND, "off": COMMAND | {"enabled": False}}
    rules = [{"name": "r", "start": ["on", "off"]}]
    made = load(launchers={"named": named, "retries": [{"launcher": "off"}, {"launcher": "on"}], "rules": rules})
    assert list(open_launchers(made)) == ["launch:on"]
    launches, ended = made.launchers, a_task(status="complete", ended_at=NOON)
    assert launches.retrier(a_task()) == "on"
    assert [order.carrier for order in on_end(ended, launches, None, NOON)] == ["launch:on"]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field of one launcher can be set by an environment variable, beside the file."""
    monkeypatch.setenv("SPANPOST_LAUNCHERS__NAMED__FIX__TIMEOUT", "7")
    made = load(launchers={"named": {"fix": COMMAND}})
    assert made.launchers.opened()["fix"][1].model_dump()["timeout"].total_seconds() == 7


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"named": {"fix": {"command": ["x"]}}}, "fix.kind"),
        ({"named": {"fix": {"kind": "nothing"}}}, "launcher plugin 'nothing': not installed"),
        ({"named": {"fix": COMMAND | {"canary": 1}}}, "fix.canary"),
        ({"named": {"Fix it": COMMAND}}, "lower-case"),
        ({"retries": [{"launcher": "fix"}]}, "no launcher 'fix'"),
        ({"rules": [{"name": "r", "start": ["fix"]}]}, "no launcher 'fix'"),
        ({"named": {"fix": COMMAND}, "rules": [{"name": "r", "start": ["fix"]}] * 2}, "one name"),
        ({"named": {"fix": COMMAND}, "rules": [{"name": "r", "start": ["fix"], "text": "{nothing}"}]}, "no {nothing}"),
        ({"nemad": {}}, "did you mean named"),
    ],
)
def test_mistakes_are_refused(said: dict[str, Any], message: str) -> None:
    """An invalid setting is refused at the start, with the field and the valid values."""
    with pytest.raises(ConfigError, match=message):
        load(launchers=said)


class _People:
    """Knows Alice."""

    async def lookup(self, lookup: Any, message: PersonMessage, question: tuple[str, Asked]) -> Any:
        return Person(id="U1", team="T1", name="alice") if lookup == PersonOf("U1") else Failed("nobody")

    async def forget(self, ruling: Any, user: str) -> bool:
        return False


async def test_what_a_person_starts() -> None:
    """An allowed person starts a launcher once a request; other people and unknown launchers are refused rows."""
    store = MemoryStore()
    rules = AuthorizationRules(rules=(Rule(actions=frozenset({"start"}), launcher="fix", users=("U1",)),))
    interactions = Interactions(
        store.reader,
        store.interventions,
        _People(),
        rules,
        take=lambda recorded: None,
        source="slack",
        tenant="acme",
        launches=Launches(named={"fix": {}}),
    )

    def start(launcher: str, user: str = "U1", idempotency_key: str = "1") -> Start:
        place = PersonMessage(team="T1", channel="C1", ts="")
        return Start(
            launcher=launcher,
            text="Fix it",
            parameters={"a": "b"},
            user=user,
            message=place,
            idempotency_key=idempotency_key,
            at=NOON,
        )

    first, again = await interactions.start(start("fix")), await interactions.start(start("fix"))
    assert (first.result, again.result, first.verdict is not None) == (Result.DONE, Result.DONE, True)
    [row] = await store.launch_orders.listed(OrderQuery(tenant="acme"))
    assert (row.order.name, row.order.text, row.order.parameters, row.order.by) == (
        "fix",
        "Fix it",
        {"a": "b"},
        "alice",
    )
    other = await interactions.start(start("other", idempotency_key="2"))
    stranger = await interactions.start(start("fix", user="U9", idempotency_key="3"))
    assert (other.result, stranger.result) == (Result.REFUSED, Result.REFUSED)
    assert "Not done" in stranger.answer
    assert len(await store.launch_orders.listed(OrderQuery())) == 1
    assert str(Verb.START) == "start"
