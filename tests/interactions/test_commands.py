"""Commands and mentions: each is answered to its writer alone, and the place of writing bypasses no rule."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.cli.columns import short
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import (
    AuthorizationRules,
    Found,
    Lookup,
    MembersOf,
    Person,
    PersonOf,
    Rule,
    Ruling,
)
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.slack import phrases
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.entities import Entities
from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.web import Trouble
from spanpost.model.interventions import Verb
from spanpost.model.messages import LocaleMessage
from spanpost.model.queries import LEAST_PREFIX
from spanpost.model.readings import Approval
from spanpost.model.tasks import BETWEEN_PROMPTS
from spanpost.routing.launch_orders import Launches
from spanpost.routing.parameters import Parameter
from spanpost.sinks.outputs import EntityCommand, Figures, OutputQuery
from spanpost.testing.nouns import a_task
from spanpost.text.locales import KOREAN
from tests.interactions.store import InteractionStore
from tests.sinks.test_outputs import Prometheus

TEAM, BOT = "T1", "UBOT"
AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


PEOPLE = {
    "UALICE": Person(id="UALICE", team=TEAM, name="alice"),
    "UBOB": Person(id="UBOB", team=TEAM, name="bob"),
    "UGUEST": Person(id="UGUEST", team=TEAM, is_guest=True),
    "USTRANGER": Person(id="USTRANGER", team="T9"),
}


class Workspace:
    """The workspace's people: Alice, Bob, a guest, and a stranger; C1 has Alice alone, any other channel
    Bob, too.
    """

    async def lookup(self, lookup: Lookup, message: PersonMessage, question: tuple[str, Asked]) -> Found:
        if isinstance(lookup, PersonOf):
            return PEOPLE[lookup.id]
        assert isinstance(lookup, MembersOf)
        return frozenset({"UALICE"} if lookup.id == "C1" else {"UBOB", "UALICE"})

    async def forget(self, ruling: Ruling, user: str) -> bool:
        return False


class Web:
    """Keeps the messages to people: (user, text, blocks)."""

    base_url = "http://127.0.0.1:9/api/"

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []
        self.views: list[dict[str, Any]] = []

    async def call(self, method: str, **given: Any) -> dict[str, Any]:
        if method == "chat.getPermalink":
            if given["channel"] != "C1":
                raise Trouble("channel_not_found")
            number = given["message_ts"].replace(".", "")
            return {"permalink": f"https://acme.slack.com/archives/{given['channel']}/p{number}"}
        if method == "views.open":
            self.views.append(given["view"])
            return {}
        assert method == "chat.postEphemeral", method
        self.sent.append((given["user"], given["text"], given.get("blocks", [])))
        return {}

    async def respond(self, url: str, text: str, blocks: Any = None) -> bool:
        if url != "https://hooks.slack.com/commands/1":
            return False
        self.sent.append(("", text, blocks))
        return True

    async def close(self) -> None: ...


class App:
    """An app in a workspace, without any network."""

    def __init__(
        self,
        *rules: Rule,
        launchers: frozenset[str] = frozenset({"nightly", "fix"}),
        declared: Sequence[Parameter] = (),
        entities: Entities | None = None,
    ) -> None:
        self.interaction_store, self.web = InteractionStore(), Web()
        interactions = Interactions(
            self.interaction_store.reader,
            self.interaction_store.interventions,
            Workspace(),
            AuthorizationRules(rules=rules),
            take=lambda recorded: None,
            source="slack",
            tenant="default",
            launches=Launches(named={name: {"parameters": declared} for name in launchers}),
        )
        one = Installation(interactions, self.web, "xoxb-1")  # type: ignore[arg-type]
        one._self = Self(team=TEAM, bot_user=BOT)
        self.one = one
        self.app = SlackApp([one], entities=entities)
        self.count = 0

    def task(self, key: str, channel: str = "C1", **fields: Any) -> Any:
        task = a_task(key, **fields)
        self.interaction_store.known[task.uid] = (
            task,
            None,
            {(channel, f"{len(self.interaction_store.known) + 1}.5")} if channel else set(),
        )
        return task

    async def say(self, text: str, user: str = "UALICE", *, channel: str = "C7", again: bool = False) -> str:
        """Write ``/agents`` and a text; return all messages that it caused."""
        self.count += not again
        body = {
            "command": "/agents",
            "text": text,
            "team_id": TEAM,
            "user_id": user,
            "channel_id": channel,
            "trigger_id": f"{self.count}.1",
            "response_url": "https://hooks.slack.com/commands/1",
        }
        return await self.hear(body)

    async def mention(self, text: str, user: str = "UALICE", **event: Any) -> str:
        self.count += 1
        said = {"type": "app_mention", "user": user, "text": text, "ts": f"{self.count}.9", "channel": "C7"} | event
        return await self.hear({"type": "event_callback", "team_id": TEAM, "event": said})

    async def hear(self, body: dict[str, Any]) -> str:
        before = len(self.web.sent)
        answered = await self.app.handle([self.one], body)
        assert answered.status == 200, answered
        assert not answered.body
        while self.app._keeper._under_way:
            await asyncio.gather(*self.app._keeper._under_way)
        return "\n".join(text for _, text, _ in self.web.sent[before:])


ANY = Rule(actions=frozenset({"cancel", "start"}), users=("UALICE",))


async def test_what_runs_and_what_waits() -> None:
    """The lists show running tasks and open questions with ids and links, of the own tenant only."""
    app = App()
    app.task("one", name="Nightly <!channel> *report*")
    app.task("over", status="complete")
    app.task("other", tenant="acme")
    app.task("silent", channel="", name="Of no message")
    asks = a_task("asks", name="Deploys")
    app.interaction_store.ask(asks, "C2", "9.5", Approval(id="a", question="Go <@U1>?"))
    shown = await app.say("")
    assert [word in shown for word in ("one", "silent", "over", "acme", "Go &lt;@U1&gt;?", "<!", "<@")] == [
        True,
        True,
        False,
        False,
        True,
    ] + [False] * 2
    elements = app.web.sent[0][2][0]["elements"][0]["elements"]
    assert {
        "type": "link",
        "url": "https://acme.slack.com/archives/C1/p15",
        "text": "Nightly <!channel> *report*",
    }.items() <= next(e for e in elements if e.get("url")).items()
    assert {e["type"] for e in elements} <= {"text", "link", "date"}  # nothing that mentions anybody
    assert await App().say("list") == "No task is running."


async def test_a_command_of_the_settings_answers_with_figures_of_an_entity() -> None:
    """`/agents status dealer-12` shows its figures from Prometheus, to members of the command's tenant alone.

    The entity is quoted in the query, and one that is no plain word is not asked about.
    """
    async with Prometheus() as prometheus:
        prometheus.values = AnyTime("4820.11")
        queries = {"revenue": OutputQuery(query='revenue{dealer="${entity}"}', currency="$")}
        figures = Figures(prometheus.url, {})
        commands = {
            "status": EntityCommand(queries=queries, what="a dealer"),
            "theirs": EntityCommand(queries=queries, tenant="acme"),
        }
        app = App(entities=Entities(commands, figures, "default"))
        assert await app.say("status dealer-12") == "dealer-12\nrevenue $4,820.11"
        assert [form["query"] for form in prometheus.asked] == ['revenue{dealer="dealer-12"}']
        assert "There is no command" in await app.say("theirs dealer-12")
        for hostile in ('x"} or vector(1) #', "", "a b", "x" * 101, "${entity}"):
            assert await app.say(f"status {hostile}") == "Name one entity, in one word."
        assert len(prometheus.asked) == 1
        prometheus.values = {}
        assert "no figures of “nobody”" in await app.say("status nobody")
        prometheus.status = 500
        assert "does not answer" in await app.say("status dealer-12")
        assert "status <name>" in html.unescape(await app.say("help"))


async def test_a_launcher_runs_at_a_button_below_an_entity() -> None:
    """Below the figures stand the launchers that the reader may start; a press starts one once, with the entity in its
    text, by the rules of a typed start; a launcher with parameters opens its dialogue.
    """
    async with Prometheus() as prometheus:
        prometheus.values = AnyTime("1")
        queries = {"revenue": OutputQuery(query='revenue{dealer="${entity}"}')}
        work = {"fix": "Fix {entity}", "gone": "Fix {entity}"}
        commands = {"status": EntityCommand(queries=queries, start=work)}
        entities = Entities(commands, Figures(prometheus.url, {}), "default")
        app = App(ANY, entities=entities)
        await app.say("status dealer-12")
        [button] = buttons(app)
        assert (button["text"]["text"], button["value"]) == ("Run fix", "fix Fix dealer-12")
        assert "fix" in await press(app, button, at="5.5")
        assert await press(app, button, at="6.5") == ""
        assert [(act.launcher, act.text, act.actor.id) for act in app.interaction_store.granted] == [
            ("fix", "Fix dealer-12", "UALICE")
        ]
        assert "may" in await press(app, button, user="UBOB")
        await app.say("status dealer-12", user="UBOB")
        assert app.web.sent[-1][2][1:] == []
        await app.say("status a b")
        assert app.web.sent[-1][2][1:] == []
        app = App(ANY, entities=entities, declared=(Parameter(name="depth"),))
        await app.say("status dealer-12")
        await press(app, buttons(app)[0])
        [view] = app.web.views
        assert view["blocks"][1]["element"]["initial_value"] == "Fix dealer-12"


class AnyTime(dict[float, str]):
    """One value at any time."""

    def __init__(self, value: str) -> None:
        super().__init__()
        self._value = value

    def __contains__(self, at: object) -> bool:
        return True

    def __getitem__(self, at: float) -> str:
        return self._value


async def test_long_lists_are_cut_and_counted() -> None:
    """Of forty tasks fifteen are listed and the rest counted; long names do not exceed Slack's limits."""
    app = App()
    for n in range(40):
        app.task(f"task-{n}", name="x" * 5000)
    shown = await app.say("")
    assert shown.count("• ") == 15
    assert "and 25 more tasks" in shown
    assert len(json.dumps(app.web.sent[0][2])) < 11_000


