"""Webhooks of other programs: their proof, their row, their effect, and the rest of failed ones."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.dispatch.dispatcher import Dispatcher
from spanpost.http.routing import HttpRouter
from spanpost.interactions.webhooks.http import HooksHttp
from spanpost.interactions.webhooks.reading import document_of
from spanpost.interactions.webhooks.schemes import SCHEMES, WINDOW, Proven, WebhookRefused, prove
from spanpost.model.errors import ConfigError, StoreUnavailable
from spanpost.model.interventions import InterventionState
from spanpost.model.launch_orders import Order, OrderQuery, Taken
from spanpost.model.queries import ApprovalQuery, TaskQuery
from spanpost.runtime.webhooks import Hooks
from spanpost.settings import Settings, load
from spanpost.store.memory import MemoryStore
from spanpost.testing.exercise_people import asking, at_work
from spanpost.text.templates import render
from tests.errors import reason_of

pytestmark = pytest.mark.usefixtures("clean_environment")
NOW = 1_700_000_000.0
SECRET = "a canary of a secret"
KEY = base64.b64encode(b"canary key of thirty-two bytes!!").decode()

PROVIDERS: dict[str, Any] = {
    "github": {
        "scheme": "github",
        "secret": SECRET,
        "does": [
            {
                "when": {"header.x-github-event": "issues", "action": ["labeled", "opened"], "label.name": "agent*"},
                "start": "fix",
                "text": "Work on {issue.title}",
                "parameters": {"repo": "{repository.full_name}", "first": "{issue.labels.0.name}"},
            },
            {"when": {"action": "created"}, "task": "{task}", "text": "{comment.body}", "by": "{comment.user.login}"},
        ],
    },
    "stripe": {"scheme": "stripe", "secret": SECRET, "does": [{"start": "fix", "text": "{type}"}]},
    "ours": {
        "scheme": "standard",
        "secret": f"whsec_{KEY}",
        "does": [{"approval": "{question}", "decision": "{answer}", "text": "{why}"}],
    },
    "own": {
        "signature": {
            "signature_header": "X-Sig",
            "timestamp_header": "X-At",
            "signed": "{timestamp}:{body}",
            "encoding": "base64",
        },
        "secret": SECRET,
    },
}


def settings(**more: Any) -> Settings:
    return load(
        launchers={"named": {"fix": {"kind": "command", "command": ["/bin/true"]}}},
        webhooks={"providers": PROVIDERS | more},
    )


class Post:
    """The answer to a request."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self.body = status, body


