"""The apprise sink with apprise's own json:// service, and a real server on this machine."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("spanpost_apprise", reason="plugins/spanpost-apprise is not installed")

from spanpost import ConfigError, DeliveryError, DeliveryUncertain, Rejected
from spanpost.model.checkpoints import Kind
from spanpost.model.readings import Failure
from spanpost.routing.routes import Verbosity
from spanpost.runtime.assembly import open_sinks, rules_of
from spanpost.settings import load
from spanpost.testing.exercise_sink import CHECKS
from spanpost.testing.http import HttpAnswer, HttpReceiver
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task
from spanpost_apprise.render import notification
from spanpost_apprise.settings import AppriseSettings
from spanpost_apprise.sink import AppriseSink

README = Path(__file__).parent.parent / "README.md"


def _url(receiver: HttpReceiver, path: str = "") -> str:
    return receiver.url.replace("http://", "json://") + path


def _sink(**urls: str) -> AppriseSink:
    return AppriseSink(AppriseSettings(urls=urls))


def _end(**fields: object):
    task = a_task(
        status="error", ended_at=NOON + timedelta(minutes=3), error=Failure(type="Timeout", message="no answer")
    )
    return a_delivery(
        task, a_checkpoint(task, kind=Kind.END, status="error", text="It failed"), sink="apprise", **fields
    )


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
async def test_it_behaves_as_a_sink(check):
    """The sink passes the suite for all sinks."""
    async with HttpReceiver() as receiver:
        await check(lambda: _sink(ops=_url(receiver)))


async def test_a_person_reads_what_happened():
    """An end has a title, the reason, figures and the type that colours it."""
    async with HttpReceiver() as receiver:
        await _sink(ops=_url(receiver, "/in")).deliver(_end())
    (post,) = receiver.posted
    body = json.loads(post.body)
    assert (post.path, body["title"], body["type"]) == ("/in", "❌ Quarterly report: failed", "failure")
    figures = "reporter · 18.4k in · 1.2k out · $0.04 · 3 min 00 s"
    assert body["message"].splitlines() == ["It failed", "no answer", figures]


async def test_a_state_is_not_sent():
    """A state, which cannot be edited, is not sent at each change."""
    async with HttpReceiver() as receiver:
        receipt = await _sink(ops=_url(receiver)).deliver(a_delivery(sink="apprise"))
    assert receipt.skipped
    assert receiver.posted == []


async def test_an_address_names_a_service():
    """A route's address notifies that service alone; without one all are; an unknown one is refused for
    good.
    """
    async with HttpReceiver() as receiver:
        sink = _sink(ops=_url(receiver, "/ops"), dev=_url(receiver, "/dev"))
        await sink.deliver(_end(address="dev"))
        assert [post.path for post in receiver.posted] == ["/dev"]
        await sink.deliver(_end(key="another"))
        assert sorted(post.path for post in receiver.posted[1:]) == ["/dev", "/ops"]
        with pytest.raises(Rejected) as refused:
            await sink.deliver(_end(address="nobody"))
    assert refused.value.reason == "address"


async def test_a_retry_spares_those_that_have_it():
    """After a partial failure the next attempt notifies only the services that failed."""
    async with HttpReceiver([HttpAnswer(status=500)]) as bad, HttpReceiver() as good:
        sink = _sink(bad=_url(bad), good=_url(good))
        with pytest.raises(DeliveryUncertain, match="not taken by bad"):
            await sink.deliver(_end())
        assert await sink.reconcile([_end(id=7)]) == {7: None}
        await sink.deliver(_end(attempt=2))
    assert (len(bad.posted), len(good.posted)) == (2, 1)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("@everyone look", "@\u200beveryone look"),
        ("<!channel> <@U1> <#C1>", "<\u200b!channel> <\u200b@\u200bU1> <\u200b#C1>"),
        ("a@example.com 1 < 2", "a@example.com 1 < 2"),
    ],
)
def test_nobody_is_mentioned(said, shown):
    """Text from an agent mentions nobody; an address stays whole."""
    drawn = notification(a_task(name=said), a_checkpoint(text=said))
    assert drawn.body.splitlines()[0] == shown
    assert drawn.title.endswith(f"{shown}: checkpoint")


@pytest.mark.usefixtures("settings_alone")
def test_it_is_quiet_by_default():
    """Without a route only ends and questions are sent; a route without a verbosity inherits that, another
    sets its own.
    """
    urls = {"ops": "json://localhost"}
    route = {"sink": "apprise", "topic": "deploy"}
    settings = load(apprise={"urls": urls}, routes=[route, route | {"verbosity": "live"}])
    assert [one.verbosity for one in rules_of(settings).routes.routes] == [
        Verbosity.FINAL,
        Verbosity.LIVE,
        Verbosity.FINAL,
    ]


@pytest.mark.usefixtures("settings_alone")
@pytest.mark.parametrize("url", ["canary://host", "canary", "tgram://canary"])
def test_an_unknown_service_is_refused(url):
    """An address that apprise cannot use stops the start, with its name and without its address."""
    with pytest.raises(ConfigError, match=r"apprise\.urls\.ops: apprise knows no such service") as refused:
        open_sinks(load(apprise={"urls": {"ops": url}}))
    assert "canary" not in str(refused.value)


async def test_no_address_is_shown(caplog):
    """No part of an address is in a log record down to DEBUG, in an error or in the settings' text."""
    caplog.set_level(logging.DEBUG)
    async with HttpReceiver([HttpAnswer(), HttpAnswer(status=500), HttpAnswer(resets=True)]) as receiver:
        url = _url(receiver, "/canary-path?+X-Key=canary-header")
        shown_texts = [repr(AppriseSettings(urls={"ops": url})), AppriseSettings(urls={"ops": url}).model_dump_json()]
        sink = _sink(ops=url)
        for n in range(3):
            try:
                await sink.deliver(_end(key=str(n)))
            except DeliveryError as error:
                shown_texts.append(repr(error))
    assert len(receiver.posted) == 3
    shown_texts += [f"{record.getMessage()} {record.args!r}" for record in caplog.records]
    assert [text for text in shown_texts if "canary" in text] == []


async def test_others_may_log(caplog):
    """Log lines of the application through the same loggers are unchanged."""
    caplog.set_level(logging.DEBUG)
    _sink(ops="json://localhost")
    logging.getLogger("urllib3.connectionpool").debug("the application's own")
    assert "the application's own" in caplog.text


def test_every_setting_stands_in_the_readme():
    """The README's table names each setting with its variable, and no other."""
    listed = re.findall(r"^\| `(\w+)` \| `SPANPOST_APPRISE__(\w+)`", README.read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == set(AppriseSettings.model_fields)
    assert [variable.lower() for _, variable in listed] == [name for name, _ in listed]