async def test_show_by_id_and_by_words() -> None:
    """An id or words of one task show it, of several list them, and of none say so."""
    app = App()
    app.task("report-1", name="Report of May")
    app.task("report-2", name="Report of June")
    assert "Report of May" in (shown := await app.say("show report-1"))
    assert "Status: working" in shown
    assert "Report of June" in await app.say("Show  june")
    shown = await app.say("show report")
    assert "report-1" in shown
    assert "report-2" in shown
    assert "No task matches “never”" in await app.say("show never")
    assert "Name the task: /agents show" in await app.say("show")
    assert app.interaction_store.rows == []


async def test_what_helps() -> None:
    """Help names each command, and so does the answer to an unknown word, which is quoted literally."""
    app = App()
    for said in ("help", "<!here> do"):
        shown = await app.say(said)
        assert all(f"/agents {word}" in shown for word in ("show", "cancel", "start", "help"))
        assert "<!" not in shown
    assert "Name the task: /agents cancel &lt;id&gt;" in await app.say("cancel")


async def test_a_cancel_counts_once_however_often_it_comes() -> None:
    """An id, or the unique beginning of one, cancels a task; a repeat is the same act with one answer."""
    app = App(ANY)
    task = app.task("deploy-77")
    app.task("report-1")
    assert "Asked to stop: Quarterly report" in await app.say("cancel deploy-77")
    assert await app.say("cancel deploy-77", again=True) == ""
    assert [(row.verb, row.key, row.actor.id, row.refusal) for row in app.interaction_store.rows] == [
        (Verb.CANCEL, task.uid, "UALICE", "")
    ]
    assert "Asked to stop" in await app.say("cancel deploy")
    assert "these tasks match" in await app.say("cancel Quarterly")
    assert "No task matches" in await app.say("cancel nope")
    assert len(app.interaction_store.rows) == 2


