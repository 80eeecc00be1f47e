"""Renders a delivery as an annotation. Pure.

A task is a region from its start to its end, with its name, result and links. Its warnings, errors and
questions are points. While it runs, the region is a point at its start. Grafana shows the text as HTML:
agents' text is escaped.

Each annotation has a unique tag, ``spanpost:<id>``, for lookups: Grafana knows no idempotency key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from html import escape
from typing import Final

import msgspec

from spanpost.model.checkpoints import Kind
from spanpost.model.deliveries import Delivery, Mode
from spanpost.model.tasks import Task
from spanpost.routing.planned import mark_of
from spanpost.sinks import labels
from spanpost.text.sanitise import cut, line, link

#: Checkpoints that are points; the region shows enough of the others.
POINTS: Final = frozenset(
    {
        Kind.ERROR,
        Kind.APPROVAL_REQUESTED,
        Kind.APPROVAL_RESOLVED,
        Kind.CONTEXT_WARNING,
        Kind.CONTEXT_FORECAST,
        Kind.COMPACTION,
        Kind.STALLED,
        Kind.LOOP,
        Kind.ALERT,
    }
)
#: Maximum length of all tags of an annotation together (Grafana's limit), and of one tag; characters.
TAGS, TAG = 500, 100
_TEXT, _LINKS = 500, 5


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """An annotation."""

    #: The tag that no other annotation has.
    mark: str
    text: str
    tags: tuple[str, ...]
    #: Milliseconds since 1970. `until_ms` None: a point.
    at_ms: int
    until_ms: int | None = None
    dashboard: str = ""

    @property
    def print(self) -> str:
        """A short hash of the shown content."""
        return blake2b(msgspec.json.encode((self.text, self.tags, self.until_ms)), digest_size=8).hexdigest()


def note(delivery: Delivery, *, dashboard: str = "", tags: Iterable[str] = ()) -> Note | None:
    """Render a delivery as an annotation, without content; None if it has none."""
    task, checkpoint = labels.without_content(delivery.task), delivery.checkpoint
    mark = mark_of_delivery(delivery)
    if delivery.mode is Mode.STATE:
        if task.started_at is None:
            return None
        until = task.ended_at if labels.is_final(task) else None
        until_ms = max(_ms(until), _ms(task.started_at)) if until is not None else None
        return Note(
            mark=mark,
            text=_region(task),
            tags=_tags(mark, "task", task, tags),
            at_ms=_ms(task.started_at),
            until_ms=until_ms,
            dashboard=dashboard,
        )
    if checkpoint is None or checkpoint.kind not in POINTS:
        return None
    label = labels.checkpoint_label(checkpoint)
    text = f"{label.emoji} {_safe(labels.title(task, 150))} · {_safe(labels.checkpoint_text(checkpoint, _TEXT))}"
    return Note(
        mark=mark,
        text=text,
        tags=_tags(mark, str(checkpoint.kind), task, tags),
        at_ms=_ms(checkpoint.at),
        dashboard=dashboard,
    )


def mark_of_delivery(delivery: Delivery) -> str:
    """Return the unique tag of a delivery's annotation."""
    checkpoint_id = delivery.checkpoint.id if delivery.checkpoint is not None else None
    known = delivery.ordering_key if delivery.mode is Mode.STATE else mark_of(delivery.key, checkpoint_id)
    # Hashed: an ordering key and a key hold the address, which may be long, and a tag holds no comma.
    return f"spanpost:{blake2b(known.encode('utf-8', 'replace'), digest_size=12).hexdigest()}"


def _region(task: Task) -> str:
    label = labels.task_label(task)
    said = f"{label.emoji} {_safe(labels.title(task, 150))}"
    if labels.is_final(task):
        said += f" · {label.word}"
        if task.error is not None and task.status == "error":
            said += f": {_safe(labels.failure_line(task))}"
    elif task.is_alert:
        said += f" · {label.word}"
    if links := " ".join(_links(task)):
        said += f" {links}"
    return said


def _links(task: Task) -> Iterator[str]:
    for name, url in labels.links(task, _LINKS):
        safe = link(url)
        if safe is not None:
            yield f'<a href="{escape(safe, quote=True)}">{_safe(name)}</a>'


def _safe(text: str) -> str:
    return escape(text, quote=True)


def _tags(mark: str, kind: str, task: Task, more: Iterable[str]) -> tuple[str, ...]:
    """Return the tags that fit the limit: the unique tag first."""
    wanted = ["spanpost", kind]
    wanted += [f"{name}:{value}" for name, value in (("agent", task.agent_name), ("env", task.environment)) if value]
    wanted += more
    kept, size = [mark], len(mark)
    for one in wanted:
        tag = cut(line(one.replace(",", " "), TAG), TAG)
        if tag and tag not in kept and size + 1 + len(tag) <= TAGS:
            kept.append(tag)
            size += 1 + len(tag)
    return tuple(kept)


def _ms(at: datetime) -> int:
    return max(int(at.timestamp() * 1000), 1)
