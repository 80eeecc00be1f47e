"""Sample tasks, one in each state, for a preview of messages without an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

import msgspec

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.context import Forecast
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.summaries import Board, Digest, Summary
from spanpost.model.tasks import MERGED, Step, Task
from spanpost.tasks.absorb import AGENT_CONVERSATION
from spanpost.tasks.context import Window
from spanpost.tasks.context_checkpoints import use
from spanpost.text.wording import message, worded

_IDS = UUID("0b0e3f0e-6f3c-4a4e-9b65-6d6f6b1c2a77")
_NOON = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)
_AT_WORK = message("checkpoint.with_words", text=message("task.agents_at_work", open=2, all=4), words="coder, reviewer")
_STEPS = ("Read the alert", "Find the change", "Write the fix", "Run the tests", "Open the pull request")
_CITIES = {"oslo": 2, "lyon": 2, "cork": 1, "turin": 1, "porto": 1, "seoul": 2, "lima": 2, "perth": 1}
_HOSTS = tuple(f"{city}-{n}" for city, count in _CITIES.items() for n in range(1, count + 1))
_LOG = """Traceback (most recent call last):
  File "deploy.py", line 81, in roll_out
    raise RolloutFailed(canary)
RolloutFailed: canary at 12 % errors, 1 % allowed"""


class GalleryPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the gallery, with its sub-agents and its checkpoints.

    `counts` has the number of occurrences of a repeated checkpoint.
    """

    caption: str
    task: Task
    children: Sequence[Task] = ()
    checkpoints: Sequence[Checkpoint] = ()
    counts: Mapping[UUID, int] = {}
    #: Figures of Prometheus at the end.
    figures: Sequence[str] = ()
    #: Link to the message that continues this one.
    continued_at: str = ""


def gallery() -> list[GalleryPiece]:
    """Return one piece for each status, and more for a status that is shown in several ways."""
    return [
        GalleryPiece(caption="starting", task=_task("starting", None)),
        GalleryPiece(
            caption="working",
            task=_task("working", 3, action="Editing billing/prices.py"),
            checkpoints=[
                _checkpoint("working", "2/5 Find the change", Kind.MILESTONE, progress=20),
                _checkpoint("working", "Found it: #4123 rounds twice", progress=40),
            ],
        ),
        GalleryPiece(
            caption="working, with sub-agents",
            task=_task("working", None, **_doing(_AT_WORK), child_count=4),
            children=[
                _child("researcher", "complete"),
                _child("planner", "complete"),
                _child("coder", "working", "pytest tests/billing"),
                _child("reviewer", "working"),
            ],
        ),
        _raised(),
        _waiting(),
        *_for_a_tool(),
        _choosing(),
        *_long_and_hidden(),
        _approved(),
        _expired(),
        GalleryPiece(caption="paused", task=_task("paused", 3, paused_by="Mina")),
        GalleryPiece(
            caption="stalled",
            task=_task("stalled", 3, is_inferred=True),
            checkpoints=[_checkpoint("stalled", message("checkpoint.stalled", time=300), Kind.STALLED)],
        ),
        GalleryPiece(
            caption="context filling",
            task=_task(
                "context_warning", 4, action="Reading tests/", context_used_tokens=172_000, context_forecast=_forecast()
            ),
            checkpoints=[
                _checkpoint(
                    "context_warning", use(172_000, Window(200_000, "table"), AGENT_CONVERSATION), Kind.CONTEXT_WARNING
                )
            ],
        ),
        _struggling(),
        GalleryPiece(
            caption="asked to stop, muted",
            task=_task("working", 4, action="Running 31 tests", cancel_by="Mina", is_muted=True),
        ),
        _failed(),
        _complete(),
        GalleryPiece(
            caption="complete, though a part failed",
            task=_task("complete", None, child_count=2, child_failed=1),
            children=[_child("researcher", "complete"), _child("coder", "error")],
        ),
        GalleryPiece(
            caption="went on as part of another task",
            task=_task("complete", None, end_reason=MERGED),
            checkpoints=[_checkpoint("working", "Found it: #4123 rounds twice", progress=40)],
            continued_at="https://acme.slack.com/archives/C0AGENTS/p1754222461000100",
        ),
        GalleryPiece(
            caption="cancelled",
            task=_task("cancelled", 3),
            checkpoints=[_checkpoint("cancelled", message("checkpoint.cancelled_in", time=401), Kind.END)],
        ),
    ]


def _question(**more: object) -> tuple[Approval, Checkpoint]:
    checkpoint_id = uuid5(_IDS, repr(sorted(more)))
    asked = Approval(
        id="a-1",
        question="Deploy 1.8.2 to production?",
        detail="2 files changed, 31 tests passed, canary 5 %",
        risk="high",
        key=uuid5(_IDS, "key"),
        reported_by=checkpoint_id,
        deadline=_NOON + timedelta(minutes=30),
    )
    asked = msgspec.structs.replace(asked, **more)
    checkpoint = _checkpoint("waiting", asked.question, Kind.APPROVAL_REQUESTED, detail=asked.detail, ref=asked.id)
    return asked, msgspec.structs.replace(checkpoint, id=checkpoint_id)


