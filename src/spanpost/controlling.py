"""People's answers in the process that follows its own agents: what `spanpost.agent.control` asks, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import msgspec

from spanpost.agent.gateway import Closed, Unreachable
from spanpost.desk.acts import start_key
from spanpost.desk.answers import Answers, Unknown, as_said
from spanpost.domain.errors import ConfigError, LedgerUnavailable
from spanpost.domain.interventions import Actor, ApprovalRow, Deed, Intervention, State, Verb, Verdict
from spanpost.domain.observations import Observation, Origin, Part, log_index
from spanpost.domain.spend import Spent
from spanpost.domain.tasks import Task
from spanpost.fold.orders import Launches
from spanpost.ledger.base import ApprovalQuery, Ledger

if TYPE_CHECKING:
    from spanpost.pipeline import Pipeline

T = TypeVar("T")


class PipelineHall:
    """The ledger of a pipeline, as those need it who answer agents."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def _ledger(self) -> Ledger:
        return self._pipeline.ledger

    async def question(self, tenant: str, approval_id: str, mark: str) -> ApprovalRow | None:
        query = ApprovalQuery(tenant=tenant, approval_id=approval_id, mark=mark or None, limit=1)
        return next(iter(await self._ledger.approvals(query)), None)

    async def refer(self, tenant: str, ref: str) -> Task | None:
        return await self._ledger.refer(tenant, ref)

    async def allowance(self, task: Task) -> Sequence[Spent]:
        return await self._ledger.allowance(task)

    async def deeds(self, task: Task, verbs: Sequence[str], after: int, limit: int) -> list[Deed]:
        # What was asked of a run that has ended is over with it. A task whose first run goes on has had no end.
        since = await self._ledger.last_end(task.uid) if task.segments > 1 or task.ended_at is not None else None
        return await self._ledger.deeds(task.uid, verbs, after, limit, since=since)

    async def listen(self, hears: Callable[[bytes], None]) -> None:
        def heard(topic: bytes) -> None:
            hears(topic)
            self._pipeline.wake()  # what another process recorded has letters too

        await self._ledger.listen(heard)

    async def record(self, batch: Sequence[Observation]) -> object:
        return await self._pipeline.record(batch)


class InProcess:
    """Brings answers from the pipeline of this process."""

    #: Nothing lies between that would cut a wait.
    wait = 300.0

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def ask(self, said: Mapping[str, Any], trace_id: int, span_id: int, at_ns: int, resource: Mapping[str, Any]) -> None:
        """Have a question recorded."""
        record = Observation(
            part=Part.LOG,
            trace_id=trace_id.to_bytes(16, "big") if trace_id else b"",
            span_id=span_id.to_bytes(8, "big") if span_id else b"",
            tenant=self._pipeline.settings.intake.tenant,
            name=said["event.name"],
            at_ns=at_ns,
            severity=9,
            attributes=as_said({name: value for name, value in said.items() if name != "event.name"}),
            origin=Origin(resource=as_said(resource), scope="spanpost.agent"),
        )
        record = msgspec.structs.replace(record, index=log_index(record))
        await self._there(lambda answers, tenant: answers.ask(tenant, record))

    async def approval(self, id: str, mark: str, wait: float) -> dict[str, Any] | None:
        """Return what became of a question."""
        return await self._there(lambda answers, tenant: answers.approval(tenant, id, mark, wait))

    async def task(self, ref: str, after: int, wait: float) -> dict[str, Any] | None:
        """Return what people asked of a task."""
        return await self._there(lambda answers, tenant: answers.task(tenant, ref, after, wait))

    async def budget(self, ref: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a task may still spend."""
        return await self._there(lambda answers, tenant: answers.budget(tenant, ref, as_said(attributes))) or {}

    async def _there(self, question: Callable[[Answers, str], Coroutine[Any, Any, T]]) -> T | None:
        """Await something in the pipeline's loop."""
        pipeline = self._pipeline
        if pipeline.is_shut:
            raise Closed("spanpost was shut down in this process: no person can be asked any more")
        try:
            await asyncio.to_thread(pipeline.start)  # in a forked child it has not started yet
            answer = pipeline.begin(question(pipeline.answers, pipeline.settings.intake.tenant))
            return await asyncio.wrap_future(answer)
        except Unknown:
            return None
        except (LedgerUnavailable, ConfigError) as error:
            raise Unreachable(str(error)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unreachable("spanpost is being shut down in this process") from None


class NoSuchQuestion(ConfigError):
    """Nothing open is known by that name."""


async def decide(
    ledger: Ledger, approval: str, decision: str, *, by: str, comment: str = "", tenant: str, source: str = "api"
) -> Verdict:
    """Decide an open question, by its id or its key, in the name of `by`: ``approve``, ``deny`` or one of its options.

    Whoever may call this may decide: no rule of the desk is asked. Raises `NoSuchQuestion`, and `ConfigError` for a word that is no answer.
    """
    row = await question_of(ledger, tenant, approval)
    if row is None:
        raise NoSuchQuestion(
            f"{approval!r}: no question of tenant {tenant!r} has that id or key; `spanpost tasks --status waiting` lists who waits"
        )
    word = decision.strip()
    if word in row.options:
        verb = Verb.CHOOSE
    elif not row.options and word in (Verb.APPROVE, Verb.DENY):
        verb = Verb(word)
    else:
        raise ConfigError(f"{decision!r} is no answer to it; answer {' or '.join(row.options or (Verb.APPROVE, Verb.DENY))}")
    act = Intervention(
        tenant=tenant,
        verb=verb,
        key=row.key,
        actor=Actor(provider=source, id=by, name=by),
        option=word if verb is Verb.CHOOSE else "",
        text=comment,
        source=source,
        once=f"{source} {uuid4()}",
        at=datetime.now(UTC),
    )
    return await ledger.intervene(act)


async def start(
    ledger: Ledger,
    launches: Launches,
    launcher: str,
    text: str = "",
    parameters: Mapping[str, str] | None = None,
    *,
    by: str,
    tenant: str,
    source: str = "api",
) -> Verdict:
    """Order work of a launcher, in the name of `by`. Whoever has the launcher in its settings carries it.

    Whoever may call this may start: no rule of the desk is asked. Raises `ConfigError` for a launcher that these settings do not name.
    """
    if launcher not in launches.launchers:
        known = ", ".join(sorted(launches.launchers)) or "none"
        raise ConfigError(
            f"there is no launcher {launcher[:60]!r} in the settings (there: {known}); name one, or ask a gateway by --url"
        )
    once = f"{source} {uuid4()}"
    act = Intervention(
        tenant=tenant,
        verb=Verb.START,
        key=start_key(tenant, once),
        actor=Actor(provider=source, id=by, name=by),
        text=text,
        source=source,
        launcher=launcher,
        parameters=dict(parameters or {}),
        once=once,
        at=datetime.now(UTC),
    )
    return await ledger.intervene(act)


async def question_of(ledger: Ledger, tenant: str, ref: str) -> ApprovalRow | None:
    """Return a tenant's question by its key, or by the agent's id: an open one of that, else the newest."""
    with suppress(ValueError):
        row = await ledger.approval(UUID(ref))
        if row is not None and row.tenant == tenant:
            return row
    found = await ledger.approvals(ApprovalQuery(tenant=tenant, approval_id=ref, limit=20))
    return next((row for row in found if row.state is State.OPEN), found[0] if found else None)
