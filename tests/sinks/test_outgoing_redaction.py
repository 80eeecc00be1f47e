"""What leaves by a sink or a launcher has passed the sink's rules, the route's and the built-in scan."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from spanpost.launchers.carrier import Carrier
from spanpost.model.alerts import Silence, SilenceState
from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Receipt
from spanpost.model.errors import ConfigError
from spanpost.model.evaluations import Evaluation
from spanpost.model.launch_orders import Order
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.summaries import Board, Summary
from spanpost.model.tasks import Step
from spanpost.routing.routes import Route
from spanpost.routing.summaries import route_key
from spanpost.runtime.assembly import carriers_of, open_launchers, open_sinks, routes_of
from spanpost.settings import load
from spanpost.sinks import registry
from spanpost.sinks.redaction import RedactingCarrier, SinkRule, compiled
from spanpost.sinks.slack.style import SlackStyle
from spanpost.testing.exercise_alerts import an_alert
from spanpost.testing.fake_grafana import FakeGrafana
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.http import HttpReceiver
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost.text.legible import Hidden

pytestmark = pytest.mark.usefixtures("clean_environment")

PROJECT, CUSTOMER = "PROJ-4711", "cust-0815"
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
SAID = f"see {PROJECT} of {CUSTOMER} with {TOKEN}"
#: The form of a signing secret of webhooks.
WHSEC = "whsec_" + base64.b64encode(b"a canary key that has 32 bytes!!").decode()
BY_SINK, BY_ROUTE = "PROJ-[0-9]{1,6}", "cust-[0-9]{4}"


def a_talkative_task() -> Any:
    """Return a task that holds the words in each of its texts, people's comments among them."""
    return a_task(
        name=SAID,
        action=SAID,
        requested_by=SAID,
        status="error",
        steps=(Step(name=SAID),),
        step_name=SAID,
        artifacts=(Artifact(name=SAID, uri=f"https://e.example/{PROJECT}/{CUSTOMER}"),),
        approvals=(
            Approval(id="a", question=SAID, detail=SAID, options=(SAID,), key=UUID(int=7)),
            Approval(id="b", question="Go?", decision="deny", by="mina", comment=SAID, key=UUID(int=8)),
        ),
        evaluations=(Evaluation(name="quality", explanation=SAID),),
        results={"said": SAID, "many": [SAID], "in": {"deep": SAID}},
        links={SAID: "https://e.example/"},
        attributes={"note": SAID},
        error=Failure(type="E", message=SAID, log_tail=SAID),
        cancel_by=SAID,
    )


def a_full_delivery(**fields: Any) -> Delivery:
    task = a_talkative_task()
    alert = msgspec.structs.replace(
        an_alert(customer=SAID),
        fingerprint="f",
        description=SAID,
        silence=Silence(state=SilenceState.ACTIVE, by="mina", comment=SAID, until=NOON, asked_at=NOON),
    )
    summary = Summary(id=UUID(int=1), key="k", content=Board(route="r", tasks=(task,)))
    checkpoint = a_checkpoint(task, kind=Kind.ERROR, text=SAID, detail=SAID)
    return a_delivery(task, checkpoint, children=(task,), alert=alert, summary=summary, **fields)