def summaries() -> list[tuple[str, Summary]]:
    """Return a digest and a board, with captions."""
    failed = [
        msgspec.structs.replace(one, name=name, uid=uuid5(_IDS, name))
        for name, one in (("Nightly report", _failed().task), ("Checkout is slow since 1.8.1", _failed().task))
    ]
    needy = [
        msgspec.structs.replace(_waiting().task, uid=uuid5(_IDS, "needy")),
        msgspec.structs.replace(
            _task("stalled", 3, action="Reading tests/"), name="Mend the flaky test", uid=uuid5(_IDS, "stalled")
        ),
    ]
    working = [
        msgspec.structs.replace(_task("working", 3, **_doing(said)), name=name, uid=uuid5(_IDS, name))
        for name, said in (
            ("Translate the handbook", "Chapter 3 of 12"),
            ("Sort the inbox", message("task.tool", name="label_mail")),
        )
    ]
    digest = Digest(
        route="",
        began_at=_NOON - timedelta(hours=24),
        ends_at=_NOON,
        ended={"complete": 41, "error": 2, "cancelled": 1},
        living={"waiting": 1, "stalled": 1, "working": 6},
        input_tokens=18_400_000,
        output_tokens=912_000,
        cost_usd=Decimal("37.41"),
        unpriced=12,
        failed=tuple(failed),
        needy=tuple(needy),
    )
    board = Board(route="", tasks=(*needy, *working), more=37, living={"waiting": 1, "stalled": 1, "working": 39})
    return [
        (name, Summary(id=_IDS, key="", content=checkpoint))
        for name, checkpoint in (("a digest", digest), ("a board", board))
    ]


def _waiting() -> GalleryPiece:
    asked, checkpoint = _question(options=("deploy", "wait for Monday"))
    return GalleryPiece(
        caption="waiting for a person", task=_task("waiting", 4, approvals=(asked,)), checkpoints=[checkpoint]
    )


def _raised() -> GalleryPiece:
    """Return a task of whose sub-agents one waits and one failed."""
    asked, _ = _question(
        question="Is rounding to cents meant?", detail="prices.py rounds twice, since #4123", risk="low"
    )
    failed = Failure(type="PytestFailed", message="14 tests fail under 3.14")
    return GalleryPiece(
        caption="a sub-agent waits",
        task=_task("working", None, child_count=4, child_failed=1),
        children=[
            msgspec.structs.replace(_child("reviewer", "waiting"), approvals=(asked,)),
            msgspec.structs.replace(_child("searcher", "error"), error=failed),
            _child("coder", "working"),
            _child("planner", "complete"),
        ],
    )


def _for_a_tool() -> list[GalleryPiece]:
    said = {"tool": "Bash", "risk": "", "question": "Run git push --force?", "detail": "", "deadline": None}
    ruled = {"decision": "approve", "by": "Mina", "source": "rule", "rule": str(uuid5(_IDS, "rule"))}
    pieces = [
        ("waiting for a tool", _question(**said)),
        ("waiting for a second person", _question(**said, needs=2, approved_by=("Mina",), owner="U0ALICE")),
        ("allowed by a standing approval", _question(**said, **ruled, comment="a sandbox")),
    ]
    return [
        GalleryPiece(
            caption=caption,
            task=_task("waiting" if asked.is_open else "working", 3, approvals=(asked,)),
            checkpoints=[checkpoint],
        )
        for caption, (asked, checkpoint) in pieces
    ]


def _choosing() -> GalleryPiece:
    hosts = tuple(
        f"{city}, {n} of 12 canaries"
        for n, city in enumerate(("Oslo", "Lyon", "Cork", "Turin", "Porto", "Seoul", "Lima"))
    )
    asked, checkpoint = _question(question="Where first?", detail="", risk="", options=hosts)
    return GalleryPiece(
        caption="a question with many answers", task=_task("waiting", 4, approvals=(asked,)), checkpoints=[checkpoint]
    )


def _long_and_hidden() -> list[GalleryPiece]:
    plan = "\n".join(
        f"{n:2}. {host}: drain, deploy 1.8.2, wait for 200 green checks, undrain" for n, host in enumerate(_HOSTS, 1)
    )
    long, checkpoint = _question(question="Roll 1.8.2 out to all regions tonight?", detail=plan)
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"
    hidden, asked = _question(question="Replace the key of the signing service?", detail=f"The new one:\n{key}")
    return [
        GalleryPiece(
            caption="a question to be read first", task=_task("waiting", 4, approvals=(long,)), checkpoints=[checkpoint]
        ),
        GalleryPiece(
            caption="a question that is hidden in part",
            task=_task("waiting", 4, approvals=(hidden,)),
            checkpoints=[asked],
        ),
    ]


