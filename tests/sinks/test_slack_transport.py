"""The connection to Slack, over real sockets to a fake Slack with scripted faults."""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import timedelta

import pytest

from spanpost.model.errors import ConfigError, DeliveryError, DeliveryRefused, DeliveryUncertain, Throttled, Unavailable
from spanpost.sinks.slack.calls import SlackPlace, SlackRequest
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi, proxy_for
from spanpost.testing.exercise_sink import CHECKS
from spanpost.testing.fake_slack import FakeSlack, Fault
from spanpost.testing.http import HttpAnswer, HttpReceiver
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task
from tests.eventually import free_port

SECRET = "xoxb-1234567890-canary-of-this-test"
#: For what never answers; and for answers, however slow the machine is.
SHORT, PATIENT = timedelta(seconds=0.4), timedelta(seconds=60)
POST = SlackRequest(method="chat.postMessage", arguments={"channel": "#agents", "text": "hello"})


def sink_of(slack: FakeSlack, timeout: timedelta = PATIENT, **fields) -> SlackSink:
    return SlackSink(transport=WebApi(slack.token, base_url=slack.url, timeout=timeout), **fields)


@pytest.fixture
async def slack():
    async with FakeSlack() as fake:
        yield fake


async def failure(sink: SlackSink, delivery=None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sink.deliver(delivery or a_delivery(sink="slack"))
    return caught.value


async def test_a_task_is_posted_edited_and_replied_to(slack):
    """A task is one root message, edited in place, with its checkpoints in its thread, all of them marked."""
    sink = sink_of(slack)
    root = await sink.deliver(a_delivery(sink="slack"))
    receipt = await sink.deliver(a_delivery(a_task(), a_checkpoint(), sink="slack", message_receipt=root))
    await sink.deliver(a_delivery(a_task(status="complete"), sink="slack", message_receipt=root))
    await sink.close()
    [message] = slack.messages()
    assert message["ts"] == root.ref["ts"]
    assert message["edits"] == 1
    assert message["metadata"]["event_payload"] == {"k": "slack||" + str(a_task().uid), "g": 0}
    [reply] = slack.thread(message["ts"])
    assert reply["ts"] == receipt.ref["ts"]
    assert {asked.became for asked in slack.asked} == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
async def test_it_is_a_sink(slack, check):
    """Posting for real, the sink passes the suite for all sinks, and Slack accepts all its calls."""
    await check(lambda: sink_of(slack))
    assert {asked.became for asked in slack.asked} <= {"ok", "thread_not_found"}


@pytest.mark.slow
@pytest.mark.proves("in-doubt", "slack-answer-lost")
@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
@pytest.mark.parametrize("fault", [f for f in Fault if f is not Fault.THROTTLE])
async def test_each_fault_is_doubt_and_is_sent_once(slack, fault, method):
    """Any fault after the request has left, before or after Slack acted, is unknown, with one request sent."""
    sink = sink_of(slack, SHORT if "hang" in fault.value else PATIENT)
    root = await sink.deliver(a_delivery(sink="slack")) if method == "chat.update" else None
    slack.faults.script(method, [fault])
    before = len(slack.calls(method))
    error = await failure(sink, a_delivery(a_task(status="complete"), sink="slack", message_receipt=root))
    await sink.close()
    assert type(error) is DeliveryUncertain
    assert error.reason
    assert len(slack.calls(method)) == before + 1
    if method == "chat.postMessage":
        assert len(slack.messages()) == fault.is_after


@pytest.mark.proves("retry-after", "slack-throttles")
async def test_a_retry_after_is_raised(slack):
    """429 raises Throttled with Slack's seconds and the method's rate limit; nothing happened."""
    slack.retry_after = 3
    slack.faults.script("chat.postMessage", [Fault.THROTTLE])
    sink = sink_of(slack)
    error = await failure(sink)
    await sink.close()
    assert isinstance(error, Throttled)
    assert error.retry_after == timedelta(seconds=3)
    assert error.closes == SlackPlace(channel="#agents").method("chat.postMessage")
    assert slack.messages() == []


@pytest.mark.parametrize("retry_after", ["2.5", "soon", "", "99999999999999999999999999999999999999"])
async def test_any_retry_after_is_taken(retry_after):
    """A fraction is accepted; a value that is no number counts as absent."""
    async with HttpReceiver([HttpAnswer(status=429, headers={"retry-after": retry_after})]) as receiver:
        api = WebApi(SECRET, base_url=receiver.url)
        response = await api.call(POST)
        await api.close()
    assert response.status == 429
    assert response.retry_after == (2.5 if retry_after == "2.5" else None)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:{port}/", "http://no-such-host.invalid/", "https://127.0.0.1:{plain}/"]
)
async def test_what_never_left_is_no_doubt(base_url):
    """After a refused connection, an unknown name, or a failed TLS handshake nothing was sent."""
    async with HttpReceiver() as receiver:
        url = base_url.format(port=free_port(), plain=receiver.url.rpartition(":")[2])
        api = WebApi(SECRET, base_url=url, timeout=SHORT)
        with pytest.raises(Unavailable) as caught:
            await api.call(POST)
        await api.close()
    assert caught.value.reason == "connect"
    assert receiver.posted == []