async def test_short_ids_are_those_of_the_command_line() -> None:
    """The first digits of the key that `spanpost tasks` shows, or of an id, name a task; five are too few for an id."""
    app = App(ANY)
    task = app.task("deploy-77", channel="C1", name="Deploy the shop")
    other = app.task("report-77", channel="C1")
    assert short(task.uid) != short(other.uid)
    assert "deploy-77" in await app.say(f"show {short(task.uid)}")
    for ref in (short(task.uid), short(task.uid)[:LEAST_PREFIX], str(task.uid)[:12], "deploy"):
        assert "Asked to stop: Deploy the shop" in await app.say(f"cancel {ref}")
    assert "Asked to stop" not in await app.say(f"cancel {short(task.uid)[: LEAST_PREFIX - 1]}")
    assert "Asked to stop" not in await app.say("cancel deplo")


async def test_a_command_is_judged_by_its_tasks_channel() -> None:
    """A rule's channel "here" is the channel of the task's message, not the writer's; without one it denies."""
    here = Rule(actions=frozenset({"cancel", "start"}), channels=("here",))
    app = App(here)
    app.task("told", channel="C1")
    app.task("untold", channel="")
    assert "Not done" in await app.say("cancel told", "UBOB", channel="C7")
    assert "Asked to stop" in await app.say("cancel told", "UALICE", channel="C9")
    for said in ("cancel untold", "start fix it"):
        assert "it has no message" in await app.say(said, "UALICE", channel="C1")
    assert [row.refusal == "" for row in app.interaction_store.rows] == [False, True, False, False]


