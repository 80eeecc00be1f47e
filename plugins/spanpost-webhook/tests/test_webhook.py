"""The webhook with a real server on this machine: its posts, the meaning of answers, and its secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

pytest.importorskip("spanpost_webhook", reason="plugins/spanpost-webhook is not installed")
standardwebhooks = pytest.importorskip("standardwebhooks")

import spanpost  # noqa: E402
from spanpost import ConfigError, DeliveryError, DeliveryUncertain, Receipt, Rejected, Throttled, Unavailable  # noqa: E402
from spanpost.model.checkpoints import Kind  # noqa: E402
from spanpost.settings import load  # noqa: E402
from spanpost.testing.exercise_launcher import CHECKS as LAUNCHER_CHECKS  # noqa: E402
from spanpost.testing.exercise_launcher import an_order  # noqa: E402
from spanpost.testing.exercise_sink import CHECKS, a_hostile_task  # noqa: E402
from spanpost.testing.http import HttpAnswer, HttpReceiver  # noqa: E402
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task  # noqa: E402
from spanpost_webhook.launcher import WebhookLauncher  # noqa: E402
from spanpost_webhook.payload import body_of, id_of  # noqa: E402
from spanpost_webhook.post import DEFAULT_RETRY_AFTER, retry_after  # noqa: E402
from spanpost_webhook.settings import WebhookLauncherSettings, WebhookSettings  # noqa: E402
from spanpost_webhook.sink import WebhookSink  # noqa: E402

OLD = "whsec_" + base64.b64encode(b"old canary key, 32 bytes of it!!").decode()
NEW = "whsec_" + base64.b64encode(b"new canary key, 32 bytes of it!!").decode()
README = Path(__file__).parent.parent / "README.md"


def _sink(url: str, **fields: object) -> WebhookSink:
    return WebhookSink(WebhookSettings(url=url, secret=NEW, **fields))


def _delivery(key: str = "c1", **fields: object):
    task = a_task()
    return a_delivery(task, a_checkpoint(task, key), sink="webhook", **fields)


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=pytest.mark.slow) if c.__name__ == "it_takes_hostile_text" else c for c in CHECKS],
    ids=lambda c: c.__name__,
)
@pytest.mark.parametrize("states", [False, True], ids=["checkpoints", "states"])
async def test_it_behaves_as_a_sink(check, states):
    """The webhook passes the suite for all sinks."""
    async with HttpReceiver() as receiver:
        await check(lambda: _sink(receiver.url, states=states))


async def test_a_receiver_verifies_the_signature():
    """The receivers' own library accepts a post, and refuses it with one byte changed."""
    async with HttpReceiver() as receiver:
        sink = _sink(f"{receiver.url}/hook?a=1")
        await sink.deliver(_delivery())
        await sink.close()
    (post,) = receiver.posted
    assert (post.method, post.path, post.headers["content-type"]) == ("POST", "/hook?a=1", "application/json")
    body = standardwebhooks.Webhook(NEW).verify(post.body, post.headers)
    assert body["type"] == "task.checkpoint"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(post.body.replace(b"Quarterly", b"quarterly"), post.headers)


async def test_both_keys_sign_during_a_rotation():
    """With an old key set, receivers with either key accept the signature; a third key does not."""
    async with HttpReceiver() as receiver:
        sink = _sink(receiver.url, old_secret=OLD)
        await sink.deliver(_delivery())
        await sink.close()
    (post,) = receiver.posted
    for secret in (OLD, NEW):
        assert standardwebhooks.Webhook(secret).verify(post.body, post.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(base64.b64encode(b"x" * 32).decode()).verify(post.body, post.headers)


async def test_the_body_is_the_public_form():
    """The body has tenant, address, task and checkpoint, the latter two as `spanpost replay --json` prints
    them.
    """
    from spanpost.tasks.json_form import checkpoint_json, task_json

    delivery = _delivery(address="deploys")
    body = json.loads(body_of(delivery))
    assert body == {
        "type": "task.checkpoint",
        "timestamp": "2026-03-02T12:00:30Z",
        "data": {
            "tenant": "default",
            "address": "deploys",
            "task": task_json(delivery.task),
            "checkpoint": checkpoint_json(delivery.checkpoint, delivery.task.task_id),
        },
    }


def test_any_text_gives_json():
    """Lone surrogates, invalid numbers and agents' secrets are removed, and the body is strict JSON."""
    task = a_hostile_task("\ud800 token xoxb-" + "1234567890-abcdefghij")
    body = body_of(a_delivery(task, a_checkpoint(task, text="\ud800"), sink="webhook"))
    assert (
        json.loads(body, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))["data"]["task"]["progress"]
        is None
    )
    assert b"abcdefghij" not in body