class App:
    """A store in memory, the hooks and the dispatcher."""

    def __init__(self, made: Settings | None = None) -> None:
        made = made or settings()
        self.now = time.time()
        self.store = MemoryStore()
        self.hooks = Hooks(made, self.store, lambda recorded: None)
        hooks = HooksHttp(
            self.store.launch_orders,
            self.hooks.providers,
            take=lambda recorded: None,
            max_body=10_000,
            clock=lambda: self.now,
        )
        self.http = HttpRouter(hooks.routes)
        self.dispatcher = Dispatcher(self.store.outbox, self.store, self.hooks.carriers)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST", parts: int = 1
    ) -> Post:
        """Send a request, its body in so many parts."""
        size = max(len(body) // parts, 1)
        pieces = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        sent: list[Any] = []

        async def receive() -> Any:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.http({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
        return Post(sent[0]["status"], json.loads(sent[1]["body"]))

    async def github(self, body: Any, event: str = "issues") -> Post:
        raw = json.dumps(body).encode()
        return await self.post("/hooks/github", raw, {**github(raw), "X-GitHub-Event": event})

    async def ours(self, body: Any, id: str = "msg_1") -> Post:
        raw = json.dumps(body).encode()
        return await self.post("/hooks/ours", raw, standard(raw, id, self.now))

    async def orders(self, carrier: str) -> list[Order]:
        return [row.order for row in await self.store.launch_orders.listed(OrderQuery(carrier=carrier))][::-1]

    async def dead(self, sink: str) -> list[str]:
        return [row.reason for row in await self.store.outbox.deliveries(state="dead", sink=sink)]


def github(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def stripe(body: bytes, at: float, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={int(at)},v1={'0' * 64},v1={digest},v0=x"}


def standard(body: bytes, id: str, at: float, key: str = KEY) -> dict[str, str]:
    signed = f"{id}.{int(at)}.".encode() + body
    digest = base64.b64encode(hmac.new(base64.b64decode(key), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": str(int(at)), "webhook-signature": f"v1a,x v1,{digest}"}


async def test_a_request_starts_work() -> None:
    """A signed request is stored, answered, and then becomes an order for the launcher with texts of its
    body.
    """
    app = App()
    body = {
        "action": "labeled",
        "label": {"name": "agent-fix"},
        "issue": {"title": "The till {id} is stuck", "labels": [{"name": "bug"}]},
        "repository": {"full_name": "acme/shop"},
    }
    answer = await app.github(body)
    assert (answer.status, answer.body["status"]) == (202, "taken")
    assert await app.orders("launch:fix") == []
    assert await app.dispatcher.drain(60)
    [order] = await app.orders("launch:fix")
    assert (order.text, order.parameters) == ("Work on The till {id} is stuck", {"repo": "acme/shop", "first": "bug"})
    assert (order.source, order.by, order.tenant) == ("hook", "github", "default")


async def test_the_same_request_counts_once() -> None:
    """A replay is refused and a signed id is handled once, through any process."""
    app = App()
    first = await app.github({"action": "opened", "label": {"name": "agent"}})
    again = await app.github({"action": "opened", "label": {"name": "agent"}})
    assert (first.status, again.status, reason_of(again.body)) == (202, 409, "replayed")
    one = await app.ours({"question": "a"}, "msg_1")
    app.now += 1
    two = await app.ours({"question": "a"}, "msg_1")
    assert (one.status, two.status, two.body["status"]) == (202, 200, "known")
    raw = json.dumps({"id": "evt_1", "type": "paid"}).encode()
    sent = [await app.post("/hooks/stripe", raw, stripe(raw, app.now + i)) for i in range(2)]
    assert [one.status for one in sent] == [202, 200]
    await app.dispatcher.drain(60)
    assert len(await app.orders("launch:fix")) == 2


async def test_a_message_reaches_the_task() -> None:
    """A comment in another program becomes a message to the task that it names, from its author."""
    app = App()
    await app.store.record([at_work(attributes={"agent.task.id": "t-1"})])
    await app.github({"action": "created", "task": "t-1", "comment": {"body": "try main", "user": {"login": "alice"}}})
    await app.dispatcher.drain(60)
    [task] = await app.store.tasks(TaskQuery())
    [deed] = await app.store.interventions.deeds(task.uid, ["message"])
    assert (deed.text, deed.by) == ("try main", "alice")


async def test_a_decision_is_taken() -> None:
    """A request decides the question that it names, by its options alone; nonsense is recorded and decides
    nothing.
    """
    app = App()
    await app.store.record([at_work(), asking("a1"), asking("a2", "When?", index=1, options=["now", "later"])])
    await app.ours({"question": "a1", "answer": "deny", "why": "not today"}, "m1")
    await app.ours({"question": "a2", "answer": "approve"}, "m2")
    await app.ours({"question": "a2", "answer": "later"}, "m3")
    await app.ours({"question": "none", "answer": "approve"}, "m4")
    await app.ours({"answer": "approve"}, "m5")
    await app.dispatcher.drain(60)
    rows = {row.approval_id: row for row in await app.store.interventions.approvals(ApprovalQuery())}
    assert (rows["a1"].state, rows["a1"].decision, rows["a1"].by, rows["a1"].comment) == (
        InterventionState.DECIDED,
        "deny",
        "ours",
        "not today",
    )
    assert rows["a2"].decision == "later"
    assert sorted(await app.dead("hook:ours")) == ["no_answer", "no_question", "no_question"]


async def test_what_fails_is_kept_and_can_be_tried_again() -> None:
    """A request that cannot be understood is a dead letter with its reason, whole; after a correction it can
    be retried.
    """
    app = App()
    body = b"\xff\x00 no json"
    assert (await app.post("/hooks/github", body, github(body))).status == 202
    await app.github({"action": "created", "task": "t-1", "comment": {"body": "hello"}})
    await app.dispatcher.drain(60)
    assert sorted(await app.dead("hook:github")) == ["no_json", "no_task"]
    assert body in [order.body for order in await app.orders("hook:github")]
    await app.store.record([at_work(attributes={"agent.task.id": "t-1"})])
    await app.store.outbox.retry(sink="hook:github")
    await app.dispatcher.drain(60)
    assert await app.dead("hook:github") == ["no_json"]


async def test_what_meets_no_condition_does_nothing() -> None:
    """A request that matches no declaration is accepted, and has no effect."""
    app = App()
    assert (await app.github({"zen": "Keep it simple"}, "ping")).status == 202
    assert await app.dispatcher.drain(60)
    assert (await app.orders("launch:fix"), await app.dead("hook:github")) == ([], [])


async def test_what_is_not_proven_is_refused() -> None:
    """Without a valid signature, in time, of a known provider, by POST, nothing is stored; the answer says why."""
    app = App()
    body = b'{"action": "opened"}'
    right = github(body)
    tries = {
        "signature": (body + b" ", right),
        "unsigned": (body, {}),
    }
    for code, (sent, headers) in tries.items():
        answer = await app.post("/hooks/github", sent, headers)
        assert (answer.status, reason_of(answer.body)) == (401, code)
    assert (await app.post("/hooks/github", body, github(body, "another"))).status == 401
    assert (await app.post("/hooks/nobody", body, right)).status == 404
    assert (await app.post("/hooks/github", body, right, method="GET")).status == 405
    assert (await app.post("/hooks/github", b"x" * 10_001, right, parts=7)).status == 413
    assert (await app.post("/hooks/github", b"", {**right, "content-length": "9" * 30})).status == 413
    for at in (app.now - WINDOW - 2, app.now + WINDOW + 2):
        answer = await app.post("/hooks/ours", body, standard(body, "m", at))
        assert (answer.status, reason_of(answer.body)) == (401, "too_old")
    for at in ("", "soon", "-1", "9" * 40, "١٢"):
        answer = await app.post("/hooks/ours", body, standard(body, "m", app.now) | {"webhook-timestamp": at})
        assert answer.status == 401
    assert await app.store.launch_orders.listed(OrderQuery()) == []


async def test_what_cannot_be_stored_is_asked_for_again() -> None:
    """While the store is down the sender gets a Retry-After, and the repeat is then no replay."""
    app = App()
    place = app.store.launch_orders.place

    async def away(*_: Any, **__: Any) -> Taken:
        raise StoreUnavailable("away")

    app.store.launch_orders.place = away  # type: ignore[method-assign]
    assert (await app.github({"action": "opened"})).status == 503
    app.store.launch_orders.place = place  # type: ignore[method-assign]
    assert (await app.github({"action": "opened"})).status == 202


async def test_twenty_at_once_are_one() -> None:
    """The same request sent twenty times at once is stored once."""
    app = App()
    answers = await asyncio.gather(*(app.github({"action": "opened", "label": {"name": "agent"}}) for _ in range(20)))
    assert sorted(one.status for one in answers) == [202, *[409] * 19]


def test_a_declared_scheme() -> None:
    """A custom scheme is a declaration; an old secret is valid beside the new one."""
    made = settings(other={"scheme": "github", "secret": "another that is new", "old_secret": SECRET})
    own = Hooks(made, MemoryStore(), lambda _: None).providers["own"]
    signed = base64.b64encode(hmac.new(SECRET.encode(), b"1700000000:x", hashlib.sha256).digest()).decode()
    assert prove(own.scheme, {"x-sig": signed, "x-at": "1700000000"}, b"x", own.keys, NOW) == Proven(signature=signed)
    other = Hooks(made, MemoryStore(), lambda _: None).providers["other"]
    lowered = {name.lower(): value for name, value in github(b"x").items()}
    assert prove(other.scheme, lowered, b"x", other.keys, NOW)


def test_the_standards_own_library_agrees() -> None:
    """A signature by the receivers' library is valid, and with one byte changed it is not."""
    standardwebhooks = pytest.importorskip("standardwebhooks")
    body = '{"é": 1}'
    signature = standardwebhooks.Webhook(KEY).sign("msg_1", datetime.fromtimestamp(NOW, UTC), body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(NOW)), "webhook-signature": signature}
    keys = [base64.b64decode(KEY)]
    assert prove(SCHEMES["standard"], headers, body.encode(), keys, NOW).id == "msg_1"
    with pytest.raises(WebhookRefused):
        prove(SCHEMES["standard"], headers | {"webhook-id": "msg_2"}, body.encode(), keys, NOW)


@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature"]), st.text()
    ),
    st.binary(),
)
def test_nothing_raises(headers: dict[str, str], body: bytes) -> None:
    """Any request is refused without an exception."""
    for scheme in SCHEMES.values():
        with pytest.raises(WebhookRefused):
            prove(scheme, headers, body, [b"key"], NOW)


@given(
    st.binary(), st.sampled_from(["application/json", "application/x-www-form-urlencoded", ""]), st.text(max_size=40)
)
def test_no_body_and_no_template_raises(body: bytes, kind: str, template: str) -> None:
    """Any bytes are a document or none, and any template is filled from it."""
    document = document_of({"content-type": kind}, body)
    assert isinstance(render(template, document or {}), str)


def test_a_form_holds_the_json() -> None:
    """GitHub's other form, a field `payload`, is read as the JSON that it holds."""
    document = document_of({"content-type": "application/x-www-form-urlencoded"}, b"payload=%7B%22a%22%3A+1%7D")
    assert document is not None
    assert document["a"] == 1


async def test_a_provider_has_its_own_window_and_unit_of_time() -> None:
    """A time in milliseconds is read as such, and a provider's requests are accepted for its own window."""
    signature = {"signature_header": "X-Sig", "timestamp_header": "X-At", "timestamp_unit": "ms"}
    made = settings(slow={"signature": signature, "secret": SECRET, "window": 900})
    app = App(made)

    async def sent(at: float) -> Post:
        said = str(int(at * 1_000))
        digest = hmac.new(SECRET.encode(), f"{said}.{{}}".encode(), hashlib.sha256).hexdigest()
        return await app.post("/hooks/slow", b"{}", {"X-Sig": digest, "X-At": said})

    answers = [await sent(app.now + away) for away in (0, -899, 899, -901, 901)]
    assert [answer.status for answer in answers] == [202, 202, 202, 401, 401]
    assert {reason_of(answer.body) for answer in answers[3:]} == {"too_old"}
    seconds = str(int(app.now))
    digest = hmac.new(SECRET.encode(), f"{seconds}.{{}}".encode(), hashlib.sha256).hexdigest()
    assert (await app.post("/hooks/slow", b"{}", {"X-Sig": digest, "X-At": seconds})).status == 401


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"scheme": "github", "secret": SECRET, "window": 1_801}, "window"),
        ({"secret": "x"}, "either scheme or signature"),
        ({"scheme": "standard", "secret": "canary!"}, "base64"),
        ({"scheme": "standard", "secret": "whsec_Y2FuYXJ5"}, "16 bytes at least"),
        ({"scheme": "github", "secret": ""}, "16 bytes at least"),
        ({"scheme": "github", "secret": "canary"}, "16 bytes at least"),
        ({"scheme": "slack", "secret": SECRET, "old_secret": "canary"}, "old_secret: must have 16 bytes"),
        ({"scheme": "github", "secret": SECRET, "does": [{"start": "fix", "task": "{a}"}]}, "one thing"),
        ({"scheme": "github", "secret": SECRET, "does": [{"start": "fix", "text": "{a"}]}, "brace"),
        ({"scheme": "github", "secret": SECRET, "does": [{"approval": "{a}"}]}, "together"),
        ({"signature": {"signature_header": "x", "signed": "{body}{body}"}, "secret": SECRET}, "body"),
        ({"signature": {"signature_header": "x"}, "secret": SECRET}, "timestamp"),
    ],
)
def test_mistakes_are_refused(said: dict[str, Any], message: str) -> None:
    """An invalid declaration is refused at the start, without its secret."""
    with pytest.raises(ConfigError, match=message) as raised:
        settings(wrong=said)
    assert "canary" not in str(raised.value)


def test_a_launcher_that_is_not_there_is_refused() -> None:
    """A declaration that names an unknown launcher is refused at the start."""
    made = settings(wrong={"scheme": "github", "secret": SECRET, "does": [{"start": "none"}]})
    with pytest.raises(ConfigError, match="no launcher 'none'"):
        Hooks(made, MemoryStore(), lambda _: None)
