"""Routes' and settings' influence on Slack's messages, with a fake Slack: mentions, channels, content."""

from __future__ import annotations

import io
import json
import logging
from datetime import time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import ConfigError, DeliveryRefused
from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import Step
from spanpost.routing.routes import Route, Verbosity
from spanpost.runtime.assembly import open_sinks, routes_of, rules_of
from spanpost.settings import load
from spanpost.sinks import labels
from spanpost.sinks.fields import FIELDS
from spanpost.sinks.redaction import SinkRule
from spanpost.sinks.slack.impersonation import disarmed
from spanpost.sinks.slack.links import Template, problem
from spanpost.sinks.slack.preview import Preview
from spanpost.sinks.slack.render import SlackMessage, root
from spanpost.sinks.slack.replies import reply
from spanpost.sinks.slack.sink import SlackSink, Space
from spanpost.sinks.slack.style import SlackStyle
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost.text import wording
from spanpost.text.locales import ENGLISH, KOREAN
from tests.sinks.slack_limits import blocks_of, check, nodes

KEY = UUID(int=7)
ASKED = Approval(id="a", question="Deploy?", key=KEY, reported_by=UUID(int=8), detail="31 tests passed")
ASKING = a_task(status="waiting", approvals=(ASKED,))
QUESTION = replace(
    a_checkpoint(ASKING, kind=Kind.APPROVAL_REQUESTED, ref="a", text="Deploy?", detail="31 tests passed"),
    id=UUID(int=8),
)


@pytest.fixture
async def slack():
    async with FakeSlack() as fake:
        yield fake


def api(slack: FakeSlack, token: str = "") -> WebApi:
    return WebApi(token or slack.token, base_url=slack.url, timeout=timedelta(seconds=2))


async def posted(sink: SlackSink, task: Any, checkpoint: Any = None, **fields: Any) -> tuple[Receipt, Receipt | None]:
    """Deliver a task's state and its checkpoint."""
    state = await sink.deliver(a_delivery(task, sink="slack", **fields))
    if checkpoint is None:
        return state, None
    return state, await sink.deliver(
        a_delivery(task, checkpoint, sink="slack", message_receipt=state, key=f"k-{checkpoint.id}", **fields)
    )


def actions(message: dict[str, Any] | SlackMessage) -> list[str]:
    parts = message.arguments() if isinstance(message, SlackMessage) else message
    every = [parts["blocks"], [a["blocks"] for a in parts["attachments"]]]
    return [n["action_id"] for n in nodes(every) if "action_id" in n]


def rules(*patterns: str) -> tuple[SinkRule, ...]:
    return tuple(SinkRule(pattern=pattern) for pattern in patterns)


def said(message: SlackMessage) -> str:
    return json.dumps([message.text, message.blocks, message.attachments], ensure_ascii=False)


# --- where ----------------------------------------------------------------------------------------------------------


async def test_each_workspace_has_its_token_its_channel_and_its_budgets(slack):
    """Deliveries of two workspaces use two tokens and two channels, and draw on different rate limits."""
    slack.workspace.add_token("xoxb-other")
    slack.workspace.add_channel("ops")
    sink = SlackSink(transport=api(slack), others=[Space("acme", api(slack, "xoxb-other"), "#ops")])
    await sink.deliver(a_delivery(sink="slack"))
    await sink.deliver(a_delivery(a_task("other"), sink="slack", address="acme/"))
    assert (len(slack.messages("#agents")), len(slack.messages("#ops"))) == (1, 1)
    from spanpost.model.deliveries import SinkCall

    own, acme = ({b.key for b in sink.rate_limits(address, SinkCall.EDIT)} for address in ("", "acme/#ops"))
    assert not own & acme
    await sink.close()