async def test_a_retry_keeps_its_id():
    """Every attempt of one delivery has one `webhook-id`, whatever its time; another delivery has another."""
    async with HttpReceiver([HttpAnswer(status=500), HttpAnswer()]) as receiver:
        sink = _sink(receiver.url)
        with pytest.raises(DeliveryUncertain):
            await sink.deliver(_delivery())
        await sink.deliver(_delivery(attempt=2, is_unknown=True))
        await sink.deliver(_delivery("c2"))
        await sink.close()
    ids = [post.headers["webhook-id"] for post in receiver.posted]
    assert ids[0] == ids[1] != ids[2]
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", one) for one in ids)


def test_a_state_that_returns_is_no_repeat():
    """A task that goes working, waiting, working posts three ids; a second attempt of one state repeats its
    id.
    """
    working = a_delivery(a_task(), sink="webhook")
    first = id_of(working, body_of(working))
    waiting = a_delivery(a_task(status="waiting"), sink="webhook", message_receipt=Receipt(ref={"id": first}))
    second = id_of(waiting, body_of(waiting))
    again = a_delivery(a_task(), sink="webhook", message_receipt=Receipt(ref={"id": second}))
    assert len({first, second, id_of(again, body_of(again))}) == 3
    assert id_of(again, body_of(again)) == id_of(again, body_of(again))


async def test_states_are_posted_where_asked_for():
    """By default a state is skipped with that outcome; with `states` it is posted as task.state."""
    async with HttpReceiver() as receiver:
        quiet, with_states = _sink(receiver.url), _sink(receiver.url, states=True)
        assert (await quiet.deliver(a_delivery(sink="webhook"))).skipped
        assert not (await with_states.deliver(a_delivery(sink="webhook"))).skipped
        await quiet.close()
        await with_states.close()
    assert [json.loads(post.body)["type"] for post in receiver.posted] == ["task.state"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (HttpAnswer(status=410), Rejected, "gone"),
        (HttpAnswer(status=400), Rejected, "refused"),
        (HttpAnswer(status=401), Rejected, "refused"),
        (HttpAnswer(status=404), Rejected, "refused"),
        (HttpAnswer(status=302, headers={"location": "/elsewhere"}), Rejected, "redirect"),
        (HttpAnswer(status=408), Unavailable, "busy"),
        (HttpAnswer(status=409), Unavailable, "busy"),
        (HttpAnswer(status=425), Unavailable, "busy"),
        (HttpAnswer(status=429, headers={"retry-after": "7"}), Throttled, "throttled"),
        (HttpAnswer(status=503, headers={"retry-after": "7"}), Throttled, "throttled"),
        (HttpAnswer(status=503), Unavailable, "busy"),
        (HttpAnswer(status=500), DeliveryUncertain, "server"),
        (HttpAnswer(status=504), DeliveryUncertain, "server"),
        (HttpAnswer(resets=True), DeliveryUncertain, "reset"),
        (HttpAnswer(hangs=True), DeliveryUncertain, "timeout"),
    ],
    ids=lambda value: str(getattr(value, "status", "")) if isinstance(value, HttpAnswer) else "",
)
async def test_what_an_answer_means(answer, kind, reason):
    """Each answer, and each missing one, is one error with its reason; the sink itself posts nothing a
    second time.
    """
    async with HttpReceiver([answer]) as receiver:
        sink = _sink(receiver.url, timeout=timedelta(seconds=0.3) if answer.hangs else timedelta(seconds=10))
        with pytest.raises(DeliveryError) as raised:
            await sink.deliver(_delivery())
        await sink.close()
    assert (type(raised.value), raised.value.reason) == (kind, reason)
    assert len(receiver.posted) == 1
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == timedelta(seconds=7)


