"""Decisions and launch orders of programs with access to the database: `decide`, `start`, and how an id
finds its question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from spanpost.interactions.acts import start_key
from spanpost.interactions.subjects import questions_named
from spanpost.model.errors import ConfigError
from spanpost.model.interventions import Actor, ApprovalRow, Intervention, Verb, Verdict
from spanpost.model.queries import ApprovalQuery
from spanpost.routing.launch_orders import Launches
from spanpost.store.protocols import Interventions
from spanpost.tasks.interventions import option_of, verb_of, words_of
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
    tenant: str,
    source: str = "api",
    user: str = "",
) -> Verdict:
    """Decide an open question, by its id or key, in the name of `by`: ``approve``, ``deny`` or one of its
    options.

    Authorization rules do not apply: every caller may decide. `user` is the verified user, if `by` is only
    a claim. Raises `NoSuchQuestion`, `SeveralQuestions`, and `ConfigError` for a word that is not an
    answer.
    """
    row = await question_named(interventions, tenant, approval)
    word = option_of(row, decision.strip())
    verb = verb_of(row, word)
    if verb is None:
        raise ConfigError(f"{decision!r} is no answer to it; answer {' or '.join(words_of(row))}")
    act = Intervention(
        tenant=tenant,
        verb=verb,
        key=row.key,
        actor=Actor(provider=source, id=user or by, name=by),
        option=word if verb is Verb.CHOOSE else "",
        text=comment,
        source=source,
        idempotency_key=f"{source} {uuid4()}",
        at=datetime.now(UTC),
    )
    return await interventions.intervene(act)


async def start(
    interventions: Interventions,
    launches: Launches,
    launcher: str,
    text: str = "",
    parameters: Mapping[str, str] | None = None,
    *,
    by: str,
    tenant: str,
    source: str = "api",
    user: str = "",
) -> Verdict:
    """Place a launch order in the name of `by`. A process that has the launcher in its settings carries it
    out.

    Authorization rules do not apply: every caller may start. `user` is the verified user, if `by` is only a
    claim. Raises `ConfigError` for a launcher that these settings do not name.
    """
    if launcher not in launches.launchers:
        known = ", ".join(sorted(launches.launchers)) or "none"
        raise ConfigError(
            f"there is no launcher {launcher[:60]!r} in the settings (known: {known}); name one, or use a "
            "gateway with --url"
        )
    idempotency_key = f"{source} {uuid4()}"
    act = Intervention(
        tenant=tenant,
        verb=Verb.START,
        key=start_key(tenant, idempotency_key),
        actor=Actor(provider=source, id=user or by, name=by),
        text=text,
        source=source,
        launcher=launcher,
        parameters=dict(parameters or {}),
        idempotency_key=idempotency_key,
        at=datetime.now(UTC),
    )
    return await interventions.intervene(act)


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