async def test_a_rule_about_seeing_holds_in_lists() -> None:
    """A rule for `view` hides tasks in lists, by id and by words; the answer says that some are left out."""
    app = App(Rule(actions=frozenset({"view"}), agent="secretive", channels=("here",)))
    app.task("hidden", name="Merger", agent_name="secretive", channel="C1")
    app.task("plain", name="Lunch", channel="C1")
    for said in ("", "show hidden", "show merger"):
        assert "Merger" in await app.say(said, "UALICE")
        assert "Merger" not in (shown := await app.say(said, "UBOB"))
    assert "not listed" in await app.say("", "UBOB")
    assert "No task matches" in shown


@pytest.mark.parametrize("user", ["UGUEST", "USTRANGER"])
async def test_guests_and_strangers_see_and_change_nothing(user: str) -> None:
    """A person who is refused elsewhere sees no task here, starts and stops none; the attempt is recorded."""
    app = App(replace(ANY, users=(user,)))
    app.task("deploy-77", name="Merger")
    for said in ("", "help", "show deploy-77", "what", "cancel never", "start never", "cancel deploy-77", "start fix"):
        shown = await app.say(said, user)
        assert shown.startswith("Not done: "), said
        assert "Merger" not in shown
        assert "nightly" not in shown
    assert app.interaction_store.granted == []
    assert [row.verb for row in app.interaction_store.rows] == [Verb.CANCEL, Verb.START]


async def test_a_start_is_one_start() -> None:
    """A launcher starts once with the words; an unknown one lists those that exist; a refusal is a row."""
    app = App(ANY)
    assert "fix was asked" in await app.say("start fix the\nbroken  <build>")
    assert await app.say("start fix the\nbroken  <build>", again=True) == ""
    [row] = app.interaction_store.rows
    assert (row.verb, row.launcher, row.text, row.refusal) == (Verb.START, "fix", "the\nbroken  <build>", "")
    for said in (await app.say("start nothere x"), await app.mention(f"<@{BOT}> start")):
        assert "Launchers: fix, nightly." in said
    assert "Not done" in await app.say("start fix x", "UBOB")
    assert [row.refusal == "" for row in app.interaction_store.rows] == [True, False]
    assert "none in the settings" in await App(ANY, launchers=frozenset()).say("start x")