async def test_nobody_listening_is_unavailable():
    """A refused connection means that nothing arrived."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    sink = _sink(f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable) as raised:
        await sink.deliver(_delivery())
    await sink.close()
    assert raised.value.reason == "connect"


@pytest.mark.parametrize("answer", [HttpAnswer(drips=True), HttpAnswer(body=b"x" * 5_000_000)], ids=["drips", "long"])
async def test_an_answer_is_bounded(answer):
    """A body that never ends, or is huge, neither exceeds the sink's timeout nor undoes the 200."""
    async with HttpReceiver([answer]) as receiver:
        sink = _sink(receiver.url, timeout=timedelta(seconds=0.5))
        async with asyncio.timeout(60):
            assert (await sink.deliver(_delivery())).ref["id"] == receiver.posted[0].headers["webhook-id"]
        await sink.close()


async def test_what_may_have_arrived_is_posted_again():
    """Reconciling returns that nothing arrived: the receiver drops duplicates by their id."""
    sink = _sink("https://hooks.example.com")
    assert await sink.reconcile([_delivery(id=3), _delivery("c2", id=4)]) == {3: None, 4: None}
    await sink.close()


@pytest.mark.slow
@pytest.mark.usefixtures("settings_alone")
async def test_a_lost_answer_loses_no_checkpoint():
    """With a real pipeline and a receiver that disconnects, fails and throttles, each checkpoint arrives
    once, in order.
    """
    answers = [
        HttpAnswer(resets=True),
        HttpAnswer(status=500),
        HttpAnswer(status=429, headers={"retry-after": "0"}),
        HttpAnswer(),
    ]

    def work(url: str) -> bool:
        provider = TracerProvider()
        pipeline = spanpost.attach(tracer_provider=provider, webhook={"url": url, "secret": NEW})
        with provider.get_tracer("test").start_as_current_span(
            "invoke_agent", attributes={"agent.task.name": "Upgrade"}
        ) as span:
            span.add_event("agent.checkpoint", {"agent.action": "Reading"})
        is_flushed = pipeline.force_flush(60)
        return pipeline.shutdown(5) and is_flushed

    async with HttpReceiver(answers) as receiver:
        assert await asyncio.to_thread(work, receiver.url)
    first, *rest = [(post.headers["webhook-id"], json.loads(post.body)["type"]) for post in receiver.posted]
    assert [first] * 3 == rest[:3]
    assert [kind for _, kind in [first, *rest[3:]]] == ["task.start", "task.checkpoint", "task.end"]
    assert len({one for one, _ in [first, *rest]}) == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(seconds=120)),
        ("Thu, 01 Jan 1970 00:03:00 GMT", timedelta(seconds=80)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", timedelta(0)),
        (None, DEFAULT_RETRY_AFTER),
        ("soon", DEFAULT_RETRY_AFTER),
        ("-5", DEFAULT_RETRY_AFTER),
        ("9" * 400, DEFAULT_RETRY_AFTER),
    ],
)
def test_retry_after(value, expected):
    """Seconds and dates are understood; anything else gives the default."""
    assert retry_after(value, now=100.0) == expected