@pytest.mark.parametrize(
    ("ailment", "why"), [("archive", "is_archived"), ("kick", "not_in_channel"), ("none", "channel_not_found")]
)
async def test_what_a_channel_does_not_take_its_fallback_has(slack, ailment, why, caplog):
    """A message that a channel refuses is in the fallback, says so, and is edited there; the next goes there
    at once.
    """
    slack.workspace.add_channel("ops")
    channel = "#deploys"
    if ailment != "none":
        slack.workspace.add_channel("deploys")
        getattr(slack, ailment)("#deploys")
    sink = SlackSink(transport=api(slack))
    sink.routed([Route(sink="slack", address=channel, fallback="#ops")])
    with caplog.at_level(logging.WARNING):
        state, reply_receipt = await posted(sink, a_task(), a_checkpoint(), address=channel)
    [message] = slack.messages("#ops")
    assert (state.ref["instead_of"], state.ref["why"]) == ("#deploys", why)
    assert f"meant for #deploys ({why})" in json.dumps(message["attachments"])
    assert reply_receipt is not None
    assert [r["ts"] for r in slack.thread(message["ts"], "#ops")] == [reply_receipt.ref["ts"]]
    edited = await sink.deliver(
        a_delivery(a_task(status="complete"), sink="slack", address=channel, message_receipt=state)
    )
    assert edited.ref["ts"] == message["ts"]
    assert "meant for #deploys" in json.dumps(slack.messages("#ops")[0]["attachments"])
    before = len(slack.calls("chat.postMessage"))
    await sink.deliver(a_delivery(a_task("second"), sink="slack", address=channel))
    assert [c.arguments["channel"] for c in slack.calls("chat.postMessage")[before:]] == ["#ops"]
    assert len([r for r in caplog.records if "takes no message" in r.message]) == 1
    await sink.close()


async def test_without_a_fallback_a_channel_is_refused(slack):
    """Without a fallback nothing is posted in another channel."""
    sink = SlackSink(transport=api(slack))
    with pytest.raises(DeliveryRefused):
        await sink.deliver(a_delivery(sink="slack", address="#nowhere"))
    await sink.close()


async def test_a_dry_route_posts_nothing(slack):
    """A dry route's deliveries are written to the preview as delivered; switched off, the route posts."""
    out = io.StringIO()
    sink = SlackSink(transport=api(slack), dry=Preview(out))
    sink.routed([Route(sink="slack", address="#dry", dry_run=True)])
    state, _ = await posted(sink, a_task(), a_checkpoint(), address="#dry")
    assert [json.loads(x)["method"] for x in out.getvalue().splitlines()] == ["chat.postMessage"] * 2
    assert slack.asked == []
    await sink.deliver(a_delivery(sink="slack"))
    assert len(slack.messages()) == 1
    slack.workspace.add_channel("dry")
    sink.routed([Route(sink="slack", address="#dry")])
    await sink.deliver(a_delivery(sink="slack", address="#dry", message_receipt=state))
    assert len(slack.messages("#dry")) == 1
    await sink.close()


def test_routes_to_what_is_not_set_are_refused_at_the_start():
    """An unknown workspace, a mention that is no id, and a fallback elsewhere each name the field to change."""
    for route, word in (
        ({"address": "acme/#x"}, "acme"),
        ({"mention": ["@mina"]}, "mention"),
        ({"fallback": "acme/#x"}, "fallback"),
    ):
        settings = load(slack={"preview_file": "/dev/null"}, routes=[{"sink": "slack", **route}])
        with pytest.raises(ConfigError, match=word):
            open_sinks(settings)


def test_settings_make_routes():
    """Settings of a route and of Slack reach the route; the route's value takes precedence."""
    routes = [
        {
            "sink": "slack", "address": "#pay", "topic": ["pay*", "billing"], "attributes": {"team.name": "payments"},
            "severity": "error", "cost_usd": 5, "interval": 10, "prefix": "[prod]", "mention": ["S0GROUP1"],
            "content": True,
        },
        {"sink": "slack", "enabled": False, "agent": "noisy"},
    ]  # fmt: skip
    slack = {"preview_file": "/dev/null", "mention": ["U012AB3CD"], "fallback": "#ops"}
    first, off, rest = routes_of(load(slack=slack, routes=routes)).routes
    assert first.topic == ("pay*", "billing")
    assert (first.severity, first.attributes) == ("error", {"team.name": "payments"})
    assert (first.interval.total_seconds(), first.prefix, first.mention, first.content) == (
        10,
        "[prod]",
        ("S0GROUP1",),
        True,
    )
    assert (off.verbosity, rest.verbosity) == (Verbosity.MUTE, Verbosity.MILESTONES)
    assert (rest.interval.total_seconds(), rest.mention, rest.fallback, rest.content) == (
        30,
        ("U012AB3CD",),
        "#ops",
        False,
    )
    rules = rules_of(load(slack=slack, routes=routes))
    assert (rules.routes.editing, rules.routes.attributes) == (frozenset({"slack"}), frozenset({"team.name"}))


