"""Questions of permission hooks: their ids, their words and their records.

Rules. A permission prompt has no id of its own: the id of its question is a keyed hash of tenant, program,
session, prompt and call, so it says nothing of the input. A prompt that is asked again while its question is
open is the same question; one that comes after the question was closed is another (`nth`). The question's words
have a hash of the whole input, so its mark does, and an answer holds for this input alone. A deferred question is
that of one call of a session in one directory, in whatever prompt it comes again.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec

from spanpost import semconv as c
from spanpost.interactions.hooks.events import HookEvent
from spanpost.interactions.hooks.risk import risk_of
from spanpost.interactions.hooks.rules import HookRules
from spanpost.model.observations import Observation, Origin, Part, log_index, nanoseconds
from spanpost.model.tasks import Task
from spanpost.readers import read
from spanpost.readers.approvals import resume_of
from spanpost.tasks.asking import DEFERRED, HOOK

_ORIGIN: Final = Origin(scope="spanpost.hooks")
#: A question whose wait is over expires so much later: its hook withdraws it first.
_MARGIN: Final = timedelta(seconds=15)


class HookQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question of a hook, in the words in which it is asked."""

    id: str
    question: str
    detail: str
    risk: str
    tool: str
    #: Session and directory of the run that a decision resumes.
    resume: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The mark of its words."""
        return c.question_mark(self.question, self.detail, (), self.risk, self.tool)


def question_of(event: HookEvent, tenant: str, key: bytes, rules: HookRules) -> HookQuestion:
    """Return the question of an event: the first with its id."""
    whole = _digest(key, tenant, event.tool, canonical(event.tool_input))
    same = event.program.name, event.session, event.prompt, event.call, whole
    where = f" in {event.directory}" if event.directory else ""
    shown = _lines(event.tool_input) if rules.input else ["Its input is not shown (hooks.input)."]
    return HookQuestion(
        id=f"{HOOK}{_digest(key, tenant, *same)}",
        question=f"{event.program.title} asks to use {event.tool}{where}",
        detail="\n".join([*shown, f"call {whole[:16]}"]),
        risk=risk_of(event.tool, event.tool_input),
        tool=event.tool,
    )


def deferred_of(event: HookEvent, tenant: str, key: bytes, rules: HookRules) -> HookQuestion | None:
    """Return the question of a call that is deferred; None where its run cannot be resumed."""
    directory = event.cwd if resume_of([event.session, event.cwd]) else ""
    resume = resume_of([event.session, directory])
    if not resume or not event.call:
        return None
    asked = question_of(event, tenant, key, rules)
    same = event.program.name, event.session, event.call, event.cwd, event.tool, canonical(event.tool_input)
    return msgspec.structs.replace(
        asked,
        id=f"{DEFERRED}{_digest(key, tenant, *same)}",
        detail=f"{asked.detail}\nafterwards: {event.program.resumes} {event.session}",
        resume=resume,
    )


def nth(question: HookQuestion, n: int) -> HookQuestion:
    """Return the same question, asked for the `n`-th time (from 1)."""
    return question if n == 1 else msgspec.structs.replace(question, id=f"{question.id}-{n}")


def records_of(
    question: HookQuestion,
    event: HookEvent,
    tenant: str,
    rules: HookRules,
    now: datetime,
    wait: float | None,
    task: Task | None,
) -> list[Observation]:
    """Return the records of a question. In a session that is not known yet, its prompt has begun.

    `wait`: seconds that its hook waits; None: the question has no deadline of its own.
    """
    said: dict[str, Any] = {
        c.APPROVAL_ID: question.id,
        c.APPROVAL_QUESTION: question.question,
        c.APPROVAL_DETAIL: question.detail,
        c.APPROVAL_RISK: question.risk,
        c.APPROVAL_DIGEST: question.mark,
        c.APPROVAL_TOOL: question.tool,
        c.APPROVAL_ASK_AFTER: 0.0 if event.program.is_blocking else rules.ask_after.total_seconds(),
    }
    if question.resume:  # nobody is at a terminal
        said |= {c.APPROVAL_RESUME: list(question.resume), c.APPROVAL_ASK_AFTER: 0.0}
    if wait is not None:
        until = now + timedelta(seconds=wait) + _MARGIN
        said |= {c.APPROVAL_EXPIRES_AT: until.isoformat(), c.APPROVAL_AT_EXPIRY: "expire"}
    asked = record_of(event, tenant, c.EVENT_APPROVAL_REQUESTED, said, now, task)
    return [asked] if task is not None else [record_of(event, tenant, c.EVENT_HOOK_CALLED, {}, now, None), asked]


def notice_of(event: HookEvent, tenant: str, now: datetime, task: Task | None, *, shows: bool) -> list[Observation]:
    """Return the record of a notice: the program waits at its terminal."""
    words = f"{event.program.title} waits at its terminal"
    message = f"{words}: {event.message}" if shows and event.message else words
    said = {c.CHECKPOINT_MESSAGE: message, c.STATUS: c.WORKING}
    notice = record_of(event, tenant, c.EVENT_CHECKPOINT, said, now, task)
    return [notice] if task is not None else [record_of(event, tenant, c.EVENT_HOOK_CALLED, {}, now, None), notice]


def record_of(
    event: HookEvent, tenant: str, name: str, said: dict[str, Any], now: datetime, task: Task | None
) -> Observation:
    """Return a record in the session of an event.

    It joins the telemetry by the ids of session and prompt; in a session of which spans are known, by its task.
    """
    program = event.program
    attributes = said | {c.HOOK_PROGRAM: program.records, program.session[1]: event.session}
    if event.prompt:
        attributes[program.prompt[1]] = event.prompt
    record = Observation(
        part=Part.LOG,
        trace_id=b"",
        span_id=b"",
        tenant=tenant,
        name=name,
        at_ns=nanoseconds(now),
        severity=9,
        attributes=attributes,
        origin=_ORIGIN,
    )
    if task is not None and task.span_id:
        place = read(record).stands_for
        if place is not None and place[0] != task.trace_id:  # its prompts are spans, each in a trace of its own
            record = msgspec.structs.replace(record, trace_id=task.trace_id, span_id=task.span_id)
    return msgspec.structs.replace(record, index=log_index(record))


def canonical(tool_input: dict[str, Any]) -> str:
    """Return an input as one text: the same for every order of its members."""
    return json.dumps(tool_input, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _lines(tool_input: dict[str, Any]) -> list[str]:
    made = []
    for name, value in tool_input.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        made.append(f"{name}: {text}")
    return made


def _digest(key: bytes, *parts: str) -> str:
    """Return a keyed hash of texts, none of which may run into the next."""
    whole = json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return blake2b(whole, key=key[:64], digest_size=16, person=b"hook").hexdigest()
