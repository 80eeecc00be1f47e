"""Figures of an end, queried from a Prometheus: once, with little time, and never delaying the end."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from spanpost.model.checkpoints import Kind
from spanpost.model.errors import ConfigError
from spanpost.runtime.assembly import rules_of
from spanpost.settings import load
from spanpost.sinks.outputs import AT_ONCE, PAUSE, Figures, OutputQuery, value_of
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task

ENDED = a_task(status="complete", started_at=NOON, ended_at=NOON + timedelta(minutes=10), agent_name="auto-ops")
P99 = OutputQuery(query='p99{agent="${agent}"}', compare=True, unit="ms")


class Prometheus:
    """Answers queries as Prometheus does, from a table by query and time; or with a given answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.values: dict[float, str] = {}
        self.status = 200
        self.hangs = False
        self._ends = asyncio.Event()
        self._comes = asyncio.Condition()

    async def __aenter__(self) -> Prometheus:
        app = web.Application()
        app.router.add_post("/api/v1/query", self._query)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ends.set()
        await self._runner.cleanup()

    async def has_asked(self, count: int) -> None:
        """Wait until that many queries have come."""
        async with asyncio.timeout(60), self._comes:
            await self._comes.wait_for(lambda: len(self.asked) >= count)

    async def _query(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.asked.append({key: str(value) for key, value in form.items()})
        async with self._comes:
            self._comes.notify_all()
        if self.hangs:
            await self._ends.wait()
        at = float(self.asked[-1]["time"])
        result = [{"metric": {}, "value": [at, self.values[at]]}] if at in self.values else []
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return web.Response(status=self.status, text=json.dumps(answer))


@pytest.fixture
async def prometheus():
    async with Prometheus() as server:
        server.values = {NOON.timestamp(): "840", (NOON + timedelta(minutes=10)).timestamp(): "310.5"}
        yield server


def test_money_has_its_currency_in_front():
    """A figure with a currency has two decimals and the currency in front, any other figure its unit behind."""
    money = OutputQuery(query="m", currency="$")
    assert [money.shown(value) for value in (4820.11, 12_345_678.5, -3.0)] == ["$4,820.11", "$12,345,678.50", "-$3.00"]
    assert P99.shown(310.5) == "310.5"


async def test_a_figure_before_and_after_stands_with_the_end(prometheus):
    """The end's reply shows the answers; a second attempt of the same delivery does not query again."""
    async with FakeSlack() as slack:
        sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url))
        sink.figured(Figures(prometheus.url, {"checkout p99": P99}))
        state = await sink.deliver(a_delivery(ENDED, sink="slack"))
        end = a_delivery(
            ENDED, a_checkpoint(ENDED, kind=Kind.END, status="complete"), sink="slack", message_receipt=state
        )
        receipt = await sink.deliver(end)
        await sink.deliver(end)
        assert receipt.ref["figures"] == ["checkout p99 840 → 310.5 ms"]
        assert "checkout p99 840 → 310.5 ms" in json.dumps(
            slack.thread(state.ref["ts"])[0]["blocks"], ensure_ascii=False
        )
        assert [asked["query"] for asked in prometheus.asked] == ['p99{agent="auto-ops"}'] * 2
        await sink.close()


async def test_who_is_away_is_not_asked_for_a_while(prometheus):
    """After a time-out or an error of the server there are no queries for a minute, and ends go without."""
    clock = [0.0]
    figures = Figures(prometheus.url, {"checkout p99": P99}, timeout=0.2, clock=lambda: clock[0])
    prometheus.hangs = True
    assert await figures.of(ENDED, "one") == ()
    asked = len(prometheus.asked)
    assert await figures.of(ENDED, "two") == ()
    assert len(prometheus.asked) == asked
    prometheus.hangs, clock[0] = False, PAUSE + 1
    assert await figures.of(ENDED, "two") == ("checkout p99 840 → 310.5 ms",)
    prometheus.status = 503
    assert await figures.of(ENDED, "three") == ()


async def test_many_ends_do_not_wait_for_one_another(prometheus):
    """While a few ends wait for their figures, the next goes without, at once."""
    figures = Figures(prometheus.url, {"checkout p99": P99}, timeout=30)
    prometheus.hangs = True
    waiting = [asyncio.create_task(figures.of(ENDED, str(i))) for i in range(AT_ONCE)]
    await prometheus.has_asked(AT_ONCE)
    assert await figures.of(ENDED, "late") == ()
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_is_not_known_is_left_out(prometheus):
    """Without a field of the task, or with an invalid value, there is no figure and no failure."""
    figures = Figures(
        prometheus.url, {"checkout p99": replace(P99, query="x{repo='${repo}'}"), "gone": OutputQuery(query="gone")}
    )
    prometheus.values = {}
    assert await figures.of(msgspec.structs.replace(ENDED, repo=None), "one") == ()
    assert [asked["query"] for asked in prometheus.asked] == ["gone"]