def test_a_workspaces_token_has_a_variable_of_its_own(monkeypatch):
    """SPANPOST_SLACK__WORKSPACES__ACME__TOKEN is read beside the file, and never printed."""
    monkeypatch.setenv("SPANPOST_SLACK__WORKSPACES__ACME__TOKEN", "xoxb-canary")
    monkeypatch.setenv("SPANPOST_SLACK__WORKSPACES__ACME__CHANNEL", "#ops")
    settings = load(slack={"preview_file": "/dev/null"})
    acme = settings.sinks["slack"].workspaces["acme"]  # type: ignore[attr-defined]
    assert (acme.token.get_secret_value(), acme.channel) == ("xoxb-canary", "#ops")
    assert "canary" not in repr(settings)


# --- whom -----------------------------------------------------------------------------------------------------------


def _mentioned(message: SlackMessage) -> list[str]:
    return [
        str(n.get("user_id") or n.get("usergroup_id"))
        for n in nodes(message.blocks)
        if n.get("type") in ("user", "usergroup")
    ]


def test_only_failures_and_questions_mention_and_only_whom_the_settings_name():
    """Only open questions and failures mention people, and only those in the settings, once."""
    slack_style = SlackStyle(mention=("U012AB3CD", "S0GROUP1"))
    failed = a_task(status="error")
    end = a_checkpoint(failed, kind=Kind.END, status="error")
    assert _mentioned(reply(ASKING, QUESTION, key="k", slack_style=slack_style)) == ["U012AB3CD", "S0GROUP1"]
    assert _mentioned(reply(failed, end, key="k", slack_style=slack_style)) == ["U012AB3CD", "S0GROUP1"]
    assert _mentioned(root(failed, key="k", slack_style=slack_style)) == []
    for task, checkpoint in (
        (replace(ASKING, is_muted=True), QUESTION),
        (replace(failed, is_muted=True), end),
        (replace(failed, is_inferred=True), end),
        (a_task(status="complete"), a_checkpoint(kind=Kind.END, status="complete")),
        (replace(ASKING, approvals=(replace(ASKED, decision="deny", source="slack"),)), QUESTION),
        *((a_task(), a_checkpoint(kind=kind)) for kind in Kind if kind not in (Kind.END, Kind.APPROVAL_REQUESTED)),
    ):
        assert _mentioned(reply(task, checkpoint, key="k", slack_style=slack_style)) == []
    assert _mentioned(reply(failed, end, key="k", slack_style=slack_style, count=2)) == []


# --- what is hidden -------------------------------------------------------------------------------------------------


def test_patterns_hide_in_slack_what_the_rows_keep():
    """A pattern hides matching text of tasks and checkpoints in Slack, also with invisible characters within."""
    slack_style = SlackStyle(rules=rules(r"ACME-\d{1,9}", r"(?i)project x"))
    hidden = "deploy AC\u200bME-4123 of Project X"
    task = a_task(
        name=hidden,
        action=hidden,
        error=Failure(message=hidden, log_tail=hidden),
        status="error",
        links={hidden: "https://e.example/ACME-1"},
    )
    message, checkpoint = (
        root(task, key="k", slack_style=slack_style),
        a_checkpoint(task, kind=Kind.ERROR, text=hidden, detail=hidden),
    )
    for shown in (said(message), said(reply(task, checkpoint, key="k", slack_style=slack_style))):
        assert "4123" not in shown
        assert "roject X" not in shown
        assert "[redacted:rule]" in shown
    assert task.name == hidden


def test_patterns_hide_what_messages_carry():
    """A pattern hides matching values of messages, nested ones too, in each language; keys stay."""
    hiding = rules(r"ACME-\d{1,9}", "name", "checkpoint", "text")
    given = wording.message(
        "checkpoint.with_words", text=wording.message("checkpoint.started", name="AC\u200bME-4123"), words="see ACME-99"
    )
    text, locale_message = wording.worded(given)
    for locale, started in (
        (ENGLISH, "Started: [redacted:rule]: see [redacted:rule]"),
        (KOREAN, "시작: [redacted:rule]: see [redacted:rule]"),
    ):
        slack_style = SlackStyle(rules=hiding, locale=locale)
        checkpoint = a_checkpoint(kind=Kind.START, text=text, message=locale_message)
        task = a_task(
            action=text,
            messages={"action": given},
            steps=(Step(name=text, message=given), Step(name="b")),
            step_name="b",
        )
        assert started in said(reply(task, checkpoint, key="k", slack_style=slack_style))
        for shown in (
            said(reply(task, checkpoint, key="k", slack_style=slack_style)),
            said(root(task, key="k", slack_style=slack_style)),
        ):
            assert "4123" not in shown
            assert "ACME-99" not in shown


