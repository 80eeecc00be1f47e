"""Attribute sets: values that many audit rows share (`attribute_sets`), stored once and named by the rows.

A process uses a set only after it has read it back from the database with equal content. It asks for a set
once its content was met `OFTEN` times, so that unique values make no sets. Until then, and whenever in doubt,
a row holds everything itself: sets save bytes, and nothing depends on them.

Except for resources of more than `LARGE` bytes: a body states its resource once for thousands of spans. Such a
resource that `OFTEN` rows of a batch share becomes a set in the batch's own transaction, and is in no other set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

T = TypeVar("T")

#: Attributes with few distinct values: the kind of call, its model, tool, agent or service.
SHARED: Final = frozenset(
    {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model",
        "gen_ai.response.model", "gen_ai.response.finish_reasons", "gen_ai.output.type", "gen_ai.request.temperature",
        "gen_ai.request.max_tokens", "gen_ai.request.top_p", "gen_ai.request.top_k", "gen_ai.request.choice.count",
        "gen_ai.request.stop_sequences", "gen_ai.request.frequency_penalty", "gen_ai.request.presence_penalty",
        "gen_ai.request.encoding_formats", "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.tool.description",
        "gen_ai.tool.definitions", "gen_ai.system_instructions", "gen_ai.agent.name", "gen_ai.agent.id",
        "gen_ai.agent.description", "gen_ai.agent.version", "gen_ai.workflow.name", "agent.id", "agent.name",
        "agent.version", "agent.repo", "agent.topic", "agent.team", "agent.context.limit",
        "agent.context.window_tokens", "agent.task.type", "openinference.span.kind", "llm.model_name", "llm.provider",
        "llm.system", "llm.invocation_parameters", "llm.request.type", "llm.is_streaming", "llm.headers", "tool.name",
        "tool.description", "tool.parameters", "agent.type", "graph.node.id", "graph.node.name",
        "graph.node.parent_id", "input.mime_type", "output.mime_type", "traceloop.span.kind", "traceloop.entity.name",
        "traceloop.entity.path", "traceloop.workflow.name", "langsmith.span.kind", "langsmith.trace.name",
        "langsmith.metadata.ls_provider", "langsmith.metadata.ls_model_name", "langsmith.metadata.ls_model_type",
        "langsmith.metadata.ls_temperature", "logfire.msg_template", "logfire.json_schema", "model_name",
        "model_request_parameters", "http.request.method", "http.response.status_code", "http.method",
        "http.status_code", "http.scheme", "url.scheme", "server.address", "server.port", "network.protocol.version",
        "network.protocol.name", "net.peer.name", "net.peer.port", "user_agent.original", "db.system",
        "db.system.name", "db.namespace", "db.name", "db.operation.name", "messaging.system", "rpc.system",
        "rpc.service", "rpc.method", "mcp.method.name", "error.type", "service.name", "thread.name", "code.function",
        "code.function.name", "code.filepath", "code.file.path", "code.namespace",
    }
)  # fmt: skip
#: A process asks for a set again after this time: `retention` deletes unused sets after two days.
FRESH: Final = timedelta(hours=12)
#: How often content is met before it becomes a set.
OFTEN: Final = 4
#: Bytes of a resource, as JSON, that is not repeated: not by the rows of a batch, and not by several sets.
LARGE: Final = 4096
#: Most sets, and most contents that are counted, that a process remembers.
_MOST: Final = 8192
_LEARN: Final = """
WITH given AS (
  SELECT * FROM json_to_recordset($1::text::json)
    AS g(id bigint, tenant text, resource jsonb, scope text, name text, attributes jsonb)
), kept AS (
  INSERT INTO attribute_sets (id, tenant, resource, scope, name, attributes) SELECT * FROM given ORDER BY id
  ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at RETURNING *
)
SELECT g.id FROM given g JOIN kept k USING (id)
WHERE (k.tenant, k.resource, k.scope, k.name, k.attributes)
  IS NOT DISTINCT FROM (g.tenant, g.resource, g.scope, g.name, g.attributes)"""
_json: Final = msgspec.json.Encoder().encode


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a set. Resource and attributes are JSON."""

    tenant: str
    resource: msgspec.Raw
    scope: str
    name: str | None = None
    attributes: msgspec.Raw | None = None

    @property
    def id(self) -> int:
        """The set's id: the same content has the same one in every process."""
        return int.from_bytes(blake2b(_json(self), digest_size=8).digest(), "big", signed=True)


class AttributeSets:
    """The sets that one process knows."""

    def __init__(self) -> None:
        #: When a set was last asked for, by the database's clock.
        self._known: dict[int, datetime] = {}
        #: Since when sets count: an erasure deletes those that no row names, and those learned before may be gone.
        self._since = datetime.min.replace(tzinfo=UTC)
        #: How often contents without a set were met; those that were met often.
        self._met: dict[int, int] = {}
        self._wanted: dict[int, Content] = {}

    def find(self, content: Content, now: datetime) -> int | None:
        """Return the id of a content's set, or None while there is none."""
        id = content.id
        asked_at = self._known.get(id)
        return id if asked_at is not None and now - asked_at < FRESH and asked_at > self._since else None

    def forget(self, since: datetime) -> None:
        """Use no set that was learned before: it may be deleted."""
        self._since = max(self._since, since)

    def note(self, content: Content, count: int) -> None:
        """Note how many rows of a batch had to hold a content themselves."""
        id = content.id
        count += self._met.pop(id, 0)
        if count < OFTEN:
            _keep(self._met, id, count)
        elif len(self._wanted) < _MOST:
            self._wanted[id] = content

    async def learn(self, run: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]) -> None:
        """Ask the database for the sets that were met often, in a transaction of their own."""
        if not self._wanted:
            return
        wanted, self._wanted = self._wanted, {}

        async def work(connection: Any) -> tuple[datetime, set[int]]:
            return await connection.fetchval("SELECT now()"), await add(connection, wanted)

        try:
            now, ids = await run(work)
        except asyncpg.DataError:
            return  # a value that PostgreSQL refuses: the batch that has it is repaired
        for id in ids:
            _keep(self._known, id, now)


async def add(connection: Any, contents: Mapping[int, Content]) -> set[int]:
    """Make sets of contents, by id; return the ids of those that can be used from now on."""
    given = _json([{"id": id, **msgspec.structs.asdict(content)} for id, content in contents.items()]).decode()
    return {row[0] for row in await connection.fetch(_LEARN, given)}


def _keep(found: dict[int, T], id: int, value: T) -> None:
    """Set a value; the oldest goes when there are too many."""
    found.pop(id, None)
    found[id] = value
    if len(found) > _MOST:
        del found[next(iter(found))]