def _approved() -> GalleryPiece:
    asked, checkpoint = _question(decision="approve", by="Mina", source="slack", comment="after the freeze is over")
    return GalleryPiece(
        caption="decided",
        task=_task("working", 5, action="Opening the pull request", approvals=(asked,)),
        checkpoints=[checkpoint],
    )


def _expired() -> GalleryPiece:
    asked, checkpoint = _question(decision="expired", is_expired=True, source="spanpost")
    posing = _checkpoint("working", "✅ Approved by @mina", progress=60)
    return GalleryPiece(
        caption="no decision in time; and an agent that poses as a person",
        task=_task("working", 5, action="Approved by @mina", approvals=(asked,)),
        checkpoints=[checkpoint, posing],
    )


def _forecast() -> Forecast:
    return Forecast(
        tokens=190_000,
        limit="95 %",
        percent=95.0,
        calls=3,
        calls_low=2,
        calls_high=5,
        seconds=40.0,
        seconds_low=20.0,
        seconds_high=80.0,
    )


def _struggling() -> GalleryPiece:
    error = _checkpoint(
        "working",
        "pytest: Timeout: no answer within 120 s",
        Kind.ERROR,
        detail="\n".join(f"tests/test_{i}.py ..... [{i} %]" for i in range(60, 99)),
    )
    task = _task("working", 4, action="Running the tests again", tool_errors=7, error_count=7)
    return GalleryPiece(caption="errors that are alike", task=task, checkpoints=[error], counts={error.id: 7})


def _failed() -> GalleryPiece:
    failure = Failure(type="RolloutFailed", message="canary at 12 % errors, 1 % allowed", log_tail=_LOG)
    task = _task("error", 4, error=failure)
    return GalleryPiece(
        caption="failed",
        task=task,
        checkpoints=[_checkpoint("error", f"{failure.type}: {failure.message}", Kind.END, detail=_LOG)],
    )


def _complete() -> GalleryPiece:
    made = Artifact(name="Prices are rounded once", uri="https://git.example/shop/pull/4123", kind="pr")
    task = _task("complete", 5, artifacts=(made,), results={"p99_ms_before": 840, "p99_ms_after": 310, "tests": 31})
    checkpoints = [
        _checkpoint("working", made.name, Kind.ARTIFACT, ref=made.uri),
        _checkpoint("complete", message("checkpoint.complete_in", time=641), Kind.END),
    ]
    return GalleryPiece(
        caption="complete", task=task, checkpoints=checkpoints, figures=("checkout errors 1.9 → 0.1 %",)
    )


def _doing(said: LocaleMessage | str) -> dict[str, object]:
    action, locale_message = worded(said)
    return {"action": action, "messages": {"action": locale_message} if locale_message is not None else {}}


def _task(status: str, step: int | None, **more: object) -> Task:
    uid = uuid5(_IDS, repr((status, step, sorted(more))))
    now = _NOON + timedelta(minutes=2 * (step or 0), seconds=41)
    task = Task(
        uid=uid,
        tenant="default",
        task_id=str(uid),
        trace_id=uid.bytes,
        name="Checkout is slow since 1.8.1",
        agent_name="auto-ops",
        repo="shop/checkout",
        requested_by="mina",
        status=status,
        started_at=_NOON,
        last_event_at=now,
        ended_at=now if status in ("complete", "error", "cancelled") else None,
        links={"run": "https://ci.example/runs/812"},
    )
    if step is not None:
        steps = tuple(Step(name=name, index=i) for i, name in enumerate(_STEPS[:step], 1))
        about = {"steps": steps, "step_name": _STEPS[step - 1], "step_index": step, "step_count": len(_STEPS)}
        task = msgspec.structs.replace(task, **about)
    if status != "starting":
        figures = {
            "model": "gpt-4o",
            "input_tokens": 61_200,
            "output_tokens": 4_100,
            "cost_usd": Decimal("0.19"),
            "llm_calls": 14,
        }
        task = msgspec.structs.replace(
            task,
            tool_calls=22,
            context_used_tokens=31_000,
            context_window_tokens=200_000,
            context_window_source="table",
            **figures,
        )
    return msgspec.structs.replace(task, **more)


def _child(name: str, status: str, action: str | None = None) -> Task:
    uid = uuid5(_IDS, name)
    return Task(
        uid=uid,
        tenant="default",
        task_id=str(uid),
        name=name,
        agent_name=name,
        status=status,
        action=action,
        started_at=_NOON,
    )


def _checkpoint(
    status: str,
    said: LocaleMessage | str,
    kind: Kind = Kind.CHECKPOINT,
    *,
    detail: str = "",
    ref: str = "",
    progress: float | None = None,
) -> Checkpoint:
    text, locale_message = worded(said)
    return Checkpoint(
        id=uuid5(_IDS, text),
        tenant="default",
        task_uid=uuid5(_IDS, text),
        kind=kind,
        status=status,
        text=text,
        message=locale_message,
        at=_NOON + timedelta(minutes=6),
        detail=detail,
        ref=ref,
        progress=progress,
    )