def test_arguments_are_shown_where_a_route_allows_it():
    """A question's details that are data, or that were inferred, are left out; an agent's own words stay."""
    for detail, approval, is_shown in (
        ("31 tests passed", ASKED, True),
        ('{"path": "/etc/passwd"}', ASKED, False),
        ("31 tests passed", replace(ASKED, has_id=False), False),
    ):
        task, checkpoint = (
            replace(ASKING, approvals=(replace(approval, detail=detail),)),
            replace(QUESTION, detail=detail),
        )
        closed = said(reply(task, checkpoint, key="k", slack_style=SlackStyle(shows_content=False)))
        assert ("31 tests" in closed) is is_shown
        assert ("not shown here" in closed) is not is_shown
        assert "not shown here" not in said(
            reply(task, checkpoint, key="k", slack_style=SlackStyle(shows_content=True))
        )


@pytest.mark.proves("literal", "spoofing")
@pytest.mark.parametrize(
    "posing",
    [
        "Approved by @mina", "✅ Approved by Mina", "APPROVED  BY mina", "Аpprоved bу mina", "Approved via Slack",
        "[Approve] [Deny]", "Approve", "A p p r o v e d by mina", "Ａｐｐｒｏｖｅｄ by mina", "denied by the board",
        "🟢 Approve  🔴 Deny", "Cancelled by Mina",
    ],
)  # fmt: skip
def test_what_poses_as_ours_stands_in_quotation_marks(posing):
    """A verdict or a button in an agent's text is shown in quotation marks, in each place."""
    assert disarmed(posing) == f"“{posing}”"
    task = a_task(name=posing, action=posing, status="working")
    for message in (root(task, key="k"), reply(task, a_checkpoint(text=posing), key="k")):
        texts = [n["text"] for b in blocks_of(message) for n in nodes(b) if n.get("type") in ("text", "plain_text")]
        assert posing.split() not in [text.split() for text in texts]


@pytest.mark.parametrize(
    "prose",
    ["Reading the changelog", "The reviewer asked for changes", "Found it: #4123", "pytest: 3 failed", "deploy"],
)
def test_prose_stands_as_it_is(prose):
    """Text that is no verdict gets no quotation marks."""
    assert disarmed(prose) == prose


def test_a_decision_says_whose_it_is():
    """A decision names its source: a person through spanpost, the agent's words, a timeout, or none."""
    slack_style = SlackStyle(is_interactive=True)

    def shown(**more: Any) -> SlackMessage:
        return reply(replace(ASKING, approvals=(replace(ASKED, **more),)), QUESTION, key="k", slack_style=slack_style)

    assert actions(shown()) == ["spanpost:approve", "spanpost:deny"]
    assert actions(shown(options=("ship", "hold"))) == ["spanpost:choose:0", "spanpost:choose:1"]
    assert actions(shown(key=None)) == []
    for more, words in (
        ({"decision": "approve", "by": "Mina", "source": "slack"}, "Approved by Mina"),
        ({"decision": "deny", "by": "Mina", "source": "api"}, "Denied by Mina, through api"),
        ({"decision": "hold", "by": "Mina", "source": "slack"}, "Decided: “hold” by Mina"),
        ({"decision": "approve", "by": "Mina"}, "Decided, as the agent reports"),
        ({"decision": "expired", "is_expired": True, "source": "spanpost"}, "Not decided in time"),
        ({"decision": "deny", "is_expired": True, "source": "spanpost"}, "Not decided in time: it counts as denied"),
        ({"is_void": True}, "Asked again in other words"),
    ):
        message = shown(**more)
        assert words in said(message)
        assert actions(message) == []
        check(message)
    assert "Approved" not in said(shown(decision="approve", by="Mina"))


RATINGS = ("spanpost:rate:1", "spanpost:rate:0")