class Noting:
    """A carrier that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Delivery] = []

    async def deliver(self, delivery: Delivery) -> Receipt:
        self.given.append(delivery)
        return Receipt()

    async def reconcile(self, deliveries: list[Delivery]) -> dict[int, None]:
        self.given += deliveries
        return {}

    def rate_limits(self, address: str, call: object) -> tuple[()]:
        return ()


@pytest.mark.parametrize("name", [name for name in registry.names() if name != "slack"])
async def test_nothing_of_a_delivery_reaches_a_sink_unscanned(name):
    """Whatever a sink makes of a delivery: its rules, the route's and the scan were applied to all texts, when it
    delivers and when it reconciles.
    """
    route = Route(sink=name, address="#x", redact=(SinkRule(pattern=BY_ROUTE),))
    noting = Noting()
    carrier = RedactingCarrier(noting, (SinkRule(pattern=BY_SINK),), lambda: [Route(sink="slack"), route])
    await carrier.deliver(a_full_delivery(sink=name, address="#x"))
    await carrier.reconcile([a_full_delivery(sink=name, address="#x")])
    assert len(noting.given) == 2
    for given in noting.given:
        for word in (PROJECT, CUSTOMER, TOKEN):
            assert word not in repr(given)
        assert given.task.uid == a_talkative_task().uid
        assert given.task.task_id == a_talkative_task().task_id


async def test_a_route_hides_more_than_its_sink_and_no_other_route():
    """The rules of a route concern its deliveries alone; a summary has those of its own route."""
    routes = [
        Route(sink="webhook", address=a, redact=(SinkRule(pattern=p),)) for a, p in (("x", BY_ROUTE), ("y", "with"))
    ]
    noting = Noting()
    carrier = RedactingCarrier(noting, (SinkRule(pattern=BY_SINK),), lambda: routes)
    task = a_task(name=SAID)
    for address in ("x", "y", "z"):
        await carrier.deliver(a_delivery(task, sink="webhook", address=address))
    board = Summary(id=UUID(int=1), key="k", content=Board(route=route_key(routes[0]), tasks=(task,)))
    await carrier.deliver(a_delivery(task, sink="webhook", address="z", summary=board))
    shown = [given.task.name.replace("[redacted:github-token]", "T") for given in noting.given]
    assert shown == [
        "see [redacted:rule] of [redacted:rule] with T",
        f"see [redacted:rule] of {CUSTOMER} [redacted:rule] T",
        f"see [redacted:rule] of {CUSTOMER} with T",
        "see [redacted:rule] of [redacted:rule] with T",
    ]


def test_a_rule_selects_labels_results_fields_and_errors():
    """`attributes` names labels, results and fields; `parts` distinguishes errors and alerts; `drop` takes all."""
    task = a_task(name="n", requested_by="ann", results={"total": 3, "mail": "x"}, error=Failure(message="broken"))
    alert = an_alert(customer="acme")

    def hidden(value: Any, **rule: Any) -> Any:
        return compiled((SinkRule(**rule),), scans=True).of(value)

    assert hidden(task, attributes=("requested_by",)).requested_by == "[redacted:rule]"
    assert hidden(task, attributes=("mail", "total"), action="drop").results == {}
    assert hidden(task, parts=("error",), name="why").error.message == "[redacted:why]"
    assert hidden(task, parts=("error",)).requested_by == "ann"
    assert hidden(alert, attributes=("customer",)).labels["customer"] == "[redacted:rule]"
    assert hidden(alert, parts=("alert",)).summary == "[redacted:rule]"
    assert hidden(task, pattern="rok", parts=("error",), action="drop").error.message == "[redacted:rule]"


def test_the_rows_keep_what_a_sink_hides():
    """A task is copied, not changed; without a match the texts stay as they are."""
    task = a_talkative_task()
    compiled((SinkRule(pattern=BY_SINK),), scans=True).of(task)
    assert task == a_talkative_task()
    plain = a_task(name="deploy")
    assert compiled((SinkRule(pattern=BY_SINK),), scans=True).of(plain) == plain


@pytest.mark.slow
async def test_no_sink_shows_what_is_hidden(capsys):
    """The genuine sinks, opened by the settings with rules of sink and route, show none of the words."""
    pytest.importorskip("spanpost_webhook", reason="plugins/spanpost-webhook is not installed")
    pytest.importorskip("spanpost_apprise", reason="plugins/spanpost-apprise is not installed")
    names = ("webhook", "apprise", "slack", "grafana", "console")
    async with HttpReceiver() as receiver, FakeSlack() as slack, FakeGrafana() as grafana:
        settings = load(
            webhook={"url": receiver.url, "secret": WHSEC, "redact": [BY_SINK], "states": True},
            apprise={"urls": {"ops": receiver.url.replace("http://", "json://")}, "redact": [BY_SINK]},
            slack={"token": slack.token, "base_url": slack.url, "redact": [{"pattern": BY_SINK}], "content": True},
            grafana={"url": grafana.url, "token": grafana.token, "redact": [BY_SINK]},
            console={"form": "json", "redact": [BY_SINK]},
            routes=[{"sink": name, "redact": [BY_ROUTE]} for name in names],
        )
        sinks = open_sinks(settings)
        carriers = carriers_of(settings, sinks, {}, lambda: routes_of(settings).routes)
        task = a_talkative_task()
        for name in names:
            receipt = await carriers[name].deliver(a_delivery(task, sink=name))
            checkpoint = a_checkpoint(task, kind=Kind.ERROR, text=SAID, detail=SAID)
            await carriers[name].deliver(a_delivery(task, checkpoint, sink=name, message_receipt=receipt))
        posted = [post.body.decode() for post in receiver.posted] + [repr(call.arguments) for call in slack.asked]
        annotations = grafana.shown()
        posted += map(repr, annotations)
        for sink in sinks.values():
            await sink.close()
    printed = capsys.readouterr()
    posted += [printed.out, printed.err]
    assert len(posted) >= 8
    assert annotations
    assert "[redacted:rule]" in printed.out + printed.err
    for word in (PROJECT, CUSTOMER, TOKEN):
        assert not [body for body in posted if word in body]


def test_a_question_that_a_route_hides_is_not_approved_in_slack():
    """In Slack such a question is hidden by the rule, so that it can be denied there, or read on the board."""
    style = SlackStyle(is_interactive=True).by(Route(sink="slack", redact=(SinkRule(pattern=BY_ROUTE),)))
    assert style.question(Approval(id="a", question=f"Delete {CUSTOMER}?")).hidden == (Hidden.PATTERN,)
    assert style.question(Approval(id="a", question="Delete it?")).hidden == ()


async def test_a_launcher_does_not_see_what_its_rules_hide():
    """Text, parameters and body of an order pass the launcher's rules; its other words stay, secrets it needs too."""
    settings = load(
        launchers={"named": {"fix": {"kind": "command", "command": ["/bin/true"], "redact": [
            BY_SINK, {"attributes": ["customer"], "action": "drop"}
        ]}}}
    )  # fmt: skip
    seen: list[Order] = []

    class Launcher:
        retry_uncertain = True

        async def launch(self, order: Order) -> Receipt:
            seen.append(order)
            return Receipt()

        async def close(self) -> None: ...

    assert list(open_launchers(settings)) == ["launch:fix"]
    carriers = carriers_of(settings, {}, {"launch:fix": Carrier("fix", Launcher())}, tuple)
    order = Order(
        id=UUID(int=5), tenant="default", carrier="launch:fix", text=SAID, at=NOON,
        parameters={"customer": "x", "token": TOKEN}, body=json.dumps({"on": SAID}).encode(),
    )  # fmt: skip
    await carriers["launch:fix"].deliver(a_delivery(sink="launch:fix", order=order))
    [given] = seen
    assert PROJECT not in repr(given)
    assert given.parameters == {"token": TOKEN}
    assert json.loads(given.body)["on"] == SAID.replace(PROJECT, "[redacted:rule]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"pattern": "a+"}, "repeats without a bound"),
        ({"action": "keep", "pattern": "acme"}, "for redaction.rules"),
        ({"action": "hash", "pattern": "acme"}, "hidden by redact or drop"),
        ({"kinds": ["jwt"]}, "every kind is hidden"),
        ({"parts": ["span_name"]}, "here are error, alert"),
        ({}, "selects nothing"),
    ],
)
def test_a_rule_that_would_do_nothing_is_refused_at_the_start(rule, message):
    """The message names the sink or the route, the field, and what to write."""
    for where in ({"slack": {"redact": [rule]}}, {"console": {}, "routes": [{"sink": "console", "redact": [rule]}]}):
        with pytest.raises(ConfigError, match=message):
            load(**where)