async def test_a_connection_that_is_never_made_is_no_doubt():
    """A connection that is not accepted times out before anything was sent."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # The backlog is filled, so that further connections hang as behind a firewall.
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        api = WebApi(SECRET, base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/", timeout=SHORT)
        with pytest.raises(Unavailable) as caught:
            await api.call(POST)
        await api.close()
        for each in waiting:
            each.close()
    assert caught.value.reason == "connect"


@pytest.mark.proves("one-message", "sender-frozen")
async def test_a_process_that_was_frozen_sends_nothing(slack, monkeypatch):
    """A process that wakes up after its time, and before the first byte was written, sends nothing."""
    api = WebApi(slack.token, base_url=slack.url)
    await api.call(SlackRequest(method="auth.test"))  # connected
    loop = asyncio.get_running_loop()
    times = iter([loop.time(), loop.time() + 11])
    started = loop.time
    monkeypatch.setattr(loop, "time", lambda: next(times, started() + 11))
    with pytest.raises(Unavailable):
        await api.call(POST)
    monkeypatch.undo()
    await api.close()
    assert slack.messages() == []


async def test_a_redirect_is_not_followed():
    """Slack sends no redirects: the token and the text stay here, and the error says what to check."""
    async with (
        HttpReceiver() as other,
        HttpReceiver([HttpAnswer(status=307, headers={"location": f"{other.url}/x"})]) as receiver,
    ):
        api = WebApi(SECRET, base_url=receiver.url)
        with pytest.raises(DeliveryRefused) as caught:
            await api.call(POST)
        await api.close()
    assert "SPANPOST_SLACK__BASE_URL" in caught.value.cure
    assert other.posted == []


@pytest.mark.proves("no-token-shown")
async def test_no_log_holds_a_token_or_a_text(slack, caplog):
    """At every level and logger, no log line has the token or a posted text, and no error has the token."""
    caplog.set_level(logging.DEBUG)
    for name in (
        "slack_sdk",
        "slack_sdk.web.async_client",
        "slack_sdk.web.async_slack_response",
        "aiohttp.client",
        "spanpost",
    ):
        logging.getLogger(name).setLevel(logging.DEBUG)
    slack.workspace.add_token(SECRET)
    slack.faults.script("chat.postMessage", [None, *[f for f in Fault if "hang" not in f.value]])
    sink = SlackSink(transport=WebApi(SECRET, base_url=slack.url, timeout=PATIENT))
    errors = []
    for i in range(len(Fault)):
        try:
            await sink.deliver(a_delivery(a_task(f"t{i}", name="CANARY-TEXT"), sink="slack"))
        except DeliveryError as error:
            errors += [str(error), repr(error.__cause__), repr(error.__context__)]
    await sink.close()
    said = [record.getMessage() for record in caplog.records] + errors
    assert len(errors) > 8
    assert [line for line in said if SECRET in line or "CANARY-TEXT" in line] == []


async def test_the_session_belongs_to_the_loop_that_runs():
    """A sink is made outside any loop; closed, or in another loop, it connects anew."""
    async with FakeSlack() as slack:
        api = WebApi(slack.token, base_url=slack.url)
        await api.call(POST)
        await api.close()
        await api.call(POST)
        await api.close()
        await api.close()
        assert len(slack.messages()) == 2


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://slack.com/api/", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://slack.com/api/", "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "https://slack.com/api/", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "slack.com"}, "https://slack.com/api/", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost,127.0.0.1"}, "http://127.0.0.1:4100/api/", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://slack.com/api/", None),
        ({"ALL_PROXY": "http://proxy:3128"}, "https://slack.com/api/", "http://proxy:3128"),
        ({"HTTPS_PROXY": " "}, "https://slack.com/api/", None),
    ],
)
def test_the_proxy_of_the_environment(environment, url, proxy, monkeypatch):
    """HTTPS_PROXY and its kind are used for their scheme, and NO_PROXY is respected."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


async def test_calls_go_through_the_proxy(monkeypatch):
    """Calls go through the proxy."""
    async with HttpReceiver([HttpAnswer(body=b'{"ok": true}', headers={"content-type": "application/json"})]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        api = WebApi(SECRET, base_url="http://slack.invalid/api/")
        response = await api.call(POST)
        await api.close()
    assert response.body == {"ok": True}
    assert proxy.posted[0].path == "http://slack.invalid/api/chat.postMessage"


def test_a_proxy_of_another_kind_is_refused(monkeypatch):
    """A SOCKS proxy is refused at the start, without its password."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@proxy:1080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ConfigError) as caught:
        WebApi(SECRET, base_url="https://slack.com/api/")
    assert "hunter2" not in str(caught.value)