@pytest.mark.parametrize(
    ("task", "offered"),
    [
        (a_task(), ["spanpost:cancel", "spanpost:menu"]),
        (a_task(cancel_by="Mina"), ["spanpost:menu"]),
        (a_task(status="paused", paused_by="Mina"), ["spanpost:resume", "spanpost:cancel", "spanpost:menu"]),
        (ASKING, ["spanpost:approve", "spanpost:deny", "spanpost:cancel", "spanpost:menu"]),
        (a_task(status="error"), ["spanpost:retry", *RATINGS, "spanpost:menu"]),
        (a_task(status="cancelled"), ["spanpost:retry", *RATINGS, "spanpost:menu"]),
        (a_task(status="complete"), [*RATINGS, "spanpost:menu"]),
    ],
)
def test_buttons_fit_the_state(task, offered):
    """Each state has the buttons that are useful then; without interactions it has none."""
    message = root(task, key="k", slack_style=SlackStyle(is_interactive=True))
    assert actions(message) == offered
    assert actions(root(task, key="k")) == []
    cancel = [n for b in blocks_of(message) for n in nodes(b) if n.get("action_id") == "spanpost:cancel"]
    assert all(n["confirm"]["style"] == "danger" and n["value"] == str(task.uid) for n in cancel)
    for row in (b for b in blocks_of(message) if b["type"] == "actions"):
        prefix, key, revision = row["block_id"].split(":")
        assert (prefix, key in (str(task.uid), str(KEY)), len(revision)) == ("spanpost", True, 16)


@pytest.mark.parametrize("locale", [ENGLISH, KOREAN])
def test_a_loop_has_buttons_for_the_whole_task_and_for_itself(locale):
    """*Pause* and *Cancel* concern the topmost task, *Let it be* the finding's own; a task that ended has none."""
    top, style = UUID(int=7), SlackStyle(is_interactive=True, locale=locale)
    task = a_task(root_uid=top)
    found = a_checkpoint(task, "loop", kind=Kind.LOOP, text="Calls read_file 6 times")
    message = reply(task, found, key="k", is_root=False, slack_style=style)
    check(message)
    assert actions(message) == ["spanpost:pause", "spanpost:cancel", "spanpost:dismiss"]
    values = [
        n["value"] for b in blocks_of(message) for n in nodes(b) if n.get("action_id", "").startswith("spanpost:")
    ]
    assert values == [str(top), str(top), str(task.uid)]
    assert actions(reply(task, found, key="k")) == []
    assert actions(reply(a_task(status="complete"), found, key="k", slack_style=style)) == []


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["ftp://x/{trace_id}", "https://{agent}/x", "https://x/{nothing}", "https://x/{",
                "https://u:p@x/{agent}", "{trace_id}", "https://x.example{agent}/"]
)  # fmt: skip
def test_a_template_that_leads_astray_is_refused(address):
    """Refused are a field before the path, an unknown one, a scheme but http and https, and a secret."""
    assert problem(address)


@given(st.text(max_size=60), st.sampled_from(FIELDS))
def test_a_filled_link_leads_where_its_template_does(text, name):
    """Whatever the agent's name, scheme, host and path of the link stay the template's."""
    from urllib.parse import parse_qs, urlsplit

    template = Template("x", f"https://g.example/explore?q={{{name}}}")
    assert problem(template.address) == ""
    task = a_task(name=text, agent_name=text, topic=text, repo=text, service=text, environment=text, session_id=text)
    filled = template.filled(task)
    if filled is not None:
        parts = urlsplit(filled)
        assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == ("https", "g.example", "/explore", "")
        assert list(parse_qs(parts.query, keep_blank_values=True)) == ["q"]


@given(st.text(max_size=60))
def test_an_attribute_in_a_path_stays_one_part_of_it(text):
    """Whatever an agent writes into an attribute, the link has the parts of its template, and none leads above."""
    from urllib.parse import unquote, urlsplit

    template = Template("x", "https://g.example/d/{attributes.shop.dealer}/costs")
    assert problem(template.address) == ""
    assert template.kept == {"shop.dealer"}
    for dealer in (text, ".", "..", "%2e%2e", f"../{text}"):
        filled = template.filled(a_task(attributes={"shop.dealer": dealer}))
        if filled is not None:
            path = urlsplit(filled).path.split("/")
            assert (len(path), path[1], path[3]) == (4, "d", "costs")
            assert unquote(path[2]) not in (".", "..", "")
    assert template.filled(a_task(attributes={"shop.dealer": ".."})) is None
    assert template.filled(a_task()) is None


