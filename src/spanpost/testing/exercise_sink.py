"""The behavioural suite for sinks, built in and third-party: the rules that the dispatcher relies on.

    import pytest
    from spanpost.testing.exercise_sink import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    async def test_it_behaves_as_a_sink(check):
        await check(lambda: MySink(...))

or all at once: ``await exercise_sink(lambda: MySink(...))``. Each check makes its own sink and closes it. A
sink may answer any delivery with a `DeliveryError`, when its service is down; it may not raise anything
else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, RateLimit, Receipt, SinkCall
from spanpost.model.errors import DeliveryError
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import Step, Task
from spanpost.routing import rate_limiting
from spanpost.semconv import STATUSES
from spanpost.sinks.base import Sink
from spanpost.testing.nouns import NOON, a_checkpoint, a_delivery, a_task

MakeSink: TypeAlias = Callable[[], Sink]
Check: TypeAlias = Callable[[MakeSink], Awaitable[None]]

#: Texts that have broken messages elsewhere: mentions, markup, escapes, direction, joiners, lone surrogates,
#: length.
HOSTILE = (
    "",
    " ",
    "<!channel> <@U012AB3CD> <https://evil.example|Approve>",
    "[bold red]not markup[/] [/nonsense] [link=https://evil.example]x[/link]",
    "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\r\b",
    "\u202egnp.exe \u2066\u200b\u2069 a\u0301\u0301\u0301\u0301\u0301\u0301",
    "👩‍👩‍👧‍👦🇩🇪🇫🇷✋🏽",
    "\ud800 lone",
    "```fence``` *bold* _it_ ~no~ `code` & &amp;",
    "{% raw %}{{ 7*7 }}${x}%s%(x)s{0}",
    "x" * 50_000,
    "\n" * 3_000,
)


@asynccontextmanager
async def _open(make: MakeSink) -> AsyncIterator[Sink]:
    sink = make()
    try:
        yield sink
    finally:
        await sink.close()


async def _deliver(sink: Sink, delivery: Delivery) -> Receipt | None:
    """Return the receipt, or None when the sink answered with a `DeliveryError`."""
    try:
        async with asyncio.timeout(60):
            receipt = await sink.deliver(delivery)
    except DeliveryError as raised:
        error = raised
    else:
        assert isinstance(receipt, Receipt), f"deliver returned {receipt!r}, which is no Receipt"
        return receipt
    assert error.reason, f"{type(error).__name__} carries no reason: metrics and rows need one"
    return None


def _of(sink: Sink, task: Task, **fields: Any) -> Delivery:
    return a_delivery(task, sink=sink.name, **fields)


async def it_has_a_name_and_is_a_sink(make: MakeSink) -> None:
    """A sink has a name fit for addresses and metrics, and the methods of the protocol."""
    async with _open(make) as sink:
        assert isinstance(sink, Sink), "a method of the Sink protocol is missing"
        assert sink.name, "a sink needs a name"
        assert sink.name == sink.name.strip().lower(), f"{sink.name!r}: a name is lower case without spaces around it"
        assert "|" not in sink.name, "the lane is sink|address|task: a name holds no |"


async def it_returns_a_receipt(make: MakeSink) -> None:
    """Delivering a state returns a receipt whose `ref` survives being stored as JSON."""
    async with _open(make) as sink:
        receipt = await _deliver(sink, _of(sink, a_task()))
        if receipt is not None:
            stored = msgspec.json.decode(msgspec.json.encode(receipt.ref))
            assert stored == receipt.ref, f"the ref changes when it is stored as JSON: {receipt.ref!r}"


async def it_edits_what_it_posted(make: MakeSink) -> None:
    """A second state with the first receipt is accepted, and so is the same state again."""
    async with _open(make) as sink:
        first = await _deliver(sink, _of(sink, a_task(status="starting")))
        later = _of(sink, a_task(status="complete", ended_at=NOON + timedelta(minutes=3)), message_receipt=first)
        second = await _deliver(sink, later)
        await _deliver(sink, replace(later, message_receipt=second or first))


async def it_accepts_checkpoints_of_every_kind(make: MakeSink) -> None:
    """Checkpoints of every kind and status are accepted after the state, also of a child task; twice is no error."""
    async with _open(make) as sink:
        task = a_task()
        child = a_task("child", root_uid=task.uid, parent_uid=task.uid, name="Collect figures")
        root = await _deliver(sink, _of(sink, task, children=(child,)))
        for of in (task, child):
            for kind in Kind:
                for status in ("working", *(STATUSES if kind is Kind.END else ())):
                    checkpoint = a_checkpoint(
                        of, f"{kind}-{status}", kind=kind, status=status, progress=40.0, detail="line 1\nline 2"
                    )
                    delivery = a_delivery(of, checkpoint, sink=sink.name, message_receipt=root)
                    await _deliver(sink, delivery)
                    await _deliver(sink, replace(delivery, attempt=2))


async def it_accepts_checkpoints_without_a_message(make: MakeSink) -> None:
    """Without a receipt of the state a checkpoint is shown or put off; the sink does not crash."""
    async with _open(make) as sink:
        await _deliver(sink, a_delivery(a_task(), a_checkpoint(), sink=sink.name))


async def it_accepts_any_status_and_hole(make: MakeSink) -> None:
    """Every status, an unknown one, and a task with almost no values are shown."""
    async with _open(make) as sink:
        bare = Task(uid=a_task().uid, tenant="default", task_id="bare")
        for status in (*STATUSES, "unheard-of", ""):
            await _deliver(sink, _of(sink, replace(bare, status=status)))
            await _deliver(sink, _of(sink, a_task(status=status)))


async def it_accepts_hostile_text(make: MakeSink) -> None:
    """Any text in any field is accepted or refused by a `DeliveryError`; nothing else is raised."""
    async with _open(make) as sink:
        for text in HOSTILE:
            task = a_hostile_task(text)
            root = await _deliver(sink, _of(sink, task, children=(task,) * 20))
            for kind in (Kind.CHECKPOINT, Kind.ERROR, Kind.APPROVAL_REQUESTED, Kind.ARTIFACT, Kind.END):
                checkpoint = a_checkpoint(
                    task, f"{kind}{len(text)}", kind=kind, status=text, text=text, detail=text, ref=text
                )
                await _deliver(sink, a_delivery(task, checkpoint, sink=sink.name, message_receipt=root))


async def it_names_its_rate_limits(make: MakeSink) -> None:
    """Rate limits are a tuple of different, valid ones, for each kind of call."""
    async with _open(make) as sink:
        for call in SinkCall:
            rate_limits = sink.rate_limits("", call)
            assert isinstance(rate_limits, tuple)
            assert all(isinstance(b, RateLimit) for b in rate_limits)
            for rate_limit in rate_limits:
                rate_limiting.check(rate_limit)
            assert len({b.key for b in rate_limits}) == len(rate_limits), (
                "a budget is named twice: a call would be counted twice"
            )


async def it_reconciles_or_leaves_out(make: MakeSink) -> None:
    """For deliveries that it may never have seen it returns receipts or None, and for no others."""
    async with _open(make) as sink:
        asked = [_of(sink, a_task(f"lost-{i}"), id=1000 + i, is_unknown=True) for i in range(3)]
        try:
            known = await sink.reconcile(asked)
        except DeliveryError:
            return
        assert set(known) <= {d.id for d in asked}, "an answer for a delivery that was not asked for"
        assert all(r is None or isinstance(r, (Receipt, DeliveryError)) for r in known.values())
        assert await sink.reconcile([]) == {}


async def it_delivers_ordering_keys_concurrently(make: MakeSink) -> None:
    """Deliveries of different ordering keys are delivered concurrently."""
    async with _open(make) as sink:
        await asyncio.gather(*(_deliver(sink, _of(sink, a_task(f"t{i}"), id=i)) for i in range(16)))


async def it_closes_twice(make: MakeSink) -> None:
    """Closing is idempotent, after use and without it."""
    sink = make()
    await sink.close()
    await sink.close()
    used = make()
    await _deliver(used, _of(used, a_task()))
    await used.close()
    await used.close()


def a_hostile_task(text: str) -> Task:
    """Return a task with the text in every field that an agent can set."""
    return a_task(
        f"hostile-{hash(text)}",
        name=text,
        agent_name=text,
        repo=text,
        requested_by=text,
        topic=text,
        status="error",
        action=text,
        step_name=text,
        step_index=-3,
        step_count=0,
        progress=float("nan"),
        ended_at=NOON - timedelta(days=2),
        input_tokens=2**62,
        output_tokens=0,
        cost_usd=Decimal("0.00000001"),
        context_used_tokens=5_000_000,
        context_window_tokens=1,
        steps=tuple(Step(name=text, index=i) for i in range(60)),
        artifacts=tuple(Artifact(name=text, uri=text, kind=text) for _ in range(30)),
        approvals=(Approval(id="a", question=text, detail=text, options=(text,) * 12, risk=text),),
        links={f"{text[:40]}{i}": text for i in range(12)}
        | {"js": "javascript:alert(1)", "ok": "https://example.com/a?b=1&c=2"},
        results={f"{text[:40]}{i}": text for i in range(30)},
        error=Failure(type=text, message=text, log_tail=text),
    )


#: Every check, for `pytest.mark.parametrize`.
CHECKS: tuple[Check, ...] = (
    it_has_a_name_and_is_a_sink,
    it_returns_a_receipt,
    it_edits_what_it_posted,
    it_accepts_checkpoints_of_every_kind,
    it_accepts_checkpoints_without_a_message,
    it_accepts_any_status_and_hole,
    it_accepts_hostile_text,
    it_names_its_rate_limits,
    it_reconciles_or_leaves_out,
    it_delivers_ordering_keys_concurrently,
    it_closes_twice,
)


async def exercise_sink(make: MakeSink) -> None:
    """Run every check. Raises AssertionError with the first broken rule."""
    for check in CHECKS:
        await check(make)