@pytest.mark.parametrize(
    ("said", "verb", "words"),
    [
        ("cancel deploy-77", Verb.CANCEL, ""),
        ("cancel deploy-77 it is the wrong branch", Verb.CANCEL, "it is the wrong branch"),
        ("cancel deploy", Verb.CANCEL, ""),
        ("pause deploy-77", Verb.PAUSE, ""),
        ("resume deploy-77", Verb.RESUME, ""),
        ("mute deploy-77", Verb.MUTE, ""),
        ("unmute deploy-77", Verb.UNMUTE, ""),
        ("message deploy-77 look at  the log", Verb.MESSAGE, "look at  the log"),
        ("message deploy look", Verb.MESSAGE, "look"),
    ],
)
async def test_each_act_has_a_command(said: str, verb: Verb, words: str) -> None:
    """Each act on a task is a command with the id, or its unique beginning, and a comment or the message."""
    app = App(Rule(actions=frozenset({"cancel", "pause", "resume", "mute", "unmute", "message"}), users=("UALICE",)))
    app.task("deploy-77", channel="C1", name="Deploy the shop")
    assert "Deploy the shop" in await app.say(said)
    [row] = app.interaction_store.rows
    assert (row.verb, row.text, row.refusal) == (verb, words, "")


async def test_words_are_not_an_id_with_a_comment() -> None:
    """The beginning of an id with more words behind it does nothing: they may be words of another task's name."""
    app = App(ANY)
    app.task("deploy-77", channel="C1", name="Deploy the shop")
    app.task("other-1", channel="C1", name="deploy the bank")
    said = await app.say("cancel deploy the")
    assert "deploy-77" in said
    assert "other-1" in said
    assert "Something is missing" in await app.say("message deploy-77")
    assert app.interaction_store.rows == []


async def test_mentions_have_the_same_words() -> None:
    """A mention is answered to its writer alone; in a task's thread it goes to the agent."""
    app = App(ANY)
    task = app.task("deploy-77", channel="C1")
    assert "deploy-77" in await app.mention(f"hello <@{BOT}>")
    assert app.web.sent[-1][0] == "UALICE"
    assert "Asked to stop" in await app.mention(f"<@{BOT}> cancel deploy-77")
    assert "fix was asked" in await app.mention(f"<@{BOT}|spanpost> start fix a &lt; b")
    assert app.interaction_store.rows[-1].text == "a < b"
    app.interaction_store.known[task.uid][2].add(("C1", "1.5"))
    assert await app.mention(f"<@{BOT}> cancel deploy-77", channel="C1", thread_ts="1.5") == ""
    assert await app.mention(f"<@{BOT}> help", bot_id="B1") == ""
    assert await app.mention("<@UELSE> help") != ""  # Slack says that it mentions us: its text is read
    event = {"type": "app_mention", "user": "UALICE", "text": f"<@{BOT}>", "ts": "99.1", "channel": "C7"}
    idempotency_key = {"type": "event_callback", "team_id": TEAM, "event": event}
    assert [await app.hear(idempotency_key) != "" for _ in range(2)] == [True, False]
    assert len(app.interaction_store.rows) == 2


async def test_while_the_database_is_away() -> None:
    """While the database is down Slack gets an answer, and the person learns that nothing was looked up, or
    recorded.
    """
    app = App(ANY)
    app.interaction_store.is_away = True
    assert "does not answer" in await app.say("")
    assert "Nothing has changed" in await app.say("start fix x")
    answered = await app.app.handle(
        [app.one],
        {
            "type": "event_callback",
            "team_id": TEAM,
            "event": {
                "type": "app_mention",
                "user": "UALICE",
                "text": f"<@{BOT}>",
                "ts": "1.1",
                "thread_ts": "1.0",
                "channel": "C1",
            },
        },
    )
    assert answered.status == 503  # the thread's owner is unknown: Slack sends it again


