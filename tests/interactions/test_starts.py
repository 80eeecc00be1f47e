"""Work is started by a dialogue: its fields are the declared parameters, and faults stand at their fields."""

from __future__ import annotations

import json
from typing import Any

from spanpost.interactions.authorization import Rule
from spanpost.model.interventions import Verb
from spanpost.routing.parameters import Parameter
from tests.interactions.test_commands import ANY, BOT, TEAM, App

DECLARED = (
    Parameter(name="repo", label="Repository", required=True),
    Parameter(name="size", kind="choice", choices=("small", "large"), default="small"),
    Parameter(name="rounds", kind="number", minimum=1, maximum=9, hint="How often."),
)
ONE = frozenset({"fix"})


async def submit(app: App, view: dict[str, Any], user: str = "UALICE", **fields: str) -> dict[str, Any]:
    """Send a dialogue off with these values by block; return the answer to Slack."""
    values = {block.replace("__", ":"): {"value": {"value": value}} for block, value in fields.items()}
    sent = {"id": f"V{app.count}", "hash": "1", "state": {"values": values}}
    body = {"type": "view_submission", "team": {"id": TEAM}, "user": {"id": user}, "view": {**view, **sent}}
    app.count += 1
    answered = await app.app.handle([app.one], body)
    assert answered.status == 200
    found: dict[str, Any] = json.loads(answered.body) if answered.body else {}
    return found


async def test_a_dialogue_asks_for_the_declared_parameters() -> None:
    """`/agents start fix words` opens a dialogue with the words and a field for each parameter; nothing is recorded."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    assert await app.say("start fix the broken build") == ""
    [view] = app.web.views
    fields = {block["block_id"]: block for block in view["blocks"] if block["type"] == "input"}
    assert list(fields) == ["text", "parameter:repo", "parameter:size", "parameter:rounds"]
    assert fields["text"]["element"]["initial_value"] == "the broken build"
    assert [fields[name]["optional"] for name in list(fields)[1:]] == [False, True, True]
    size = fields["parameter:size"]["element"]
    assert ([one["value"] for one in size["options"]], size["initial_option"]["value"]) == (["small", "large"], "small")
    assert fields["parameter:rounds"]["hint"]["text"] == "How often. A number, 1 to 9."
    assert app.interaction_store.rows == []


async def test_faults_stand_at_their_fields_and_a_start_is_recorded() -> None:
    """Wrong values keep the dialogue open with a fault at each field, and record nothing; right ones start once."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    await app.say("start")
    [view] = app.web.views
    wrong = await submit(app, view, text="Fix it", parameter__rounds="10", parameter__size="huge")
    assert wrong == {
        "response_action": "errors",
        "errors": {
            "parameter:repo": "Is missing.",
            "parameter:size": "Must be one of small, large.",
            "parameter:rounds": "Must be at most 9.",
        },
    }
    assert app.interaction_store.rows == []
    right = await submit(app, view, text="Fix it", parameter__repo="acme/shop", parameter__rounds="3")
    assert "fix was asked" in str(right["view"]["blocks"])
    [row] = app.interaction_store.rows
    assert (row.verb, row.launcher, row.text) == (Verb.START, "fix", "Fix it")
    assert (row.actor.id, row.source) == ("UALICE", "slack")
    assert row.parameters == {"repo": "acme/shop", "size": "small", "rounds": "3"}


async def test_a_launcher_is_chosen_among_those_that_one_may_start() -> None:
    """With several launchers the dialogue first asks for one of those that the person may start."""
    only = [Rule(actions=frozenset({"start"}), users=("UALICE",), launcher=name) for name in ("fix", "nightly")]
    app = App(*only, launchers=frozenset({"fix", "nightly", "secret"}), declared=DECLARED)
    await app.say("start")
    [view] = app.web.views
    [choice] = view["blocks"]
    assert [one["value"] for one in choice["element"]["options"]] == ["fix", "nightly"]
    chosen = await submit(app, view, launcher="nightly")
    assert (chosen["response_action"], json.loads(chosen["view"]["private_metadata"])["l"]) == ("update", "nightly")
    forged = await submit(app, view, launcher="secret")
    assert "Not done" in str(forged["view"]["blocks"])
    assert [(row.launcher, bool(row.refusal)) for row in app.interaction_store.rows] == [("secret", True)]


async def test_who_may_start_nothing_gets_no_dialogue() -> None:
    """A person without the right is refused with a row, and sees no parameters; so is one who submits a dialogue."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    for user in ("UBOB", "UGUEST", "USTRANGER"):
        assert "Not done" in await app.say("start fix it", user)
    assert app.web.views == []
    await app.say("start fix")
    refused = await submit(app, app.web.views[0], "UBOB", text="x", parameter__rounds="none")
    assert "Not done" in str(refused["view"]["blocks"])
    assert [row.refusal != "" for row in app.interaction_store.rows] == [True] * 4


async def test_a_dialogue_that_is_sent_twice_starts_once() -> None:
    """A repeated submission is one start."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    await app.say("start fix")
    for _ in range(2):
        app.count = 7
        await submit(app, app.web.views[0], text="x", parameter__repo="r")
    assert len(app.interaction_store.rows) == 1


async def test_a_mention_cannot_open_a_dialogue() -> None:
    """A mention starts what needs nothing; if parameters are missing, it says which, and starts nothing."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    said = await app.mention(f"<@{BOT}> start fix it")
    assert "repo is missing" in said
    assert "slash command" in said
    assert app.interaction_store.rows == []


async def test_the_database_is_away() -> None:
    """Without the database the dialogue stays open, and says that nothing was recorded."""
    app = App(ANY, launchers=ONE, declared=DECLARED)
    await app.say("start fix")
    app.interaction_store.is_away = True
    answer = await submit(app, app.web.views[0], text="x", parameter__repo="r")
    assert "could not be recorded" in answer["errors"]["text"]
