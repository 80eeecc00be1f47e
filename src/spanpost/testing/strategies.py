"""Any task and any checkpoint, as input of a renderer. Needs hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from string import Formatter
from uuid import UUID

from hypothesis import strategies as st

from spanpost.model.checkpoints import Checkpoint, Kind
from spanpost.model.context import Forecast
from spanpost.model.messages import LocaleMessage
from spanpost.model.readings import Approval, Artifact, Failure
from spanpost.model.tasks import Step, Task
from spanpost.semconv import STATUSES
from spanpost.text.locales import english
from spanpost.text.locales.english import PHRASES

_TRICKS = [
    "<!channel>",
    "<@U1>",
    "<https://e.example|x>",
    "```",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "[bold]",
    "[/]",
    "&",
    "https://a.example/" + "p" * 400,
]
texts = st.one_of(
    st.text(st.characters(), max_size=60),
    st.sampled_from(_TRICKS),
    st.builds(lambda a, b, n: (a + b) * n, st.text(max_size=5), st.sampled_from(_TRICKS), st.integers(1, 700)),
)
_maybe = st.one_of(st.none(), texts)
_counts = st.one_of(st.none(), st.integers(-5, 2**63))
_times = st.one_of(st.none(), st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
_floats = st.one_of(st.none(), st.floats())
_uris = st.one_of(texts, st.just("https://files.example.com/report.pdf"), st.just("https://e.example/" + "x" * 250))

#: Keys of the messages that are stored with checkpoints and tasks.
STORED = tuple(key for key in PHRASES if key.startswith(english.STORED) and key not in english.UNSTORED)
_NUMBERS = {
    "duration": st.one_of(st.integers(0, 10**6), st.floats()),
    "g": st.floats(),
    ".1f": st.floats(),
    ",": st.integers(0, 2**63),
}


def fields_of(key: str) -> dict[str, str]:
    """Return the placeholders of an English template, with their format specifications."""
    phrase = PHRASES[key]
    forms = (phrase,) if isinstance(phrase, str) else phrase
    return {name: spec or "" for form in forms for _, name, spec, _ in Formatter().parse(form) if name is not None}


def messages(
    texts: st.SearchStrategy[str], keys: tuple[str, ...] = STORED, depth: int = 1
) -> st.SearchStrategy[LocaleMessage]:
    """Return any message that is stored, whose texts are any, and whose messages go so deep."""
    inner = [messages(texts, keys, depth - 1), st.lists(messages(texts, keys, depth - 1), max_size=3)] if depth else []

    def filled(key: str) -> st.SearchStrategy[LocaleMessage]:
        given = {
            name: _NUMBERS[spec] if spec else st.one_of(texts, st.integers(0, 99), *inner)
            for name, spec in fields_of(key).items()
        }
        return st.builds(LocaleMessage, key=st.just(key), values=st.fixed_dictionaries(given))

    return st.sampled_from(keys).flatmap(filled)


tasks = st.builds(
    Task,
    uid=st.integers(0, 2**128 - 1).map(lambda n: UUID(int=n)),
    tenant=st.just("default"),
    task_id=texts,
    name=texts,
    agent_name=_maybe,
    repo=_maybe,
    requested_by=_maybe,
    status=st.sampled_from([*STATUSES, "odd"]),
    progress=_floats,
    action=_maybe,
    step_name=_maybe,
    step_index=_counts,
    step_count=_counts,
    started_at=_times,
    ended_at=_times,
    last_event_at=_times,
    input_tokens=_counts,
    output_tokens=_counts,
    cost_usd=st.one_of(
        st.none(), st.decimals(allow_nan=False, allow_infinity=False, min_value=-10, max_value=Decimal(10) ** 12)
    ),
    context_used_tokens=_counts,
    context_window_tokens=_counts,
    context_window_source=st.sampled_from(["", "given", "table"]),
    context_forecast=st.one_of(
        st.none(),
        st.builds(
            Forecast,
            tokens=st.integers(1, 10**9),
            limit=texts,
            percent=st.one_of(st.none(), st.floats(0, 100)),
            calls=st.integers(1, 40),
            calls_low=st.integers(1, 40),
            calls_high=st.integers(1, 200),
            seconds=st.floats(0, 1e12),
            seconds_low=st.floats(0, 1e12),
            seconds_high=st.floats(0, 1e12),
        ),
    ),
    unpriced_calls=st.integers(0, 10**9),
    tool_calls=st.integers(0, 10**9),
    tool_errors=st.integers(0, 10**9),
    child_count=st.integers(0, 500),
    child_failed=st.integers(0, 500),
    steps=st.lists(
        st.builds(
            Step,
            name=texts,
            index=st.one_of(st.none(), st.integers(-1, 99)),
            message=st.one_of(st.none(), messages(texts)),
        ),
        max_size=80,
    ).map(tuple),
    artifacts=st.lists(st.builds(Artifact, name=texts, uri=_uris, kind=texts), max_size=30).map(tuple),
    approvals=st.lists(
        st.builds(
            Approval,
            id=texts,
            question=texts,
            options=st.one_of(st.lists(texts, max_size=4), st.lists(texts, max_size=20)).map(tuple),
            detail=texts,
            risk=texts,
            decision=st.sampled_from(["", "", "approve", "deny", "expired", "wait for Monday"]),
            by=texts,
            comment=texts,
            source=st.sampled_from(["", "slack", "api", "spanpost"]),
            is_expired=st.booleans(),
            is_void=st.booleans(),
            has_id=st.booleans(),
            key=st.one_of(st.none(), st.uuids()),
            deadline=_times,
        ),
        max_size=6,
        unique_by=lambda a: a.key or id(a),
    ).map(tuple),
    is_muted=st.booleans(),
    cancel_by=st.one_of(st.just(""), texts),
    paused_by=st.one_of(st.just(""), texts),
    trace_id=st.binary(max_size=16),
    links=st.dictionaries(texts, _uris, max_size=10),
    results=st.dictionaries(texts, st.one_of(texts, st.integers(), st.floats(), st.booleans()), max_size=20),
    error=st.one_of(st.none(), st.builds(Failure, type=texts, message=texts, log_tail=texts)),
    messages=st.dictionaries(
        st.sampled_from(["action", "step_name", "error", "cancel_by", "paused_by"]), messages(texts), max_size=2
    ),
)
checkpoints = st.builds(
    Checkpoint,
    id=st.integers(0, 2**128 - 1).map(lambda n: UUID(int=n)),
    tenant=st.just("default"),
    task_uid=st.just(UUID(int=1)),
    kind=st.sampled_from(Kind),
    status=st.sampled_from([*STATUSES, "odd"]),
    text=texts,
    message=st.one_of(st.none(), messages(texts)),
    at=st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),
    progress=_floats,
    detail=texts,
    ref=st.one_of(texts, _uris),
)