async def test_a_response_url_that_is_not_slacks_is_not_called() -> None:
    """A response URL that is not Slack's is not called, and the person is answered in the channel."""
    app = App()
    body = {
        "command": "/agents",
        "text": "help",
        "team_id": TEAM,
        "user_id": "UALICE",
        "channel_id": "C7",
        "trigger_id": "t",
    }
    assert "cancel" in await app.hear(body | {"response_url": "https://evil.example/"})
    assert app.web.sent[0][0] == "UALICE"


FIELDS = ("command", "text", "user_id", "channel_id", "trigger_id", "response_url", "team_id", "event", "type")
ODD = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=12),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.text()),
)


@given(st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=5), st.text(max_size=60))
def test_any_words_are_answered(odd: dict[str, Any], text: str) -> None:
    """Any command or mention: no error, and nothing is done without a well-formed request."""
    app = App()
    body = {
        "command": "/agents",
        "text": text,
        "team_id": TEAM,
        "user_id": "UALICE",
        "channel_id": "C7",
        "trigger_id": uuid4().hex,
    }
    phrases.command(body | odd, TEAM)
    phrases.mention(
        {"event": {"type": "app_mention", "user": "UALICE", "channel": "C1", "ts": "1.1", "text": text} | odd},
        TEAM,
        BOT,
    )

    async def hear() -> int:
        answered = await app.app.handle([app.one], body | odd | {"team_id": TEAM})
        await app.app.close()
        return answered.status

    assert asyncio.run(hear()) in (200, 400, 401)
    assert app.interaction_store.granted == []


async def press(app: App, button: dict[str, Any], user: str = "UALICE", at: str = "5.5", **value: Any) -> str:
    """Press a button of an answer."""
    body = {"type": "block_actions", "team": {"id": TEAM}, "user": {"id": user, "team_id": TEAM}, "trigger_id": "t"}
    container = {"type": "message", "is_ephemeral": True, "message_ts": "1.1", "channel_id": "C7"}
    action = {"type": "button", "action_id": button["action_id"], "value": button["value"], "action_ts": at} | value
    return await app.hear(
        body | {"container": container, "response_url": "https://hooks.slack.com/commands/1", "actions": [action]}
    )


def buttons(app: App) -> list[dict[str, Any]]:
    return [one for block in app.web.sent[-1][2] if block["type"] == "actions" for one in block["elements"]]


async def test_a_long_list_goes_on_at_a_button() -> None:
    """Paging lists each task once, in order; each page applies the presser's rules, once for a click."""
    app = App(Rule(actions=frozenset({"view"}), agent="secretive", channels=("here",)))
    for number in range(40):
        agent = "secretive" if number % 5 == 0 else "plain"
        started = AT + timedelta(minutes=number)
        app.task(f"run-{number:02}", agent_name=agent, name="Nightly", status="working", started_at=started)
    seen: list[str] = []
    shown = await app.say("")
    for turn in range(4):
        seen += re.findall(r"run-\d\d", shown)
        if not (found := buttons(app)):
            break
        shown = await press(app, found[0], at=f"{turn}.1")
    assert seen == [f"run-{number:02}" for number in reversed(range(40))]
    await app.say("")
    [more] = buttons(app)
    assert await press(app, more, at="9.1") != ""
    assert await press(app, more, at="9.1") == ""
    shown = await press(app, more, "UBOB", at="9.2")
    assert "run-20" not in shown
    assert "run-21" in shown
    assert "Not done" in await press(app, more, "UGUEST", at="9.3")
    assert "these tasks match" in await app.say("show nightly")
    assert "run-31" in await press(app, buttons(app)[0], at="9.4")
    for bad in (
        "",
        "{}",
        "[]",
        '{"w": "tasks", "q": "", "k": "x", "b": ""}',
        more["value"].replace("tasks", "all"),
        "x" * 9000,
    ):
        await press(app, more, value=bad, at=f"8.{len(bad)}")
    assert "no command" in await app.say(f"more {more['value']}")
    assert app.interaction_store.rows == []


