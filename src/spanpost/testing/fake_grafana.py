"""A fake of Grafana's annotations on a port of this machine, with faults.

It has both APIs over one store, as Grafana does. Like the real one it has no idempotency key (legacy API),
refuses tags of more than 500 characters together, accepts annotations for a dashboard that does not exist,
and allows changes of a resource's text and tags alone.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

from aiohttp import web

TOKEN: Final = "glsa_fake_0123456789_spanpost"
_APIS: Final = "/apis/annotation.grafana.app/v0alpha1/namespaces/default"


class GrafanaFault(StrEnum):
    """A fault before the call had an effect, or after it, when only the answer is lost."""

    THROTTLE = "throttle"
    ERROR_BEFORE = "500 before"
    ERROR_AFTER = "500 after"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"
    HANG_AFTER = "hang after"
    HTML_AFTER = "HTML after"
    AWAY = "502 before"

    @property
    def is_after(self) -> bool:
        """True when the call had its effect."""
        return self.value.endswith("after")


class FakeGrafana:
    """``async with FakeGrafana() as grafana: ... grafana.url, grafana.token``.

    `odds` are by method (``POST``); the faults of `script` come first.
    """

    def __init__(self, odds: Mapping[str, Mapping[GrafanaFault, float]] | None = None, *, seed: int = 0) -> None:
        self.token = TOKEN
        #: By id: text, time, timeEnd, tags, dashboardUID, name.
        self.annotations: dict[int, dict[str, Any]] = {}
        self.dashboards: set[str] = {"known"}
        self.odds = {method: dict(each) for method, each in (odds or {}).items()}
        #: (method, path, what became of it).
        self.asked: list[tuple[str, str, str]] = []
        self.dealt: Counter[str] = Counter()
        self._script: dict[str, deque[GrafanaFault | None]] = {}
        self._random = random.Random(seed)
        self._next = 0
        self._runner: web.AppRunner | None = None
        self._ends = asyncio.Event()
        self._port = 0

    async def __aenter__(self) -> FakeGrafana:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self._ends.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The value of `grafana.url`."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, method: str, faults: Iterable[GrafanaFault | None]) -> None:
        """Append faults of the next calls of a method."""
        self._script.setdefault(method, deque()).extend(faults)

    def shown(self, tag: str = "spanpost", dashboard: str = "") -> list[dict[str, Any]]:
        """Return what people see: on a dashboard that is there, or on any by tag; in order of time."""
        seen = [
            dict(a)
            for a in self.annotations.values()
            if tag in a["tags"] and (not dashboard or a["dashboardUID"] == dashboard)
        ]
        return sorted(
            (a for a in seen if not a["dashboardUID"] or a["dashboardUID"] in self.dashboards), key=lambda a: a["time"]
        )

    def doubles(self) -> list[str]:
        """Return the tags ``spanpost:…`` that more than one annotation bears."""
        counted = Counter(tag for a in self.annotations.values() for tag in a["tags"] if tag.startswith("spanpost:"))
        return [tag for tag, n in counted.items() if n > 1]

    # --- answers -----------------------------------------------------------------------------------------------------

    def _deal(self, method: str) -> GrafanaFault | None:
        script = self._script.get(method)
        if script:
            return script.popleft()
        dice = self._random.random()
        for fault, share in self.odds.get(method, {}).items():
            dice -= share
            if dice < 0:
                return fault
        return None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self._deal(request.method)
        if fault is not None:
            self.dealt[fault.value] += 1
        status, answer = 0, None
        if fault is None or fault.is_after:
            status, answer = self._answer(request, body)
        self.asked.append((request.method, request.path, fault.value if fault is not None else str(status)))
        match fault:
            case None:
                return web.json_response(answer, status=status)
            case GrafanaFault.THROTTLE:
                return web.json_response({"message": "Too many requests"}, status=429, headers={"Retry-After": "0"})
            case GrafanaFault.AWAY | GrafanaFault.HTML_AFTER:
                status = 502 if fault is GrafanaFault.AWAY else 200
                return web.Response(text="<html>Bad Gateway</html>", status=status, content_type="text/html")
            case GrafanaFault.ERROR_BEFORE | GrafanaFault.ERROR_AFTER:
                return web.json_response({"message": "Failed to save annotation"}, status=500)
            case GrafanaFault.HANG_AFTER:
                await self._ends.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    def _answer(self, request: web.Request, body: bytes) -> tuple[int, Any]:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"message": "Unauthorized"}
        path, query = request.path, request.rel_url.query
        try:
            said = json.loads(body) if body else {}
        except ValueError:
            return 400, {"message": "bad request data"}
        if path.startswith("/api/dashboards/uid/"):
            return (
                (200, {"dashboard": {}})
                if path.rpartition("/")[2] in self.dashboards
                else (404, {"message": "not found"})
            )
        if path == "/api/annotations" and request.method == "GET":
            wanted = query.getall("tags", [])
            found = [self._legacy(id) for id, a in self.annotations.items() if all(tag in a["tags"] for tag in wanted)]
            return 200, found[::-1][: int(query.get("limit", "100"))]
        if path == "/api/annotations" and request.method == "POST":
            return self._make(said, said.get("text"), said.get("time"), said.get("timeEnd"))
        if path.startswith("/api/annotations/"):
            return self._change(request.method, path.rpartition("/")[2], said)
        if path == f"{_APIS}/search":
            items = [self._resource(id) for id, a in self.annotations.items() if query.get("tag", "") in a["tags"]]
            return 200, {"items": items[: int(query.get("limit", "100"))]}
        if path == f"{_APIS}/annotations" and request.method == "POST":
            return self._create(said)
        if path.startswith(f"{_APIS}/annotations/"):
            return self._of_resource(request, path.rpartition("/")[2], said)
        return 404, {"message": "Not found"}

    def _make(self, said: dict[str, Any], text: Any, at: Any, until: Any, name: str = "") -> tuple[int, Any]:
        tags = said.get("tags") or []
        if not isinstance(text, str) or not text:
            return 400, {"message": "text field should not be empty"}
        if len(",".join(tags)) > 500:
            return 400, {"message": "tags length (501) exceeds the maximum allowed (500)"}
        self._next += 1
        self.annotations[self._next] = {
            "text": text,
            "time": at,
            "timeEnd": until or at,
            "tags": tags,
            "dashboardUID": said.get("dashboardUID") or "",
            "name": name or f"a-{self._next}",
        }
        return 200, {"message": "Annotation added", "id": self._next}

    def _change(self, method: str, id: str, said: dict[str, Any]) -> tuple[int, Any]:
        known = self.annotations.get(int(id)) if id.isdigit() else None
        if known is None:
            return 404, {"message": "Annotation not found"}
        if method == "DELETE":
            del self.annotations[int(id)]
            return 200, {"message": "Annotation deleted"}
        if len(",".join(said.get("tags") or [])) > 500:
            return 400, {"message": "tags length (501) exceeds the maximum allowed (500)"}
        known.update({key: said[key] for key in ("text", "tags", "time", "timeEnd") if key in said})
        return 200, {"message": "Annotation patched"}

    def _legacy(self, id: int) -> dict[str, Any]:
        known = self.annotations[id]
        return {"id": id, **{key: known[key] for key in ("text", "time", "timeEnd", "tags", "dashboardUID")}}

    # --- resources ---------------------------------------------------------------------------------------------------

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        name, spec = said["metadata"].get("name", ""), said["spec"]
        if any(a["name"] == name for a in self.annotations.values()):
            return 409, {"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409, "metadata": {}}
        status, answer = self._make(spec, spec.get("text"), spec.get("time"), spec.get("timeEnd"), name)
        return (
            (201, self._resource(answer["id"]))
            if status == 200
            else (422, {"kind": "Status", "message": answer["message"]})
        )

    def _of_resource(self, request: web.Request, name: str, said: dict[str, Any]) -> tuple[int, Any]:
        id = next((id for id, a in self.annotations.items() if a["name"] == name), None)
        if id is None:
            return 404, {"kind": "Status", "reason": "NotFound", "code": 404}
        if request.method == "DELETE":
            del self.annotations[id]
            return 200, {"kind": "Status", "status": "Success"}
        if request.content_type != "application/merge-patch+json":
            return 415, {"kind": "Status", "message": "unsupported media type"}
        if said.get("spec", {}).keys() - {"text", "tags"}:
            return 422, {"kind": "Status", "message": "spec.time, spec.timeEnd: field is immutable"}
        self.annotations[id].update(said["spec"])
        return 200, self._resource(id)

    def _resource(self, id: int) -> dict[str, Any]:
        known = self.annotations[id]
        ends = {"timeEnd": known["timeEnd"]} if known["timeEnd"] != known["time"] else {}
        spec = {key: known[key] for key in ("text", "time", "tags")} | ends
        return {
            "apiVersion": "annotation.grafana.app/v0alpha1",
            "kind": "Annotation",
            "metadata": {"name": known["name"]},
            "spec": spec,
        }