def test_a_link_knows_each_field_of_a_task():
    """A field has the name that the API gives it; an attribute that a task has a field for is that field."""
    template = Template("x", "https://g.example/?q={model}&w={requested_by}&r={attributes.agent.repo}")
    assert problem(template.address) == ""
    assert template.kept == frozenset()
    task = a_task(model="m-1", requested_by="mina@example.com", repo="shop")
    assert template.filled(task) == "https://g.example/?q=m-1&w=mina%40example.com&r=shop"


# --- repeated checkpoints, and files ------------------------------------------------------------


def _again(first: Delivery, receipt: Receipt, **more: Any) -> Delivery:
    return replace(first, receipt=receipt, **more)


async def test_a_repeated_error_counts_up_where_it_stands(slack):
    """The reply is edited, not repeated: a count, and the last time."""
    sink = SlackSink(transport=api(slack))
    state = await sink.deliver(a_delivery(sink="slack"))
    error = a_checkpoint(kind=Kind.ERROR, text="pytest: Timeout")
    first = a_delivery(a_task(), error, sink="slack", message_receipt=state, key="fingerprint")
    receipt = await sink.deliver(first)
    later = replace(error, id=UUID(int=9), at=NOON + timedelta(minutes=31, seconds=5))
    second = await sink.deliver(_again(first, receipt, checkpoint=later, count=7))
    [one] = slack.thread(state.ref["ts"])
    assert second.ref["ts"] == one["ts"] == receipt.ref["ts"]
    assert "×7" in one["text"]
    assert [n["timestamp"] for n in nodes(one["blocks"]) if n.get("type") == "date"] == [int(later.at.timestamp())]
    assert (await sink.deliver(_again(first, second, checkpoint=later, count=7))).skipped == "unchanged"
    await sink.close()


async def test_a_question_shows_its_decision_where_it_stands(slack):
    """The buttons are replaced by the verdict, in the thread and in the root message; a deleted reply stays
    deleted.
    """
    sink = SlackSink(transport=api(slack), slack_style=SlackStyle(is_interactive=True))
    state = await sink.deliver(a_delivery(ASKING, sink="slack"))
    first = a_delivery(ASKING, QUESTION, sink="slack", message_receipt=state)
    receipt = await sink.deliver(first)
    [asked] = slack.thread(state.ref["ts"])
    assert actions(asked) == ["spanpost:approve", "spanpost:deny"]
    decided = replace(
        ASKING, status="working", approvals=(replace(ASKED, decision="approve", by="Mina", source="slack"),)
    )
    await sink.deliver(_again(first, receipt, task=decided))
    await sink.deliver(a_delivery(decided, sink="slack", message_receipt=state))
    [shown], [message] = slack.thread(state.ref["ts"]), slack.messages()
    assert (actions(shown), actions(message)) == ([], ["spanpost:cancel", "spanpost:menu"])
    assert "Approved by Mina" in json.dumps(shown["blocks"])
    slack.delete(shown["ts"])
    void = replace(ASKING, approvals=(replace(ASKED, is_void=True),))
    gone = await sink.deliver(_again(first, receipt, task=void))
    assert gone.ref["ended"] == "deleted"
    assert (await sink.deliver(_again(first, gone))).skipped
    await sink.close()


async def test_a_long_log_is_a_file_in_the_thread(slack, caplog):
    """Above 2.8 kB the whole log follows as a file; without the scope its end is shown with a note, once."""
    sink = SlackSink(transport=api(slack))
    log = "\n".join(f"line {i}" for i in range(900)) + "\nxoxb-123456789012-abcdefghijkl"
    error = a_checkpoint(kind=Kind.ERROR, text="pytest failed", detail=log)
    state, receipt = await posted(sink, a_task(), error)
    posted_reply, file = slack.thread(state.ref["ts"])
    assert receipt is not None
    assert posted_reply["ts"] == receipt.ref["ts"]
    [kept] = slack.workspace.files.values()
    assert kept["shared"] == (state.ref["channel"], state.ref["ts"])
    assert kept["content"].startswith("line 0\n")
    assert kept["content"].endswith("[redacted:slack-token]")
    assert file["files"][0]["title"] == "log.txt"
    slack.remove_scope("files:write")
    with caplog.at_level(logging.WARNING):
        for number in (2, 3):
            _, cut = await posted(sink, a_task(f"t{number}"), error)
            assert cut is not None
            assert cut.ref["file"] == "missing_scope"
    assert len([r for r in caplog.records if "as a file" in r.message]) == 1
    assert len(slack.workspace.files) == 1
    await sink.close()


