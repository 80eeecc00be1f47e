"""Client of a gateway's API: its address, its answers, and its event stream."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit
from uuid import UUID

import typer

from spanpost.http.hosts import is_loopback
from spanpost.model.acts import CLIENT_HEADER
from spanpost.model.errors import ConfigError, SpanpostError
from spanpost.model.readings import Approval, Failure
from spanpost.model.tasks import BETWEEN_PROMPTS, Task
from spanpost.semconv import WAITING
from spanpost.settings import TOKEN_VARIABLE, URL_VARIABLE

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar=URL_VARIABLE,
        help=f"Call the API of this gateway, with the token in {TOKEN_VARIABLE}, or this machine's.",
    ),
]
#: Default address of a gateway.
HERE: Final = "http://127.0.0.1:4318"
#: Pauses before reconnecting to the stream, first and longest; and the timeout of an answer. Seconds.
_AGAIN: Final = (1.0, 15.0)
_TIMEOUT: Final = 30.0
_PAGE: Final = 200


class RemoteAnswered(SpanpostError):
    """The gateway refused a request, or failed. `status` is that of HTTP, 0 without an answer."""

    def __init__(self, said: str, status: int = 0) -> None:
        super().__init__(said)
        self.status = status


class Remote:
    """A gateway's API, used as a context manager. This machine's token is kept beside `data_dir`; None:
    that of the settings.
    """

    def __init__(
        self, url: str, data_dir: Path | None = None, *, client: str = "cli", timeout: float = _TIMEOUT
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise ConfigError(f"--url: {error.name} is missing; install it with: pip install 'spanpost[api]'") from None
        is_here = _is_here(url)
        token = os.environ.get(TOKEN_VARIABLE, "").strip() or (token_here(data_dir) if is_here else "")
        headers = {CLIENT_HEADER: client, **({"authorization": f"Bearer {token}"} if token else {})}
        self._failures = (httpx.HTTPError, httpx.InvalidURL)
        try:
            base = url.rstrip("/").removesuffix("/api")
            self._address = _address(base)
            # Never use a proxy of the environment: it would see the token, which the gateway refuses from a
            # proxy.
            self._client = httpx.Client(base_url=base, headers=headers, timeout=timeout, trust_env=not is_here)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            raise ConfigError("--url is no address; write it as http://host:4318") from None

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, asked: Mapping[str, Any]) -> Any:
        """Return an answer. Raises `RemoteAnswered`."""
        return self._ask("GET", path, params=_said(asked))

    def post(self, path: str, body: Mapping[str, Any], idempotency_key: str) -> Any:
        """Send an action, which is done once however often it is tried. Raises `RemoteAnswered`."""
        return self._ask("POST", path, json=dict(body), headers={"idempotency-key": idempotency_key})

    def items(self, path: str, asked: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the items of a list, at most `most`, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < most:
            more = {"cursor": cursor} if cursor else {}
            page = self.get(path, {**asked, "limit": min(_PAGE, most - len(found)), **more})
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        return found

    def follow(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield events forever and resume after an interruption. Raises `RemoteAnswered` for permanent errors."""
        place, pause = "", _AGAIN[0]
        while True:
            try:
                headers = {"last-event-id": place} if place else {}
                with self._client.stream(
                    "GET", "/api/events", params=_said(asked), headers=headers, timeout=90.0
                ) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        self._refuse(answer, is_final=answer.status_code < 500)
                    else:
                        pause = _AGAIN[0]
                        for event in _events(answer.iter_lines()):
                            place = event.get("id", place)
                            if "event" in event:
                                yield event
            except self._failures as error:
                print(
                    f"spanpost: the gateway at {self._address} cannot be reached ({type(error).__name__}), trying "
                    f"again in {pause:g} s; check --url",
                    file=sys.stderr,
                )
            time.sleep(pause)
            pause = min(pause * 2, _AGAIN[1])

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        try:
            answer = self._client.request(method, path, **given)
        except self._failures as error:
            said = f"the gateway at {self._address} cannot be reached ({type(error).__name__})"
            raise RemoteAnswered(f"{said}; check --url") from None
        if answer.status_code >= 300:
            self._refuse(answer, is_final=True)
        try:
            return answer.json()
        except ValueError:
            raise RemoteAnswered("the server there is not spanpost; check --url") from None

    @staticmethod
    def _refuse(answer: Any, *, is_final: bool) -> None:
        try:
            error = answer.json()  # a google.rpc.Status
            fields = [one["field"] for detail in error.get("details", ()) for one in detail.get("fieldViolations", ())]
            said = f"{error['message']}{' (' + fields[0] + ')' if fields else ''}"
        except (ValueError, KeyError, TypeError, AttributeError):
            said = f"it answers {answer.status_code}; is it a spanpost with spanpost[api]?"
        if answer.status_code == 401:
            said += f"; the token is read from {TOKEN_VARIABLE}"
        if is_final:
            raise RemoteAnswered(f"the gateway: {said}", answer.status_code)
        print(f"spanpost: the gateway: {said}, trying again", file=sys.stderr)