async def test_other_tenants_are_looked_at_where_a_rule_names_them() -> None:
    """In a shared workspace another tenant's tasks need a rule for `view` that names the tenant.

    In a tenant's own workspace there is only that tenant, whatever the rules say.
    """
    rule = Rule(actions=frozenset({"view"}), tenant="acme", users=("UALICE",))
    app = App(rule, Rule(actions=frozenset({"view"}), tenant="beta", agent="open", users=("UALICE",)))
    started = {"started_at": AT}
    app.task("own-1", **started)
    app.task("acme-1", tenant="acme", **started)
    app.task("beta-1", tenant="beta", agent_name="closed", **started)
    app.task("gamma-1", tenant="gamma", **started)
    assert re.findall(r"[a-z]+-1", await app.say("", "UALICE")) in (["own-1", "acme-1"], ["acme-1", "own-1"])
    assert re.findall(r"[a-z]+-1", await app.say("", "UBOB")) == ["own-1"]
    assert "acme-1" in await app.say("show acme-1", "UALICE")
    for user, ref in (("UBOB", "acme-1"), ("UALICE", "beta-1"), ("UALICE", "gamma-1")):
        assert "No task matches" in await app.say(f"show {ref}", user)
        assert "No task matches" in await app.say(f"cancel {ref}", user)
    assert app.interaction_store.rows == []
    app.one.interactions._is_bound = True
    assert re.findall(r"[a-z]+-1", await app.say("", "UALICE")) == ["own-1"]
    assert "No task matches" in await app.say("show acme-1", "UALICE")


async def test_a_session_between_prompts_is_listed_as_one() -> None:
    """Lists and the dialogue of a session that asked nobody anything do not say that it waits for a person."""
    app = App(Rule(actions=frozenset({"cancel"}), users=("UBOB",)), launchers=frozenset())
    app.task("rests-1", status="waiting", rule=BETWEEN_PROMPTS)
    app.task("asks-1", status="waiting")
    said = await app.say("")
    assert (said.count("waiting for its next prompt"), said.count("waiting for a person")) == (1, 1)
    assert "waiting for its next prompt" in await app.say("show rests-1")


async def test_commands_are_answered_in_korean() -> None:
    """With a Korean route lists, tasks, refusals and help are Korean; the agent's text is unchanged."""
    app = App(Rule(actions=frozenset({"cancel"}), users=("UBOB",)), launchers=frozenset())
    app.one.interactions.speaks = lambda task, channels: KOREAN
    for n in range(17):
        app.task(
            f"작업-{n}",
            name=f"보고서 {n}",
            agent_name="작가",
            status="stalled",
            is_inferred=True,
            action="tool: 검색",
            messages={"action": LocaleMessage("task.tool", {"name": "검색"})},
        )
    app.interaction_store.known.update()
    said = [
        await app.say(text)
        for text in (
            "",
            "help",
            "보고서",
            "show",
            "show 작업-1",
            "show 보고서",
            "show 없음",
            "cancel",
            "start",
            "start 야간",
        )
    ]
    said += [
        await app.say("cancel 작업-1"),
        await app.say("cancel 작업-1", "UBOB"),
        await app.say("", "UGUEST"),
        await app.say("", "USTRANGER"),
    ]
    assert all(said)
    literal = re.sub(
        r"<@U\w+>|/agents|UTC|\b(?:show|cancel|pause|resume|retry|message|mute|unmute|dismiss|rate|up|down|start|help|US)\b|(?<=\d)k|[0-9a-f]{32}",
        "",
        html.unescape("\n".join(said)),
    )
    assert re.findall("[A-Za-z]+", literal) == []
    assert "응답 없음 (추정)" in literal
    assert "게스트에게는 허용되지 않습니다" in literal
    assert "취소 권한이 없습니다" in literal
    assert app.interaction_store.rows[0].refusal == "you may not cancel this", "the audit has it in English"
