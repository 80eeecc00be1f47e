"""A person approves in Slack exactly what they read, whatever buttons the message had."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from slack_sdk.models.views import View

from spanpost.http.routing import HttpRouter
from spanpost.interactions.acts import Interactions
from spanpost.interactions.authorization import AuthorizationRules, Rule
from spanpost.interactions.protocols import Asked, PersonMessage
from spanpost.interactions.read_log import ReadLog
from spanpost.interactions.slack import guard, modals
from spanpost.interactions.slack.app import SlackApp
from spanpost.interactions.slack.decisions import Comments
from spanpost.interactions.slack.http import SlackHttp
from spanpost.interactions.slack.installations import Installation, Self
from spanpost.interactions.slack.payloads import submission
from spanpost.interactions.slack.web import Web
from spanpost.model.acts import ActFilter
from spanpost.model.interventions import Verb
from spanpost.model.readings import Approval
from spanpost.routing.routes import Route, Routes
from spanpost.semconv import OPTION_LIMIT, QUESTION_LIMIT
from spanpost.sinks.slack.questions import reader
from spanpost.sinks.slack.style import SlackStyle
from spanpost.store.memory import MemoryStore
from spanpost.testing.nouns import a_task
from spanpost.text.legible import ShownText, shown
from spanpost.text.locales import KOREAN, LOCALES
from tests.interactions.store import InteractionStore
from tests.interactions.test_slack_http import FORM, TEAM, Alice, Knock, form, sign
from tests.sinks.slack_limits import nodes, validator
from tests.thorough import thorough

LONG = "Clean the staging database? " + "x" * 600 + " and then DROP-ALL-DATABASES"
HIDDEN = "Rotate it? -----BEGIN PRIVATE KEY----- then DROP-ALL-TABLES -----END PRIVATE KEY-----"
META = modals.Meta(v="read", k=UUID(int=7).hex, c="C1", t="1.5")


class Opens(Web):
    """Slack's Web API for a person who presses buttons: opened dialogues and messages."""

    def __init__(self) -> None:
        super().__init__("xoxb-1", base_url="http://127.0.0.1:9/api/")
        self.views: list[dict[str, Any]] = []
        self.sent: list[str] = []

    async def call(self, method: str, *, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        if method == "views.open":
            self.views.append(json.loads(json.dumps(arguments["view"])))
        elif method == "chat.postEphemeral":
            self.sent.append(arguments["text"])
        return {"ok": True}


class Slack(Knock):
    """One app at its endpoint, a question in a message, and Alice."""

    def __init__(
        self,
        question: str,
        *,
        actions: frozenset[str] = frozenset({"decide"}),
        comments: Comments = "never",
        **more: Any,
    ) -> None:
        super().__init__()
        self.interaction_store, self.web = InteractionStore(), Opens()
        self.key = self.interaction_store.ask(a_task(), "C1", "1.5", Approval(id="a", question=question, **more))
        interactions = Interactions(
            self.interaction_store.reader,
            self.interaction_store.interventions,
            Alice(),
            AuthorizationRules(rules=(Rule(actions=actions, users=("UALICE",)),)),
            take=lambda recorded: None,
            source="slack",
            tenant="default",
        )
        one = Installation(interactions, self.web, "xoxb-1", secrets=("new",), app_id="A1")
        one._self = Self(team=TEAM, bot_user="UBOT")
        self.app = SlackApp([one], comments=comments)
        self.http = HttpRouter(
            SlackHttp(self.app, self.interaction_store, watch=self, clock=lambda: 1_800_000_000).routes
        )
        self._presses = 0

    async def press(self, action: str, value: str = "", kind: str = "button") -> dict[str, Any] | None:
        """Send a signed press of any button; return the dialogue that it opened."""
        self._presses += 1
        of = {"action_id": f"spanpost:{action}", "type": kind, "action_ts": f"2.{self._presses}", "block_id": "b"}
        of |= {"value": value or str(self.key)} if kind == "button" else {"selected_option": {"value": value}}
        before = len(self.web.views)
        assert await self.signed(form(self.click(actions=[of])), kind=FORM) == 200
        await self.app._keeper.close(1)
        return self.web.views[-1] if len(self.web.views) > before else None

    async def send(self, view: dict[str, Any], choice: str = "", comment: str = "") -> str:
        """Send a dialogue off as Slack does; return its next content."""
        values: dict[str, Any] = {"comment": {"text": {"type": "plain_text_input", "value": comment or None}}}
        for block in view["blocks"]:
            if block.get("block_id") == "choice":
                options = {one["value"]: one for one in block["element"]["options"]}
                values["choice"] = {
                    "choice": {"type": "radio_buttons", "selected_option": options.get(choice, {"value": choice})}
                }
        self._presses += 1
        sent = {
            "type": "view_submission",
            "api_app_id": "A1",
            "team": {"id": TEAM},
            "user": {"id": "UALICE", "team_id": TEAM},
        }
        body = form(sent | {"view": view | {"id": f"V{self._presses}", "hash": "h", "state": {"values": values}}})
        assert len(body) < guard.MOST_BODY
        status, answered = await self(body, sign(body, kind=FORM))
        assert status == 200
        return "".join(text for text in texts(json.loads(answered).get("view", {}))) if answered else ""

    @property
    def verbs(self) -> list[Verb]:
        """Return the acts that were granted."""
        return [row.verb for row in self.interaction_store.granted]


def texts(value: Any) -> list[str]:
    """Return all texts that are drawn."""
    return [node["text"] for node in nodes(value) if isinstance(node.get("text"), str)]


def quotes(view: dict[str, Any]) -> list[str]:
    """Return the quoted text."""
    return ["".join(texts(node["elements"])) for node in nodes(view) if node.get("type") == "rich_text_quote"]


def choices(view: dict[str, Any]) -> list[str]:
    """Return the values of the choices."""
    return [
        one["value"]
        for node in nodes(view)
        if node.get("type") in ("radio_buttons", "static_select")
        for one in node["options"]
    ]


def checked(view: dict[str, Any]) -> dict[str, Any]:
    """Check a dialogue against Slack's types and limits."""
    validator("Blocks").validate(view["blocks"])
    View(**view).validate_json()
    assert 0 < len(view["blocks"]) <= 100
    assert len(json.dumps(view)) < 250_000
    assert len(view["private_metadata"]) <= 3000
    ids = [block["block_id"] for block in view["blocks"] if "block_id" in block]
    assert len(set(ids)) == len(ids)
    for node in nodes(view):
        assert node.get("type") not in ("mrkdwn", "link", "user", "usergroup", "broadcast", "channel", "emoji")
        assert node.get("text") != ""
        for option in node.get("options", ()):
            assert 0 < len(option["text"]["text"]) <= 75
            assert len(option["value"]) <= 75
        match node.get("type"):
            case "radio_buttons":
                assert 0 < len(node["options"]) <= 10
            case "static_select":
                assert 0 < len(node["options"]) <= 100
            case "rich_text_quote" | "rich_text_section":
                assert sum(map(len, texts(node["elements"]))) <= 3000
    return view


async def test_a_brief_question_is_answered_by_one_press() -> None:
    """The whole question is beside the button."""
    slack = Slack("Deploy 1.8.2?", detail="31 tests passed")
    assert await slack.press("approve") is None
    assert slack.verbs == [Verb.APPROVE]


@pytest.mark.parametrize(
    ("question", "more"),
    [
        (LONG, {}),
        ("Deploy?", {"detail": "y" * 700}),
        ("Deploy?", {"detail": "line\n" * 8 + "and drop all"}),
        ("Deploy?", {"risk": "low, says the agent, and " + "more " * 20}),
    ],
)
async def test_a_longer_question_is_read_before_it_is_approved(question: str, more: dict[str, str]) -> None:
    """A signed press of Approve opens the question and decides nothing; the choice below it decides."""
    slack = Slack(question, **more)
    view = await slack.press("approve")
    assert view is not None
    assert slack.interaction_store.rows == []
    assert quotes(checked(view)) == [
        one.removesuffix("\n") for one in (question.strip(), *(text.rstrip() for text in more.values()))
    ]
    assert choices(view) == ["approve", "deny"]
    assert await slack.send(view, "approve", "after lunch") == ""
    assert [(row.verb, row.text) for row in slack.interaction_store.granted] == [(Verb.APPROVE, "after lunch")]


async def test_read_it_whole_and_decide() -> None:
    """The button of a longer question opens the same, without a row; a denial needs no reading."""
    slack = Slack(LONG)
    view = await slack.press("read")
    assert view is not None
    assert slack.interaction_store.rows == []
    await slack.send(view, "deny", "no")
    assert [(row.verb, row.text) for row in slack.interaction_store.granted] == [(Verb.DENY, "no")]
    slack = Slack(LONG)
    assert await slack.press("deny") is None
    assert slack.verbs == [Verb.DENY]


async def test_readers_of_dialogues_are_logged() -> None:
    """Each dialogue that shows a whole question or a task's details is logged with the person, before it is shown; a
    refused person reads nothing and leaves no such row.
    """
    acts = MemoryStore().acts
    slack = Slack(LONG, actions=frozenset({"decide", "view"}))
    slack.app.installations[0].interactions.read_log = ReadLog(acts, is_on=True)
    for action in ("read", "approve", "view"):
        assert await slack.press(action) is not None
    found = [(row.content, row.actor_id, row.credential, row.reads) for row in await acts.reads(ActFilter(), 10)]
    assert sorted(found) == [
        ("message", f"slack:{TEAM}:UALICE", "slack", 1), ("question", f"slack:{TEAM}:UALICE", "slack", 2),
    ]  # fmt: skip
    nothing, refused = MemoryStore().acts, Slack(LONG, actions=frozenset({"cancel"}))
    refused.app.installations[0].interactions.read_log = ReadLog(nothing, is_on=True)
    assert await refused.press("view") is None
    assert await nothing.reads(ActFilter(), 10) == []


@pytest.mark.parametrize(
    ("action", "value", "kind"),
    [
        ("choose:1", "", "button"),
        ("choice", "choose:1:{key}", "static_select"),
        ("approve", "choose:1:{key}", "button"),
    ],
)
async def test_options_that_do_not_fit_on_buttons_are_read_first(action: str, value: str, kind: str) -> None:
    """Options that look the same when cut are shown whole, each with its number, whichever button was
    pressed.
    """
    options = tuple("delete the table customers " + "x" * 60 + end for end in ("_backup", "", "_and_all_others"))
    slack = Slack("Which?", options=options)
    view = await slack.press(action, value.format(key=slack.key), kind)
    assert view is not None
    assert slack.interaction_store.rows == []
    listed = quotes(checked(view))[1].split("\n")
    assert listed == [f"{n}. {option}" for n, option in enumerate(options, 1)]
    assert choices(view) == ["choose:0", "choose:1", "choose:2"]
    await slack.send(view, "choose:1")
    assert [row.option for row in slack.interaction_store.granted] == [options[1]]


@pytest.mark.proves("bound-to-words", "spoofing")
@pytest.mark.parametrize(
    ("question", "more"),
    [
        (HIDDEN, {}),
        ("Fetch https://x:drop-all@host/?", {}),
        ("Use [redacted:aws_key:20:1f3a]?", {}),
        ("Deploy?", {"is_cut": True}),
        ("Deploy?", {"detail": "".join(chr(0xE0000 + ord(ch)) for ch in "drop all")}),
        ("Deploy?", {"options": ("yes", "yes")}),
    ],
)
async def test_what_is_hidden_in_part_can_only_be_denied(question: str, more: dict[str, Any]) -> None:
    """Whatever is pressed or sent: the hidden part is named, and only a denial counts."""
    for action in ("approve", "read", "choose:0" if "options" in more else "approve"):
        slack = Slack(question, **more)
        view = await slack.press(action)
        assert view is not None
        assert choices(checked(view)) == []
        assert any("Part of this question is hidden" in text for text in texts(view))
        assert "DROP-ALL" not in str(view)
        assert slack.interaction_store.rows == []
        for word in ("approve", "choose:0"):
            forged = view | {"private_metadata": json.dumps(json.loads(view["private_metadata"]) | {"v": word})}
            assert "You can deny it" in await slack.send(forged)
        assert slack.interaction_store.rows == []
        await slack.send(view, comment="ask again")
        assert [(row.verb, row.text) for row in slack.interaction_store.granted] == [(Verb.DENY, "ask again")]


@pytest.mark.proves("bound-to-words", "foreign-action")
async def test_a_dialogue_of_other_words_decides_nothing() -> None:
    """A dialogue decides only the words that it carried: reworded, missing or foreign ones void it."""
    slack = Slack(LONG)
    view = await slack.press("read")
    assert view is not None
    for meta in ({"d": ""}, {"d": shown(Approval(id="a", question="Print hello?")).digest}):
        forged = view | {"private_metadata": json.dumps(json.loads(view["private_metadata"]) | meta)}
        assert "Nothing was decided" in await slack.send(forged, "approve")
    task, approval, places = slack.interaction_store.known[slack.key]
    assert approval is not None
    slack.interaction_store.known[slack.key] = (task, replace(approval, question=LONG + " tomorrow"), places)
    assert "Nothing was decided" in await slack.send(view, "approve")
    assert slack.interaction_store.rows == []


@pytest.mark.parametrize(
    "choice", ["", "cancel", "mute", "view", "read", "message", "choose", "choose:x", "approve:1", "../approve"]
)
async def test_a_dialogue_decides_questions_and_nothing_else(choice: str) -> None:
    """A choice that the dialogue did not offer does nothing."""
    slack = Slack(LONG)
    view = await slack.press("read")
    assert view is not None
    await slack.send(view, choice)
    assert slack.interaction_store.rows == []


@pytest.mark.proves("by-the-rules", "foreign-action")
async def test_an_unauthorized_person_reads_nothing() -> None:
    """Reading makes no row; pressing Approve makes one, and is refused. A person who may only deny is
    offered that alone.
    """
    slack = Slack(LONG, actions=frozenset({"cancel"}))
    assert await slack.press("read") is None
    assert slack.interaction_store.rows == []
    assert len(slack.web.sent) == 1
    assert await slack.press("approve") is None
    assert [row.refusal != "" for row in slack.interaction_store.rows] == [True]
    slack = Slack(LONG, actions=frozenset({"deny"}))
    view = await slack.press("read")
    assert view is not None
    assert choices(view) == []
    await slack.send(view)
    assert slack.verbs == [Verb.DENY]


async def test_a_comment_is_asked_for_of_what_was_read() -> None:
    """With comments required a click on a short question opens a dialogue, void if the question changed."""
    slack = Slack("Deploy?", comments="always")
    view = await slack.press("approve")
    assert view is not None
    assert choices(checked(view)) == []
    task, approval, places = slack.interaction_store.known[slack.key]
    assert approval is not None
    slack.interaction_store.known[slack.key] = (
        task,
        replace(approval, question="Deploy, and delete the backups?"),
        places,
    )
    assert "Nothing was decided" in await slack.send(view)
    slack.interaction_store.known[slack.key] = (task, approval, places)
    await slack.send(view, comment="go")
    assert [(row.verb, row.text) for row in slack.interaction_store.granted] == [(Verb.APPROVE, "go")]


async def test_what_was_decided_is_said() -> None:
    """The button of a question that was decided meanwhile opens nothing, with a message."""
    slack = Slack(LONG)
    task, approval, places = slack.interaction_store.known[slack.key]
    assert approval is not None
    slack.interaction_store.known[slack.key] = (
        task,
        replace(approval, decision="deny", by="Mina", source="slack"),
        places,
    )
    assert await slack.press("read") is None
    assert slack.web.sent == ["Already denied by Mina: the first answer stands."]


@pytest.mark.parametrize("delivery", ["x", "가", "&", '"', "\n.", "<!channel>", "👩\u200d💻"], ids=range(7))
def test_the_longest_question_fits_into_one_dialogue(delivery: str) -> None:
    """The longest kept question, in any script, is in one dialogue, or reported not to fit."""
    most = delivery * (QUESTION_LIMIT // len(delivery) - 1)
    options = tuple(f"{n} " + delivery * ((OPTION_LIMIT - 10) // len(delivery)) for n in range(20))
    read = SlackStyle().question(Approval(id="a", question=most, detail=most, options=options, risk="high"))
    verbs = (Verb.CHOOSE,) if read.is_whole else (Verb.DENY,)
    view = checked(modals.decision(META, read, verbs, KOREAN))
    assert read.is_whole is (delivery != "👩\u200d💻")
    if read.is_whole:
        assert len(choices(view)) == 20
        assert "".join(quotes(view)).count(delivery.strip()) >= most.count(delivery.strip()) * 2


@thorough(60)
@given(
    st.text(max_size=3000),
    st.text(max_size=3000),
    st.lists(st.text(max_size=200), max_size=20),
    st.text(max_size=60),
    st.sampled_from(list(LOCALES)),
)
def test_all_that_an_agent_wrote_stands_quoted(
    question: str, detail: str, options: list[str], risk: str, code: str
) -> None:
    """For any question the dialogue is valid and quotes or labels every word of the agent."""
    read = shown(Approval(id="a", question=question, detail=detail, options=tuple(options), risk=risk))
    verbs = (Verb.DENY,) if not read.is_whole else (Verb.CHOOSE,) if options else (Verb.APPROVE, Verb.DENY)
    view = checked(modals.decision(META, read, verbs, LOCALES[code]))
    listed = "\n".join(f"{n}. {option}" for n, option in enumerate(read.options, 1))
    said = "".join(text for text in (read.question, read.detail, read.risk, listed) if text)
    assert "".join("".join(quotes(view)).split()) == "".join(said.split())
    outside = [
        text
        for block in view["blocks"]
        if block["type"] == "rich_text"
        for part in block["elements"]
        if part["type"] == "rich_text_section"
        for text in texts(part)
    ]
    ours = {LOCALES[code].say(f"show.{name}") for name in ("question", "details", "risk", "options")}
    assert all(text in ours or text.startswith("⚠️ ") for text in outside)


def test_a_submission_carries_a_choice() -> None:
    """The chosen answer is read beside the comment; of any other shape there is none."""
    sent = {
        "user": {"id": "UALICE"},
        "view": {"id": "V1", "callback_id": "spanpost:decision", "private_metadata": "{}"},
    }
    for values, found in (
        (
            {"choice": {"choice": {"selected_option": {"value": "deny"}}}, "comment": {"text": {"value": "no"}}},
            ("deny", "no"),
        ),
        ({"choice": {"choice": {"selected_option": ["deny"]}}}, ("", "")),
        ({"choice": {"choice": {"selected_option": {"value": 5}}}}, ("", "")),
    ):
        read = submission({**sent, "view": {**sent["view"], "state": {"values": values}}}, TEAM)  # type: ignore[dict-item]
        assert read is not None
        assert (read.choice, read.comment) == found


def test_a_question_stands_as_its_channel_shows_it() -> None:
    """Of several routes the channel's counts, else the strictest: a hidden question is not decided there."""
    asked = Approval(id="a", question="Run it?", detail='{"sql": "DROP TABLE customers"}')
    open_, closed = (
        Route(sink="slack", address="C1", status=("waiting",)),
        Route(sink="slack", content=False),
    )
    routes = Routes(sinks=("slack",), routes=(open_, closed))
    read = reader(SlackStyle(), routes)
    task = a_task(status="waiting")
    assert read(task, asked, "C1").is_whole
    for channel in ("C2", ""):
        seen = read(task, asked, channel)
        assert [str(one) for one in seen.hidden] == ["arguments"]
        assert "DROP" not in seen.detail


def test_only_an_open_question_is_read() -> None:
    """A press on a missing or decided question decides nothing."""
    store = InteractionStore()
    interactions = Interactions(
        store.reader,
        store.interventions,
        Alice(),
        AuthorizationRules(),
        take=lambda recorded: None,
        source="slack",
        tenant="default",
    )
    message, task = PersonMessage(channel="C1", ts="1.5"), a_task()

    def asked(**more: Any) -> Asked:
        return Asked(key=UUID(int=1), task=task, approval=Approval(id="a", question="q", **more) if more else None)

    assert [interactions.shown(one, message) for one in (None, asked(), asked(decision="deny", source="api"))] == [
        None
    ] * 3
    assert interactions.shown(asked(risk="low"), message) == ShownText(question="q", risk="low")


async def test_a_tool_is_allowed_further() -> None:
    """One press allows a tool once or in its task; for an hour and always a dialogue says first what that covers."""
    for action, scope in (("approve", "once"), ("approve:task", "task")):
        slack = Slack("Run it?", tool="Bash")
        assert await slack.press(action) is None
        assert [row.scope for row in slack.interaction_store.granted] == [scope]
    for scope in ("hour", "always"):
        slack = Slack("Run it?", tool="Bash")
        view = await slack.press("menu", f"approve:{scope}:{slack.key}", kind="overflow")
        assert view is not None
        assert slack.verbs == []
        assert any("Bash" in one for one in texts(checked(view)))
        await slack.send(view, comment="a sandbox")
        assert [(row.scope, row.text) for row in slack.interaction_store.granted] == [(scope, "a sandbox")]


async def test_a_scope_is_no_other_word() -> None:
    """A scope that is unknown, or stands at another verb, is no act."""
    for action in ("approve:forever", "deny:task", "cancel:task", "approve:task:task"):
        slack = Slack("Run it?", tool="Bash")
        assert await slack.press(action) is None
        assert slack.verbs == []


async def test_a_long_question_is_allowed_further_in_its_dialogue() -> None:
    """The dialogue with the whole question offers how far an approval goes, and what was chosen counts."""
    slack = Slack(LONG, tool="Bash")
    view = await slack.press("approve:task")
    assert view is not None
    assert choices(view) == ["approve", "approve:task", "approve:hour", "approve:always", "deny"]
    await slack.send(view, choice="approve:task")
    assert [row.scope for row in slack.interaction_store.granted] == ["task"]
    assert choices(await Slack(LONG).press("read") or {}) == ["approve", "deny"]


async def test_who_may_grant_is_a_rule_of_its_own() -> None:
    """Where a rule names `grant`, people whom it leaves out approve once alone."""
    slack = Slack("Run it?", tool="Bash")
    [one] = slack.app.installations
    leads = Rule(actions=frozenset({"grant"}), users=("ULEAD",))
    one.interactions.rules = AuthorizationRules(rules=(leads, *one.interactions.rules.rules))
    await slack.press("approve:task")
    assert slack.verbs == []
    await slack.press("approve")
    assert slack.verbs == [Verb.APPROVE]


async def test_the_requester_is_no_second_person() -> None:
    """A question for two people is not approved by the person for whom the task runs, nor where that is unknown."""
    for requester, is_granted in (("UALICE", False), ("somebody", False), ("UBEN", True), (None, True)):
        slack = Slack("Run it?", needs=2)
        task, *rest = slack.interaction_store.known[slack.key]
        slack.interaction_store.known[slack.key] = (replace(task, requested_by=requester), *rest)
        await slack.press("approve")
        assert (slack.verbs == [Verb.APPROVE]) is is_granted