def token_here(data_dir: Path | None) -> str:
    """Return this machine's token; empty if no gateway of this user keeps one."""
    from spanpost import settings
    from spanpost.runtime import local_token
    from spanpost.settings.database import default_data_dir

    if data_dir is None:
        try:
            data_dir = settings.load().database.data_dir
        except ConfigError:  # this command does not depend on the settings
            data_dir = default_data_dir()
    return local_token.found(data_dir)


def _address(url: str) -> str:
    """Return the host and port of an address, without a password."""
    return urlsplit(url).netloc.rpartition("@")[2][:200] or "--url"


def _is_here(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _said(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value not in (None, "", False, (), [])}


def path_of(ref: str) -> str:
    """Return an id as one segment of a path. Dots are escaped too: `..` would be another resource."""
    return quote(ref, safe="").replace(".", "%2E")


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the whole events of a stream; one that broke off is dropped."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            event[name] = value.removeprefix(" ")
        elif not line and event:
            if "data" in event:
                try:
                    event["data"] = json.loads(event["data"])
                except ValueError:
                    raise RemoteAnswered("the server there is not spanpost; check --url") from None
            yield event
            event = {}


def task_of(fields: Mapping[str, Any]) -> Task:
    """Return a task of the API, with the fields that tables show."""

    def at(name: str) -> datetime | None:
        return datetime.fromisoformat(fields[name]) if fields.get(name) else None

    same = (
        "task_id",
        "agent_name",
        "status",
        "progress",
        "action",
        "last_checkpoint",
        "ask",
        "answer",
        "step_name",
        "step_index",
        "step_count",
        "child_count",
        "child_failed",
        "child_question",
        "llm_calls",
        "tool_calls",
        "tool_errors",
        "input_tokens",
        "output_tokens",
        "unpriced_calls",
        "context_used_tokens",
        "context_window_tokens",
    )
    return Task(
        uid=UUID(fields["uid"]),
        tenant=fields["tenant"],
        parent_uid=UUID(fields["parent_uid"]) if fields.get("parent_uid") else None,
        name=fields["name"] or "",
        is_named=fields.get("named", False),
        is_inferred=fields["inferred"],
        rule="" if fields.get("waits_for_person", True) or fields["status"] != WAITING else BETWEEN_PROMPTS,
        started_at=at("started_at"),
        ended_at=at("ended_at"),
        last_activity_at=at("last_activity_at"),
        cost_usd=Decimal(fields["cost_usd"]) if fields.get("cost_usd") else None,
        context_window_source=fields.get("context_window_source") or "",
        approvals=(Approval(id="", question=question),) if (question := fields.get("question")) else (),
        error=Failure(message=failure) if (failure := fields.get("failure")) else None,
        **{name: fields[name] for name in same if name in fields},
    )