@pytest.mark.parametrize(
    ("change", "is_edited"),
    [
        ({"last_event_at": NOON + timedelta(hours=1)}, False),
        ({"input_tokens": 99_000, "tool_calls": 4, "tool_errors": 1, "model": "other"}, False),
        ({"cost_usd": Decimal("0.93")}, False),
        ({"cost_usd": Decimal("1.01")}, True),
        ({"progress": 41.0}, False),
        ({"progress": 45.0}, True),
        ({"context_used_tokens": 96_000}, False),
        ({"context_used_tokens": 104_000}, True),
        ({"action": "Found it"}, True),
        ({"step_index": 3}, True),
        ({"status": "waiting"}, True),
        ({"status": "complete", "ended_at": NOON + timedelta(minutes=1)}, True),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else str(given),
)
async def test_an_edit_is_made_only_for_what_is_read(slack, change, is_edited):
    """Calls, tokens, cents and heartbeats cost no edit; words, steps, states, and figures by their steps do."""
    sink = SlackSink(transport=api(slack))
    task = a_task(
        progress=40.0, step_name="Fetch", step_index=2, step_count=5, context_used_tokens=90_000,
        context_window_tokens=200_000, context_window_source="table",
    )  # fmt: skip
    state = await sink.deliver(a_delivery(task, sink="slack"))
    receipt = await sink.deliver(a_delivery(replace(task, **change), sink="slack", message_receipt=state))
    assert (not receipt.skipped, len(slack.calls("chat.update"))) == (is_edited, int(is_edited))
    await sink.close()


async def test_another_tool_is_an_edit_where_nothing_else_is_known(slack):
    """Of a task that says nothing itself another tool is shown at once, and the model between two calls is not."""
    sink = SlackSink(transport=api(slack))
    task = a_task(last_event_at=NOON)
    state = await sink.deliver(a_delivery(task, sink="slack"))
    tool = replace(
        task,
        steps=(Step(name="grep"),),
        action="tool: grep",
        messages={"action": wording.message("task.tool", name="grep")},
    )
    shown = await sink.deliver(a_delivery(tool, sink="slack", message_receipt=state))
    model = {"action": "model: x", "messages": {"action": wording.message("task.model", name="x")}}
    again = replace(tool, steps=(Step(name="grep ×2", count=2),), **model)
    skipped = await sink.deliver(a_delivery(again, sink="slack", message_receipt=shown))
    assert (bool(shown.skipped), skipped.skipped) == (False, "unchanged")
    assert slack.messages("#agents")[0]["text"].endswith("working · tool: grep")
    await sink.close()


async def test_another_call_alone_is_an_edit_once_in_a_while(slack):
    """Of a task that says nothing itself the newest call is shown at most every 30 s; with a step never."""
    sink = SlackSink(transport=api(slack))
    for step, edited in (({}, [False, True]), ({"step_name": "Fetch"}, [False, False])):
        task = a_task(str(step), last_event_at=NOON, **step)
        said = [
            replace(task, action=f"tool: {n}", messages={"action": wording.message("task.tool", name=n)}) for n in "abc"
        ]
        state = await sink.deliver(a_delivery(said[0], sink="slack"))
        for one, seconds, is_edited in zip(said[1:], (20, 40), edited, strict=True):
            seen = replace(one, last_event_at=NOON + timedelta(seconds=seconds))
            receipt = await sink.deliver(a_delivery(seen, sink="slack", message_receipt=state))
            assert (not receipt.skipped) is is_edited
    await sink.close()


def test_a_route_says_language_digest_and_board(clean_environment: object) -> None:
    """A route's language, digest and board reach its messages; the sink's language is the default."""
    slack = {"language": "ko"}
    routes = [
        {
            "sink": "slack",
            "address": "#a",
            "topic": "a",
            "digest": "daily",
            "digest_at": "09:30",
            "timezone": "Asia/Seoul",
        },
        {"sink": "slack", "address": "#b", "topic": "b", "language": "en", "board": True, "board_interval": 30},
        {"sink": "slack", "address": "#c", "topic": "c", "digest": "hourly", "board": True, "enabled": False},
    ]
    first, second, off, rest = routes_of(load(slack=slack, routes=routes)).routes
    assert (first.digest, first.digest_at, first.timezone, first.language, first.board) == (
        "daily",
        time(9, 30),
        "Asia/Seoul",
        "ko",
        False,
    )
    assert (second.digest, second.board, second.board_interval, second.language) == (
        None,
        True,
        timedelta(seconds=30),
        "en",
    )
    assert (off.digest, off.board, rest.language) == (None, False, "ko")
    assert SlackStyle().by(first).locale.code == "ko"


def test_a_route_says_what_waits_and_a_preset_fills_the_rest(clean_environment: object) -> None:
    """`after`, quiet hours and the week's first day reach the route; a preset holds where the route is silent."""
    routes = [
        {
            "sink": "slack",
            "after": "PT30S",
            "quiet": "22:00-07:00",
            "digest": "weekly",
            "digest_day": "friday",
            "agent": "a",
        },
        {"sink": "slack", "preset": "busy", "board": False},
    ]
    first, busy, rest = routes_of(load(slack={"preview_file": "/dev/null"}, routes=routes)).routes
    assert (first.after, first.quiet) == (timedelta(seconds=30), (time(22), time(7)))
    assert (first.digest, first.digest_day, first.closing) == ("weekly", "friday", timedelta(minutes=1))
    assert (busy.digest, busy.digest_failures, busy.board) == ("daily", True, False)
    assert (rest.digest, rest.after, rest.quiet) == (None, timedelta(0), None)


async def test_the_settings_of_the_board_and_of_people_reach_the_messages(slack, clean_environment):
    """`api.public_url` and `interactions.people` are in the message that an assembled sink posts."""
    settings = load(
        slack={"token": slack.token, "base_url": slack.url},
        api={"public_url": "https://agents.example/"},
        interactions={"app_token": "xapp-1-a", "people": {"mina": "U012AB3CD"}},
    )
    sink = open_sinks(settings)["slack"]
    task = a_task(requested_by="Mina")
    receipt = await sink.deliver(a_delivery(task, sink="slack"))
    ended = replace(task, status="complete")
    await sink.deliver(a_delivery(ended, sink="slack", message_receipt=receipt))  # an edit has the mention
    [message] = slack.messages("#agents")
    said = json.dumps([message["blocks"], message["attachments"]])
    assert f"https://agents.example/board/tasks/{task.uid}" in said
    assert "<@U012AB3CD>" in said
    await sink.close()


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ({"sink": "slack", "digest": "monthly"}, "digest"),
        ({"sink": "slack", "preset": "busy", "severity": "error"}, "not with severity"),
        ({"sink": "slack", "quiet": "22-7"}, "hours of a day"),
        ({"sink": "slack", "digest": "daily", "digest_at": "9"}, "HH:MM"),
        ({"sink": "slack", "digest": "daily", "timezone": "Mars/Olympus"}, "time zone"),
        ({"sink": "slack", "board": True, "status": "error"}, "not with status"),
        ({"sink": "slack", "board": True, "board_interval": 1}, "board_interval"),
        ({"sink": "slack", "language": "tlh"}, "language"),
        ({"sink": "console", "digest": "daily"}, "use slack"),
    ],
)
def test_what_a_route_cannot_have_is_refused(clean_environment: object, route: dict, why: str) -> None:
    """A digest or board that could never be made is refused at the start, with the field and a next step."""
    with pytest.raises(ConfigError, match=why):
        routes_of(load(slack={}, console={}, routes=[route]))


def test_what_was_asked_and_answered_is_shown_only_with_content() -> None:
    """A run is titled by what was asked, unless its agent named it or the route hides content."""
    task = a_task(name="weather_agent", ask="Weather in Oslo?", answer="Rain")
    assert labels.title(task) == "Weather in Oslo?"
    assert labels.title(replace(task, is_named=True)) == "weather_agent"
    bare = SlackStyle(shows_content=False).of_task(task)
    assert (bare.ask, bare.answer, labels.title(bare)) == (None, None, "weather_agent")
