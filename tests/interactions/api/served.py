"""A gateway with an API on a free port of this process, and clients of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import httpx

from spanpost.http.tokens import hash_of
from spanpost.model.observations import Observation
from spanpost.runtime.gateway import Gateway
from spanpost.settings import load
from spanpost.testing.exercise_people import asking, at_work
from spanpost.testing.observed import an_event, ended, started

ROLES = ("viewer", "operator", "approver", "auditor")


def tokens() -> list[dict[str, Any]]:
    """Return settings: a token for each role in `default`, and one with all of them in `other`."""
    own = [{"name": role, "sha256": [hash_of(f"spt_{role}")], "roles": [role]} for role in ROLES]
    return [*own, {"name": "theirs", "sha256": [hash_of("spt_theirs")], "roles": list(ROLES), "tenant": "other"}]


class Served:
    """A gateway that runs in the block. `as_of(role)` is a client with that role's token; `theirs` is
    another tenant's.
    """

    def __init__(self, dsn: str | None, **settings: Any) -> None:
        self._home = TemporaryDirectory()  # where this machine's token is kept
        given: dict[str, Any] = {
            "database": {"data_dir": Path(self._home.name) / "data"} | ({"url": dsn} if dsn is not None else {}),
            "gateway": {"http_port": 0, "grpc_port": -1},
            "interactions": {
                "tokens": tokens(),
                "rules": [
                    {"actions": ["start"], "launcher": "locked", "roles": ["approver"]},
                    {"actions": ["decide"], "agent": "asker", "roles": ["operator", "approver"]},
                ],
            },
            "api": {"heartbeat": 1},
            "launchers": {
                "named": {name: {"kind": "command", "command": ["/bin/true"]} for name in ("fix", "locked")},
                "retries": [{"launcher": "fix", "agent": "again"}],
            },
            "budgets": [
                {"name": "miners", "limit_usd": 10, "agent": "miner"},
                {"name": "asked", "limit_calls": 2, "agent": "asker", "at_limit": "ask", "warn_at": []},
            ],
        }
        self._given = {name: value for name, value in (given | settings).items() if value is not None}
        self.gateway = Gateway(load(**self._given))
        self._clients: list[httpx.Client] = []
        self._traces = 0
        self._is_stopped = False

    def __enter__(self) -> Served:
        self.gateway.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self.stop()

    def reload(self, **settings: Any) -> bool:
        """Let the gateway read its settings again, with these changes."""
        self.gateway._reread = lambda: load(**(self._given | settings))
        return self.gateway.reload()

    def stop(self) -> None:
        """Stop the gateway, once."""
        if not self._is_stopped:
            self._is_stopped = True
            self.gateway.stop()
            self._home.cleanup()

    @property
    def url(self) -> str:
        return self.gateway.http_url

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        given = headers | ({"authorization": f"Bearer {token}"} if token is not None else {})
        self._clients.append(httpx.Client(base_url=self.url, headers=given, timeout=60))
        return self._clients[-1]

    def here(self) -> httpx.Client:
        """Return a client with this machine's token."""
        return self.client(self.gateway.local_token)

    def opens(self, path: str) -> str:
        """Return a page's address as the terminal prints it: with this machine's token."""
        return f"{path}#token={self.gateway.local_token}"

    def as_of(self, role: str) -> httpx.Client:
        return self.client(f"spt_{role}")

    def record(self, *batch: Observation) -> None:
        """Record observations."""
        self.gateway.pipeline.ask(self.gateway.pipeline.record(batch))

    def trace(self) -> int:
        """Return a trace's number that no test has used."""
        self._traces += 1
        return self._traces

    def task(self, name: str, *, tenant: str = "default", **said: Any) -> dict[str, Any]:
        """Start a task; return it as the API shows it."""
        trace = self.trace()
        attributes = {"agent.task.name": name} | {key.replace("__", "."): value for key, value in said.items()}
        self.record(started(trace=trace, span=1, name="agent", attributes=attributes, tenant=tenant))
        client = self.client("spt_theirs" if tenant == "other" else "spt_auditor")
        found: dict[str, Any] = client.get(f"/api/tasks/{trace:032x}").raise_for_status().json()
        return found | {"trace": trace}

    def question(self, id: str, **more: Any) -> dict[str, Any]:
        """Let a task ask something; return the question."""
        trace = self.trace()
        self.record(at_work(f"asks {id}", trace=trace), asking(id, f"{id}?", trace=trace, **more))
        [found] = (
            self.as_of("auditor")
            .get("/api/approvals", params={"task": f"{trace:032x}"})
            .raise_for_status()
            .json()["items"]
        )
        return dict(found)

    def checkpoint(self, task: dict[str, Any], index: int, text: str, *, tenant: str = "default") -> Observation:
        """Report a checkpoint of a task."""
        said = {"agent.action": text}
        at = 1 + index / 1000  # of one moment they would be one occurrence
        return an_event(
            trace=task["trace"], span=1, name="agent.checkpoint", attributes=said, index=index, at=at, tenant=tenant
        )

    def end(self, task: dict[str, Any], *, tenant: str = "default", **more: Any) -> None:
        """End a task, by default as complete."""
        said = {"agent.task.name": task["name"]}
        self.record(ended(trace=task["trace"], span=1, name="agent", attributes=said, tenant=tenant, **more))


@contextmanager
def streamed(client: httpx.Client, after: str | None = None, **params: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """Open a stream; yield its events as they come, each with those of `event`, `id` and `data` that it has."""
    headers = {"last-event-id": after} if after is not None else {}
    with client.stream("GET", "/api/events", params=params, headers=headers) as answer:
        if answer.status_code != 200:
            answer.read()
        answer.raise_for_status()
        yield read_events(answer.iter_lines())


def read_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read a stream of events, comments too (as `comment`)."""
    event: dict[str, Any] = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        event[name or "comment"] = json.loads(value) if name == "data" else value


def until(events: Iterator[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the checkpoints up to the one with that text."""
    found = []
    for event in events:
        if event.get("event") == "checkpoint":
            found.append(event)
            if event["data"]["text"] == text:
                return found
    raise AssertionError(f"the stream ended before {text!r}")


def texts(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["data"]["text"] for event in events]
