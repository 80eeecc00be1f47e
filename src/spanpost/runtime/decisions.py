"""Decisions, acts and launch orders of programs with access to the database: `decide`, `act`, `start`, and how
an id finds its question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from spanpost.interactions import texts
from spanpost.interactions.acts import start_key
from spanpost.interactions.protocols import Asked
from spanpost.interactions.requested_acts import ActOutcome
from spanpost.interactions.subjects import questions_named
from spanpost.model.acts import NO_TASK, SYSTEM_USER
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor, ApprovalRow, Intervention, Verb, Verdict
from spanpost.model.queries import ApprovalQuery
from spanpost.model.standing_approvals import Scope
from spanpost.model.tasks import Task
from spanpost.routing.launch_orders import Launches
from spanpost.routing.parameters import checked, sentence_of
from spanpost.store.protocols import Interventions
from spanpost.tasks.interventions import option_of, verb_of, words_of
from spanpost.text.locales import ENGLISH
from spanpost.text.sanitise import line


class NoSuchQuestion(ConfigError):
    """No question has that id or key."""


class SeveralQuestions(ConfigError):
    """An id names several questions: each wording is a question of its own."""


async def decide(
    interventions: Interventions,
    approval: str,
    decision: str,
    *,
    by: str,
    comment: str = "",
    scope: str = Scope.ONCE,
    tenant: str,
    source: str = "app",
    user: str = "",
) -> Verdict:
    """Decide an open question, by its id or key, in the name of `by`: ``approve``, ``deny`` or one of its
    options.

    Authorization rules do not apply: every caller may decide. `user` is the verified user, if `by` is only
    a claim. Raises `NoSuchQuestion`, `SeveralQuestions`, and `ConfigError` for a word that is not an
    answer.
    """
    try:
        row = await question_named(interventions, tenant, approval)
    except NoSuchQuestion:
        verb = Verb(decision) if decision in (Verb.APPROVE, Verb.DENY) else Verb.CHOOSE
        await note_unknown(interventions, verb, approval, by=by, tenant=tenant, source=source, user=user)
        raise
    word = option_of(row, decision.strip())
    answered = verb_of(row, word)
    if answered is None:
        raise ConfigError(f"{decision!r} is no answer to it; answer {' or '.join(words_of(row))}")
    act = Intervention(
        tenant=tenant,
        verb=answered,
        key=row.key,
        actor=_actor(source, user, by),
        scope=Scope(scope),
        option=word if answered is Verb.CHOOSE else "",
        text=comment,
        source=source,
        idempotency_key=f"{source} {uuid4()}",
        at=datetime.now(UTC),
    )
    return await interventions.intervene(act)


async def act(
    interventions: Interventions,
    launches: Launches,
    verb: Verb,
    task: Task,
    text: str = "",
    *,
    option: str = "",
    by: str,
    source: str = "app",
    user: str = "",
) -> ActOutcome:
    """Do an act on a task, in the name of `by`, and return its outcome. It is recorded, also if it has no effect.

    Authorization rules do not apply: every caller may act. `user` is the verified user, if `by` is only a
    claim.
    """
    launcher = launches.retrier(task) if verb is Verb.RETRY else ""
    refusal = texts.NO_LAUNCHER if verb is Verb.RETRY and not launcher else ""
    intervention = Intervention(
        tenant=task.tenant,
        verb=verb,
        key=task.uid,
        actor=_actor(source, user, by),
        option=option,
        text=text,
        source=source,
        launcher=launcher,
        idempotency_key=f"{source} {uuid4()}",
        refusal=refusal,
        at=datetime.now(UTC),
    )
    verdict = await interventions.intervene(intervention)
    asked = Asked(key=task.uid, task=task)
    return ActOutcome(verb=verb, result=verdict.result, asked=asked, verdict=verdict, refusal=refusal)


async def start(
    interventions: Interventions,
    launches: Launches,
    launcher: str,
    text: str = "",
    parameters: Mapping[str, str] | None = None,
    *,
    by: str,
    tenant: str,
    source: str = "app",
    user: str = "",
) -> Verdict:
    """Place a launch order in the name of `by`. A process that has the launcher in its settings carries it
    out.

    Authorization rules do not apply: every caller may start. `user` is the verified user, if `by` is only a
    claim. Raises `ConfigError` for a launcher that these settings do not name, or parameters that it does not
    accept.
    """
    if launcher not in launches.launchers:
        known = ", ".join(sorted(launches.launchers)) or "none"
        raise ConfigError(
            f"there is no launcher {launcher[:60]!r} in the settings (known: {known}); name one, or use a "
            "gateway with --url"
        )
    values, faults = checked(launches.declared(launcher), parameters or {})
    if faults:
        raise ConfigError(sentence_of(faults, ENGLISH.tell))
    idempotency_key = f"{source} {uuid4()}"
    act = Intervention(
        tenant=tenant,
        verb=Verb.START,
        key=start_key(tenant, idempotency_key),
        actor=_actor(source, user, by),
        text=text,
        source=source,
        launcher=launcher,
        parameters=values,
        idempotency_key=idempotency_key,
        at=datetime.now(UTC),
    )
    return await interventions.intervene(act)


async def note_unknown(
    interventions: Interventions, verb: Verb, ref: str, *, by: str, tenant: str, source: str = "app", user: str = ""
) -> None:
    """Record an act on an id that no task or question of the tenant has."""
    act = Intervention(
        tenant=tenant,
        verb=verb,
        key=NO_TASK,
        actor=_actor(source, user, by),
        source=source,
        parameters={"id": ref[:200]},
        idempotency_key=f"{source} {uuid4()}",
        at=datetime.now(UTC),
    )
    await interventions.intervene(act)


def _actor(source: str, user: str, by: str) -> Actor:
    """Return the person named `by`; `user` is the verified user of the operating system, if there is one."""
    return Actor(provider=source, id=user or by, name=by, credential=SYSTEM_USER if user else "")


async def open_questions(interventions: Interventions, tenant: str) -> list[ApprovalRow]:
    """Return the open questions of a tenant, oldest first."""
    return (await interventions.approvals(ApprovalQuery(tenant=tenant, state="open", limit=1000)))[::-1]


async def question_named(interventions: Interventions, tenant: str, ref: str) -> ApprovalRow:
    """Return the one question of that key or id. Raises `NoSuchQuestion`, `SeveralQuestions`."""
    found = await questions_named(interventions, tenant, ref)
    if not found:
        raise NoSuchQuestion(
            f"{ref!r}: no question of tenant {tenant!r} has that id or key; `spanpost approvals list` lists "
            "those that are open"
        )
    if len(found) > 1:
        raise SeveralQuestions(
            f"{ref!r} was asked in {len(found)} wordings: name one by its key, {' or '.join(keys_of(found))}"
        )
    return found[0]


def keys_of(rows: Sequence[ApprovalRow]) -> list[str]:
    """Return the keys of questions, each with the beginning of its text."""
    return [f"{row.key} ({line(row.question, 60)})" for row in rows[:5]]
