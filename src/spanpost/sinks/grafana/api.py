"""Grafana's two annotation APIs behind one interface: builds requests and reads answers.

`Legacy` is ``/api/annotations`` (https://grafana.com/docs/grafana/latest/developers/http_api/annotations/,
read 2026-11). Grafana chooses the ids, and a repeated POST creates a second annotation.

`Apis` is ``/apis/annotation.grafana.app/v0alpha1`` (alpha, off by default; read from grafana/grafana
2026-11). The client names the resource, so a repeated POST is answered 409. But only text and tags can be
changed: the end of a region is another resource, and the one for the start is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec

from spanpost.sinks.grafana.render import Note

#: Maximum number of results of a search: more than one is already too many.
FOUND: Final = 20


class GrafanaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A call to Grafana's HTTP API."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: dict[str, Any] | None = None
    content_type: str = "application/json"

    @property
    def is_safe(self) -> bool:
        """Tell whether the call may be repeated: it creates nothing."""
        return self.method != "POST"


class Made(msgspec.Struct, frozen=True):
    """An existing annotation: its id, and its end (ms) where it has one."""

    id: str
    until_ms: int = 0


class Api(Protocol):
    """**Protocol:** creates, changes and finds annotations."""

    #: Statuses of a POST that say that the annotation already exists.
    exists: frozenset[int]
    #: Whether the end of an existing annotation can be changed.
    moves_end: bool

    def post(self, note: Note) -> GrafanaRequest: ...

    def made(self, note: Note, answer: Any) -> str:
        """Return the id of the annotation that a POST created; empty if the answer does not say."""
        ...

    def patch(self, id: str, note: Note) -> GrafanaRequest: ...

    def delete(self, id: str) -> GrafanaRequest: ...

    def find(self, mark: str) -> GrafanaRequest: ...

    def found(self, mark: str, answer: Any) -> list[Made]:
        """Return the annotations with a tag, the one to keep first. Raises ValueError for an unreadable answer."""
        ...

    def probe(self) -> GrafanaRequest:
        """Return a small read call, to check access."""
        ...


class Legacy:
    """``/api/annotations``."""

    exists: frozenset[int] = frozenset()
    moves_end = True

    def post(self, note: Note) -> GrafanaRequest:
        body: dict[str, Any] = {"time": note.at_ms, "text": note.text, "tags": list(note.tags)}
        if note.until_ms is not None:
            body["timeEnd"] = note.until_ms
        if note.dashboard:
            body["dashboardUID"] = note.dashboard
        return GrafanaRequest(method="POST", path="/api/annotations", body=body)

    def made(self, note: Note, answer: Any) -> str:
        id = answer.get("id") if isinstance(answer, dict) else None
        return str(id) if isinstance(id, int) and id > 0 else ""

    def patch(self, id: str, note: Note) -> GrafanaRequest:
        body: dict[str, Any] = {"text": note.text, "tags": list(note.tags)}
        if note.until_ms is not None:
            body["timeEnd"] = note.until_ms
        return GrafanaRequest(method="PATCH", path=f"/api/annotations/{quote(id, safe='')}", body=body)

    def delete(self, id: str) -> GrafanaRequest:
        return GrafanaRequest(method="DELETE", path=f"/api/annotations/{quote(id, safe='')}")

    def find(self, mark: str) -> GrafanaRequest:
        return GrafanaRequest(
            method="GET", path="/api/annotations", query=(("tags", mark), ("type", "annotation"), ("limit", str(FOUND)))
        )

    def found(self, mark: str, answer: Any) -> list[Made]:
        if not isinstance(answer, list):
            raise ValueError("no list")
        ids = [one["id"] for one in answer if _bears(one, mark) and isinstance(one.get("id"), int)]
        return [Made(str(id)) for id in sorted(ids)]

    def probe(self) -> GrafanaRequest:
        return GrafanaRequest(method="GET", path="/api/annotations", query=(("tags", "spanpost"), ("limit", "1")))


class Apis:
    """``/apis/annotation.grafana.app/v0alpha1``, in a namespace."""

    exists = frozenset({409})
    moves_end = False

    def __init__(self, namespace: str) -> None:
        self._base = f"/apis/annotation.grafana.app/v0alpha1/namespaces/{quote(namespace, safe='')}"

    @staticmethod
    def _name(note: Note) -> str:
        name = note.mark.replace(":", "-")
        return name if note.until_ms is None else f"{name}-{note.until_ms}"

    def post(self, note: Note) -> GrafanaRequest:
        spec: dict[str, Any] = {"text": note.text, "time": note.at_ms, "tags": list(note.tags)}
        if note.until_ms is not None:
            spec["timeEnd"] = note.until_ms
        if note.dashboard:
            spec["dashboardUID"] = note.dashboard
        body = {
            "apiVersion": "annotation.grafana.app/v0alpha1",
            "kind": "Annotation",
            "metadata": {"name": self._name(note)},
            "spec": spec,
        }
        return GrafanaRequest(method="POST", path=f"{self._base}/annotations", body=body)

    def made(self, note: Note, answer: Any) -> str:
        metadata = answer.get("metadata") if isinstance(answer, dict) else None
        name = metadata.get("name") if isinstance(metadata, dict) else None
        # A 409 is answered with a status object that does not name the resource.
        return name if isinstance(name, str) and name and answer.get("kind") != "Status" else self._name(note)

    def patch(self, id: str, note: Note) -> GrafanaRequest:
        body = {"spec": {"text": note.text, "tags": list(note.tags)}}
        path = f"{self._base}/annotations/{quote(id, safe='')}"
        return GrafanaRequest(method="PATCH", path=path, body=body, content_type="application/merge-patch+json")

    def delete(self, id: str) -> GrafanaRequest:
        return GrafanaRequest(method="DELETE", path=f"{self._base}/annotations/{quote(id, safe='')}")

    def find(self, mark: str) -> GrafanaRequest:
        return GrafanaRequest(method="GET", path=f"{self._base}/search", query=(("tag", mark), ("limit", str(FOUND))))

    def found(self, mark: str, answer: Any) -> list[Made]:
        items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(items, list):
            raise ValueError("no list of items")
        made = []
        for one in items:
            name, spec = _of(_of(one, "metadata"), "name"), _of(one, "spec")
            if isinstance(name, str) and name and _bears(spec, mark):
                ends = _of(spec, "timeEnd")
                made.append(Made(name, ends if isinstance(ends, int) else 0))
        return sorted(made, key=lambda m: (-m.until_ms, m.id))

    def probe(self) -> GrafanaRequest:
        return GrafanaRequest(method="GET", path=f"{self._base}/search", query=(("tag", "spanpost"), ("limit", "1")))


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _bears(value: Any, mark: str) -> bool:
    tags = _of(value, "tags")
    return isinstance(tags, Sequence) and mark in tags