@pytest.mark.usefixtures("settings_alone")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, r"webhook\.url: field required; mend SPANPOST_WEBHOOK__URL or \[webhook\] in spanpost\.toml"),
        ({"url": "http://hooks.example.com/canary"}, r"webhook\.url: must be https, or http to this machine"),
        ({"url": "https://canary:canary@hooks.example.com"}, r"webhook\.url: must hold no user or password"),
        ({"url": "ftp://canary"}, r"webhook\.url: must begin with https://"),
        ({"url": "https://canary:port"}, r"webhook\.url: is not a URL"),
        ({"secret": "canary"}, r"webhook\.secret: must be whsec_ and base64"),
        ({"secret": "whsec_Y2FuYXJ5"}, r"webhook\.secret: must hold 24 to 64 bytes"),
        ({"old_secret": "canary"}, r"webhook\.old_secret: must be whsec_"),
        ({"token": "canary\r\nX: y"}, r"webhook\.token: must be one line of ASCII"),
        ({"timeout": 60}, r"webhook\.timeout: .*25"),
        ({"ulr": "x"}, r"webhook\.ulr: there is no such setting \(did you mean url\?\)"),
    ],
)
def test_wrong_settings_are_refused(fields, says):
    """Each mistake is reported with its field and the next step, and no part of a secret."""
    with pytest.raises(ConfigError, match=says) as refused:
        load(webhook=fields)
    assert "canary" not in str(refused.value)


def test_what_only_the_client_refuses():
    """An address that the HTTP client cannot read stops the start, without being shown."""
    with pytest.raises(ConfigError, match=r"^webhook\.url: is not a URL; mend") as refused:
        _sink("https://hooks.example.com/canary\x7f")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/a", "http://localhost:8000", "http://127.8.0.1/", "http://[::1]:9/x"]
)
def test_https_or_this_machine(url):
    """Plain http is for this machine alone."""
    assert WebhookSettings(url=url, secret=NEW).url.get_secret_value() == url


async def test_no_secret_is_shown(caplog):
    """Neither keys, token nor URL are in a log record down to DEBUG, in an error, or in the settings' text."""
    caplog.set_level(logging.DEBUG)
    shown = []
    async with HttpReceiver([HttpAnswer(status=500), HttpAnswer(status=302), HttpAnswer(resets=True)]) as receiver:
        sink = _sink(f"{receiver.url}/canary-path", old_secret=OLD, token="canary-token")
        shown.append(repr(sink._settings) + sink._settings.model_dump_json())
        for _ in range(4):
            try:
                await sink.deliver(_delivery())
            except DeliveryError as error:
                shown.append(f"{error!r} {error.__cause__!r}")
        await sink.close()
    assert receiver.posted[0].headers["authorization"] == "Bearer canary-token"
    for text in [*shown, *(f"{record.getMessage()} {record.args!r}" for record in caplog.records)]:
        for canary in ("canary", OLD, NEW, OLD.removeprefix("whsec_"), NEW.removeprefix("whsec_")):
            assert canary not in text


def test_every_setting_stands_in_the_readme():
    """The README's table names each setting with its variable, and no other."""
    listed = re.findall(r"^\| `(\w+)` \| `SPANPOST_WEBHOOK__(\w+)`", README.read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == set(WebhookSettings.model_fields)
    assert [variable.lower() for _, variable in listed] == [name for name, _ in listed]


def test_every_kind_stands_in_the_readme():
    """The README names each kind of checkpoint that a `type` can hold."""
    assert {kind for kind in Kind if f"`{kind}`" not in README.read_text()} == set()


@pytest.mark.slow
@pytest.mark.parametrize("check", LAUNCHER_CHECKS, ids=lambda c: c.__name__)
async def test_it_behaves_as_a_launcher(check):
    """As a launcher the webhook passes the suite for all launchers."""
    async with HttpReceiver() as receiver:
        await check(lambda: WebhookLauncher("ci", WebhookLauncherSettings(url=receiver.url, secret=NEW)))


async def test_an_order_is_verified_by_its_receiver():
    """The receivers' own library accepts an order, whose id is the same in each attempt."""
    async with HttpReceiver() as receiver:
        launcher = WebhookLauncher("ci", WebhookLauncherSettings(url=receiver.url, secret=NEW))
        for _ in range(2):
            await launcher.launch(an_order(text="Fix ✂"))
        await launcher.close()
    first, second = receiver.posted
    body = standardwebhooks.Webhook(NEW).verify(first.body, first.headers)
    assert (body["type"], body["data"]["text"], body["data"]["retry_of"]) == ("order.launch", "Fix ✂", "task-1")
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"order_{an_order().id.hex}"