@given(st.text(max_size=40))
def test_a_field_cannot_leave_its_quotes(text):
    """Any name of an agent stays the text between the quotes of a query."""
    said = OutputQuery(query='m{agent="${agent}",b="1"}').of(msgspec.structs.replace(ENDED, agent_name=text or "x"))
    assert said is not None
    inner = said.removeprefix('m{agent="').removesuffix('",b="1"}')
    escaped = False
    for ch in inner:
        assert escaped or ch != '"'
        escaped = ch == "\\" and not escaped
    assert not escaped
    assert "\n" not in inner


@given(st.text(max_size=40))
def test_an_attribute_is_a_text_in_any_quotes(text):
    """An entity's attribute stays the text between the quotes that stand around it, of each kind."""
    task = msgspec.structs.replace(ENDED, attributes={"shop.dealer": text or "x"})
    for mark in "\"'`":
        said = OutputQuery(query=f"m{{dealer={mark}${{attributes.shop.dealer}}{mark},b=1}}").of(task)
        assert said is not None
        inner = said.removeprefix(f"m{{dealer={mark}").removesuffix(f"{mark},b=1}}")
        literal = inner if mark == "`" else re.sub(r"\\.", "", inner)
        assert mark not in literal
        assert mark == "`" or not ("\n" in literal or literal.endswith("\\"))


@given(st.text(alphabet=st.sampled_from("ab.*+?()|[]{}^$\\`'\"\n-"), min_size=1, max_size=20))
def test_an_attribute_matches_itself_alone(text):
    """After `=~` a value is no pattern: it matches itself, and an agent cannot read other entities' figures."""
    task = msgspec.structs.replace(ENDED, attributes={"dealer": text})
    said = OutputQuery(query='m{dealer=~"^${attributes.dealer}$"}').of(task)
    assert said is not None
    inner = said.removeprefix('m{dealer=~"^').removesuffix('$"}')
    pattern = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], inner)
    assert re.fullmatch(pattern, text)
    assert not re.fullmatch(pattern, f"{text}x")
    assert not re.fullmatch(pattern, "zz")


async def test_an_entity_has_its_figures_before_and_after(prometheus):
    """The attribute of the ended task names the entity whose figures are queried, at its start and at its end."""
    query = OutputQuery(query='p99{agent="${attributes.dealer}"}', compare=True)
    assert query.kept == {"dealer"}
    figures = Figures(prometheus.url, {"revenue": query})
    found = await figures.of(msgspec.structs.replace(ENDED, attributes={"dealer": "auto-ops"}), "one")
    assert found == ("revenue 840 → 310.5",)
    assert await figures.of(ENDED, "two") == ()


def test_tasks_keep_the_attributes_that_links_and_queries_name():
    """The rules of the fold name them, and no attribute that a task has a field for."""
    settings = load(
        slack={"links": {"x": "https://g.example/{attributes.dealer}/{attributes.agent.repo}"}},
        outputs={"url": "http://p", "queries": {"q": {"query": 'm{a="${attributes.shop.id}"}'}}},
    )
    assert rules_of(settings).attributes == {"dealer", "shop.id"}


@pytest.mark.slow
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(st.none() | st.booleans() | st.text() | st.floats(), st.lists).map(
            lambda v: json.dumps(v).encode()
        ),
    )
)
def test_any_answer_is_read(body):
    """An answer that is not Prometheus's is no value, and no failure."""
    assert value_of(body) is None or isinstance(value_of(body), float)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"queries": {"x": {"query": "up"}}}, "url"),
        ({"url": "ftp://x", "queries": {"x": {"query": "up"}}}, "http"),
        ({"url": "http://u:canary@x"}, "user"),
        ({"url": "http://x", "queries": {"x": {"query": "up{a='${nothing}'}"}}}, "nothing"),
        ({"url": "http://x", "queries": {"x": {"query": "up{a=${agent}}"}}}, "outside of quotes"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: Any, word: str) -> None:
    """Each error names the field to change, and no secret."""
    with pytest.raises(ConfigError, match=word) as caught:
        load(outputs=given)
    assert "canary" not in str(caught.value)
