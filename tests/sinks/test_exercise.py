"""Our sinks with the public suite for sinks; and the suite with sinks that misbehave."""

from __future__ import annotations

import io

import pytest

from spanpost.model.deliveries import Receipt
from spanpost.sinks.console.sink import ConsoleForm, ConsoleSink
from spanpost.sinks.slack.preview import Preview
from spanpost.sinks.slack.sink import SlackSink
from spanpost.testing.exercise_sink import CHECKS, exercise_sink

SINKS = {
    "console-plain": lambda: ConsoleSink(form=ConsoleForm.PLAIN, file=io.StringIO()),
    "console-json": lambda: ConsoleSink(form=ConsoleForm.JSON, file=io.StringIO()),
    "console-live": lambda: ConsoleSink(form=ConsoleForm.LIVE, file=io.StringIO()),
    "slack-preview": lambda: SlackSink(transport=Preview(io.StringIO())),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("make", SINKS.values(), ids=SINKS.keys())
async def test_our_sinks_pass(make, check):
    """Each of our sinks, in each form, passes each check."""
    await check(make)


class _Bare:
    name = "bare"

    async def deliver(self, delivery):
        return Receipt()

    async def reconcile(self, deliveries):
        return {}

    def rate_limits(self, address, call):
        return ()

    async def close(self):
        pass


class _Nothing(_Bare):
    async def deliver(self, delivery):
        return None


class _Chokes(_Bare):
    async def deliver(self, delivery):
        return Receipt(ref={"n": delivery.task.name.encode().decode("ascii")})


class _MakesUp(_Bare):
    async def reconcile(self, deliveries):
        return {-1: None}


class _Unstorable(_Bare):
    async def deliver(self, delivery):
        return Receipt(ref={"at": delivery.born_at})


class _Unnamed(_Bare):
    name = "My|Sink"


async def test_the_least_sink_passes():
    """The suite needs no more than the protocol."""
    await exercise_sink(_Bare)


@pytest.mark.parametrize("make", [_Nothing, _MakesUp, _Unstorable, _Unnamed], ids=lambda c: c.__name__)
async def test_a_bad_sink_is_found(make):
    """A sink that breaks the contract fails the suite."""
    with pytest.raises(AssertionError):
        await exercise_sink(make)


async def test_a_sink_that_chokes_on_text_is_found():
    """A sink that raises anything but a DeliveryError for a hostile text fails the suite."""
    with pytest.raises(UnicodeError):
        await exercise_sink(_Chokes)
