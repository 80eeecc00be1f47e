"""The person for whom a task runs, found in Slack by an email address."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from spanpost.model.checkpoints import Kind
from spanpost.sinks.slack import mentions
from spanpost.sinks.slack.calls import Response
from spanpost.sinks.slack.mentions import FOUND, MISSING, PAUSE, KnownPeople, email_of
from spanpost.sinks.slack.sink import SlackSink
from spanpost.sinks.slack.transport import WebApi
from spanpost.testing.fake_slack import FakeSlack
from spanpost.testing.nouns import a_checkpoint, a_delivery, a_task

MINA = "mina@example.com"
FAILED = a_task(status="error", requested_by="Mina@Example.com")


async def _shown(slack: FakeSlack, **options: Any) -> tuple[str, int]:
    """Return the reply about a failure, and how many lookups there were."""
    sink = SlackSink(transport=WebApi(slack.token, base_url=slack.url), **options)
    root = await sink.deliver(a_delivery(FAILED, sink="slack"))
    end = a_checkpoint(FAILED, kind=Kind.END, status="error", text="Failed")
    await sink.deliver(a_delivery(FAILED, end, sink="slack", message_receipt=root))
    await sink.close()
    [reply] = slack.workspace.channel("agents").replies(str(root.ref["ts"]))
    return json.dumps(reply), len(slack.calls(mentions.FIND))


@pytest.mark.parametrize(
    ("user", "is_mentioned"),
    [
        ({"id": "U0MINA"}, True), ({"id": "U0MINA", "deleted": True}, False), ({"id": "U0MINA", "is_bot": True}, False),
        ({"id": "U0MINA", "is_stranger": True}, False), ({"id": "<!channel>"}, False), (None, False),
    ],
)  # fmt: skip
async def test_a_failure_mentions_who_asked_by_their_address(user: Any, is_mentioned: bool) -> None:
    """A member is mentioned and looked up once; bots, strangers, deactivated accounts and no one are not."""
    async with FakeSlack() as slack:
        slack.workspace.users |= {MINA: user} if user else {}
        said, lookups = await _shown(slack)
        assert ("U0MINA" in said, lookups) == (is_mentioned, 1)


async def test_it_can_be_turned_off_and_works_without_its_scope() -> None:
    """With `find_people` off nothing is looked up; without the scope the message has no mention."""
    async with FakeSlack() as slack:
        slack.workspace.users[MINA] = {"id": "U0MINA"}
        assert (await _shown(slack, finds_people=False))[1] == 0
    async with FakeSlack() as slack:
        slack.workspace.users[MINA] = {"id": "U0MINA"}
        slack.remove_scope("users:read.email")
        said, lookups = await _shown(slack)
        assert ("U0MINA" in said, lookups) == (False, 1)


async def test_answers_are_remembered_and_a_refusal_pauses() -> None:
    """A hit holds an hour, a miss ten minutes; after a 429 no lookup is made before Slack's time, and the old answer
    stands.
    """
    clock, asked = [0.0], list[str]()
    answers: dict[str, Response] = {
        "a@x.io": Response(body={"ok": True, "user": {"id": "U01"}}),
        "b@x.io": Response(body={"ok": False, "error": "users_not_found"}),
    }

    async def ask(email: str) -> Response:
        asked.append(email)
        return answers[email]

    known = KnownPeople(lambda: clock[0])
    for at, email, user, calls in (
        (0, "a@x.io", "U01", 1), (FOUND - 1, "a@x.io", "U01", 1), (FOUND, "b@x.io", "", 2),
        (FOUND + MISSING - 1, "b@x.io", "", 2), (FOUND + MISSING, "b@x.io", "", 3),
    ):  # fmt: skip
        clock[0] = at
        assert (await known.user_of(email, ask), len(asked)) == (user, calls), at
    answers["a@x.io"] = Response(status=429, retry_after=2 * PAUSE)
    assert (await known.user_of("a@x.io", ask), len(asked)) == ("U01", 4)
    clock[0] += 2 * PAUSE - 1
    assert (await known.user_of("a@x.io", ask), len(asked)) == ("U01", 4)
    clock[0] += 2
    assert (await known.user_of("a@x.io", ask), len(asked)) == ("U01", 5)


async def test_a_lookup_that_hangs_holds_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several deliveries share one lookup, wait the time limit, and the next does not wait at all."""
    monkeypatch.setattr(mentions, "TIMEOUT", 0.05)
    asked = list[str]()

    async def ask(email: str) -> Response:
        asked.append(email)
        await asyncio.Event().wait()
        return Response()

    known = KnownPeople(lambda: 0.0)
    assert await asyncio.gather(*(known.user_of(MINA, ask) for _ in range(3))) == ["", "", ""]
    assert await known.user_of(MINA, ask) == ""
    assert asked == [MINA]


def test_only_an_address_is_looked_up() -> None:
    """A name leads to an address by the settings; text of agents that is none leads nowhere."""
    people = {"mina": MINA, "bot": "U012"}
    assert [email_of(name, people) for name in (" Mina ", MINA.upper())] == [MINA, MINA]
    assert not any(email_of(name, people) for name in ("bot", "x", None, "a@b", "a b@x.io", "<a@x.io>"))
