"""Two hostile tenants of one gateway beside each other, compared with each of them alone.

Both send random telemetry with the same ids (`hostile_telemetry`) to one gateway, each request by another proof of its
tenant, over HTTP or gRPC, and lies beside it (`tenant_claims`); each sends the same to a gateway of its own. Then rows,
messages, figures, streams and answers of each tenant must be those of the tenant alone.

`python -m tests.faults.hostile_tenants --seconds 3600` runs for an hour and prints what was compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Set
from contextlib import AsyncExitStack, ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import find, fresh_database, made_server
from tests.eventually import eventually_async
from tests.faults.hostile_telemetry import TENANTS, WORDS, Sent, requests
from tests.faults.posted import Slack, final_states
from tests.faults.tenant_claims import Certificates, claimed
from tests.faults.tenant_sides import Side

#: End of the channel of a tenant that is alone.
_ALONE = "-alone"


def _of(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Columns and keys whose values follow from when and where a row was written.
_VOLATILE = _of(
    """
    received_at written_in set_id recorded_at updated_at last_seen_at xid id number used_at made_at expires_at lag
    touched_at created_at revision claimed_revision attempt claimed_at sent_at not_before finalized_at lease_until owner
    unsure lookups receipt idempotency_key decided_at reported_at gone_at last_at first_at asked_at escalated_at
    changed_at born_at due_at seen_at resumed_at salt url version message_url began_at ends_at upcoming permalink now
    timeend
    reserved_calls reserved_tokens reserved_usd left_calls left_tokens left_usd
    """
)
#: Tables about the program, and those that are compared as views (`audit_rows` as `agent_events`).
_NOT_COMPARED = _of(
    """
    audit_rows attribute_sets granted_roles heartbeats spanpost_version rate_limits session_secret redaction_key
    retention_floors retention_progress seal_state access_tokens timers budgets_begun
    """
)
#: Columns that follow from the time, by table: what a task's state notes, which call came last.
_OF_TIME = {
    "agent_tasks": _of("doc"),
    "deliveries": _of("rank urgency"),
    "model_usage": _of("at"),
    "task_state": _of("doc"),
    "task_redirects": _of("at"),
    "ordering_keys": _of("call rank"),
    "tenant_totals": _of("rows bytes measured_at"),
}
#: Figures that are measured now and then.
_MEASURED = ("spanpost_tenant_stored_rows", "spanpost_tenant_stored_bytes")
#: A row that spanpost made itself, at its own time.
_OWN_ROW, _OWN_COLUMNS = 5, _of("event_id content_hash occurred_at")
_RELATIONS = """
SELECT c.relname AS name, bool_or(a.attname = 'tenant') AS has_tenant FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
GROUP BY 1 ORDER BY 1"""
#: An id that spanpost has made; those of reservations are the agents'.
_UUID = re.compile(r"(?!0{8}-0{4})[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_END = re.compile(r"(?:✅ Complete|❌ Failed|✋ Waiting for a person|🛑 Cancelled).*(\(.*\))$", re.DOTALL)
_STARTED = datetime.now(UTC).isoformat()
#: Answers to lies about the tenant.
_REFUSED = frozenset({400, 401, 403})


#: What was shown of a task follows from the moment: whether it was announced before it became part of another.
_TIMED = frozenset({"messages", "streamed checkpoints", "rows of deliveries", "rows of task_redirects"})


class Comparison:
    """What differed, and how much was compared."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.crossed: list[str] = []
        self.differ: list[str] = []
        #: What differs and follows from the moment.
        self.timed: list[str] = []

    def text(self, tenant: str, what: str, text: str) -> None:
        """Check that a text of a tenant has no word of the other."""
        self.counts["texts searched"] += 1
        other = next(word for name, word in WORDS.items() if name != tenant)
        if other in text:
            at = text.index(other)
            self.crossed.append(f"{what} of {tenant}: ...{text[max(0, at - 200) : at + 60]}")

    def ids(self, tenant: str, what: str, found: Set[str], of_other: Set[str]) -> None:
        """Check that a tenant has no id that is the other's. Ids of spanpost are made of the tenant, too."""
        self.counts["ids searched"] += len(found)
        self.crossed += [f"{what} of {tenant}: id {one}" for one in sorted(found & of_other)]

    def same(self, what: str, together: Counter[str], alone: Counter[str]) -> None:
        """Check that what a tenant has beside the other is what it has alone."""
        self.counts[what] += together.total()
        if what in _TIMED:
            self.counts[f"{what}, different"] += ((together - alone) + (alone - together)).total()
            for title, left in (("beside the other", together - alone), ("alone", alone - together)):
                self.timed += [f"{what}: only {title}: {one[:600]}" for one in left]
            return
        for title, left in (("beside the other", together - alone), ("alone", alone - together)):
            self.differ += [f"{what}: only {title}: {one[:600]}" for one in left]


def canonical(value: Any) -> Any:
    """Return a value without its volatile keys, and without times of this run: telemetry is older."""
    if isinstance(value, dict):
        return {key: canonical(each) for key, each in value.items() if key not in _VOLATILE}
    if isinstance(value, str) and _TIME.match(value) and value > _STARTED:
        return "a time of this run"
    return [canonical(each) for each in value] if isinstance(value, list) else value


def _dumped(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True)


async def _send(together: Side, alone: Side, seed: int, began: int, until: float, rounds: int, seen: Comparison) -> int:
    """Send a tenant's stream to both gateways, each request to one after the other; return the number of rounds."""
    [tenant] = alone.tenants
    pause = random.Random(f"{seed} {tenant}")
    number = 0
    while number < rounds or time.monotonic() < until:
        stream = (one for plain in requests(seed, tenant, number, began) for one in claimed(pause, tenant, plain))
        for claim, sent in stream:
            first, second = await together.ask(claim, sent), await alone.ask(claim, sent)
            seen.counts["requests"] += 1
            seen.counts[
                f"{'lies' if claim.is_lie else 'proofs'}, {'gRPC' if claim.is_grpc else 'HTTP'}: {claim.way}"
            ] += 1
            if claim.is_lie and first[0] not in _REFUSED:
                seen.crossed.append(f"{tenant} {claim.way} {sent.path}: {first}")
            seen.counts["requests with another's resource beside"] += claim.is_beside
            if isinstance(sent.body, dict) and sent.path == "/v1/traces":
                seen.counts["spans"] += len(sent.body["resourceSpans"][0]["scopeSpans"][0]["spans"])
            seen.counts[f"status {first[0]}"] += 1
            seen.text(tenant, sent.path, first[1])
            if not sent.path.startswith("/v1/"):
                seen.same("answers", Counter([_answer(sent, first)]), Counter([_answer(sent, second)]))
            elif first[0] != second[0]:
                seen.differ.append(f"{tenant} {sent.path}: {first} beside the other, {second} alone")
        number += 1
        if not rounds:
            await asyncio.sleep(pause.uniform(0.0, 0.4))
    return number


def _answer(sent: Sent, answer: tuple[int, str]) -> str:
    try:
        return f"{sent.path} {answer[0]} {_dumped(json.loads(answer[1]))}"
    except ValueError:
        return f"{sent.path} {answer[0]} {answer[1]}"


async def _rows(side: Side, seen: Comparison) -> tuple[dict[tuple[str, str], Counter[str]], dict[str, set[str]]]:
    """Return rows by table and tenant, of tables without tenants by an empty name; and all ids by tenant."""
    ids: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
    connection = await asyncpg.connect(side.dsn)
    found: dict[tuple[str, str], Counter[str]] = {}
    for relation in await connection.fetch(_RELATIONS):
        name = relation["name"]
        if name in _NOT_COMPARED:
            continue
        async with connection.transaction():
            async for row in connection.cursor(f"SELECT to_jsonb(q)::text FROM {name} q"):
                whole = json.loads(row[0])
                if whole.get("action") == "start_gateway":  # an act of the program
                    continue
                tenant = whole.get("tenant") or "" if relation["has_tenant"] else ""
                if tenant:
                    seen.text(tenant, name, row[0])
                    ids[tenant].update(_UUID.findall(row[0]))
                found.setdefault((name, tenant), Counter())[_row(name, whole)] += 1
    await connection.close()
    return found, ids


def _row(table: str, row: dict[str, Any]) -> str:
    dropped = _OF_TIME.get(table, frozenset())
    if table == "agent_events" and row["part"] == _OWN_ROW:
        dropped = _OWN_COLUMNS
    whole = _dumped({name: value for name, value in row.items() if name not in dropped})
    return whole.replace(_ALONE, "")


def _messages(state: Any, channel: str) -> list[Any]:
    names = {name: key for key, name in state.get("names", {}).items()}
    return list(state["channels"].get(names.get(channel, channel), []))


def _shown(message: Any) -> str:
    """Return a message's text. A reply that says an end is written as the task was at that moment."""
    text = str(message["text"])
    if message.get("thread_ts", message["ts"]) != message["ts"] and (end := _END.match(text)):
        return f"an end {end[1]}"
    return text


def _checkpoints(lines: list[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: ") and kind == "checkpoint":
            found[_dumped(json.loads(line[6:]))] += 1
    return found


async def _final(side: Side) -> None:
    """Wait until usage is final and every delivery has arrived."""
    connection = await asyncpg.connect(side.dsn)

    async def is_quiet() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM timers WHERE at < now() + interval '2 minutes'")

    with suppress(AssertionError):  # the comparison says what is missing
        await eventually_async(is_quiet, limit=120)
    await connection.close()
    states = await final_states(side.dsn, 300)
    assert set(states) <= {"delivered"}, states


def _compare_figures(figures: list[dict[tuple[str, str], float]], seen: Comparison) -> None:
    together, *alone = figures
    for key in sorted(set().union(*figures)):
        name, labels = key
        if name in _MEASURED:
            continue
        tenant = next((one for one in TENANTS if f'tenant="{one}"' in labels), "")
        of = [each.get(key, 0.0) for each in alone]
        expected = of[TENANTS.index(tenant)] if tenant else sum(of)
        seen.counts["figures"] += 1
        if not abs(together.get(key, 0.0) - expected) < 1e-6:
            seen.differ.append(f"figure {name}{{{labels}}}: {together.get(key)} beside the other, {of} alone")


def compare(server: str, home: Path, *, seed: int, seconds: float = 0, rounds: int = 0) -> Comparison:
    """Run both tenants for a time, and at least so many rounds; return the comparison."""
    with ExitStack() as stack:
        dsns = [stack.enter_context(fresh_database(server)) for _ in range(1 + len(TENANTS))]
        return asyncio.run(_compare(dsns, home, seed, seconds, rounds))


async def _compare(dsns: list[str], home: Path, seed: int, seconds: float, rounds: int) -> Comparison:
    seen = Comparison()
    began = time.time_ns() - 600 * 10**9
    with ExitStack() as stack:
        channels = [f"{tenant}{more}" for tenant in TENANTS for more in ("", _ALONE)]
        slack = Slack(home / "slack.json", *(word for name in channels for word in ("--channel", f"#{name}")))
        stack.callback(slack.close)
        sides = []
        certificates = Certificates(home)
        named = (("both", TENANTS, ""), *((one, (one,), _ALONE) for one in TENANTS))
        for dsn, (name, tenants, channel) in zip(dsns, named, strict=True):
            side = Side(dsn, home / name, slack.url, tenants, channel, certificates)
            stack.callback(side.gateway.kill)
            sides.append(side)
        for side in sides:
            side.url = side.gateway.ready().http
        together, *others = sides
        async with AsyncExitStack() as clients:
            for side in sides:
                clients.push_async_callback(side.close)
            following = [asyncio.create_task(side.follow(tenant)) for side in sides for tenant in side.tenants]
            # A stream begins with what comes after it.
            await eventually_async(lambda: all(all(side.streams.values()) for side in sides))
            until = time.monotonic() + seconds
            sent = await asyncio.gather(*(_send(together, alone, seed, began, until, rounds, seen) for alone in others))
            seen.counts["rounds"] = sum(sent)
            for side in sides:
                await _final(side)
            with suppress(AssertionError):  # the comparison says what is missing
                await eventually_async(lambda: all(_is_streamed(together, alone) for alone in others), limit=30)
            figures = [await side.figures() for side in sides]
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        _compare_figures(figures, seen)
        read = [await _rows(side, seen) for side in sides]
        rows = [found for found, _ in read]
        for side in sides:
            assert side.gateway.end() == 0
        state = slack.end()
    for name, tenant in sorted(set().union(*rows)):
        both, *of_alone = (each.get((name, tenant), Counter()) for each in rows)
        seen.same(f"rows of {name}", both, sum(of_alone, Counter()))
    for number, side in enumerate(others):
        [tenant] = side.tenants
        lines = together.streams[tenant]
        of_other = read[2 - number][1][TENANTS[1 - number]]
        seen.ids(tenant, "rows", read[0][1][tenant], of_other)
        seen.ids(tenant, "stream", set(_UUID.findall("\n".join(lines))), of_other)
        seen.text(tenant, "stream", "\n".join(lines))
        seen.same("streamed checkpoints", _checkpoints(lines), _checkpoints(side.streams[tenant]))
        beside, alone = _messages(state, tenant), _messages(state, side.channels[tenant])
        seen.text(tenant, "messages", json.dumps(beside))
        seen.ids(tenant, "messages", set(_UUID.findall(json.dumps(beside))), of_other)
        seen.same("messages", Counter(map(_shown, beside)), Counter(map(_shown, alone)))
    return seen


def _is_streamed(together: Side, alone: Side) -> bool:
    return all(_checkpoints(together.streams[one]) == _checkpoints(alone.streams[one]) for one in alone.tenants)


def main() -> None:
    """Run for the time that the arguments say, and print what was compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.hostile_tenants", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0, help="how long the tenants send")
    parser.add_argument("--rounds", type=int, default=0, help="at least so many rounds of each")
    parser.add_argument("--seed", type=int, default=1, help="seed of the ids and of the telemetry")
    given = parser.parse_args()
    began = time.monotonic()
    with made_server(Path(find("postgres"))) as server, tempfile.TemporaryDirectory() as home:
        seen = compare(server, Path(home), seed=given.seed, seconds=given.seconds, rounds=given.rounds)
    for name, number in sorted(seen.counts.items()):
        print(f"{number:>10} {name}")
    for title, found in (("crossed", seen.crossed), ("different", seen.differ), ("timed", seen.timed)):
        print(f"{len(found):>10} {title}")
        for one in found[:40]:
            print(f"           {one}")
    print(f"{time.monotonic() - began:>10.0f} seconds in all, seed {given.seed}")


if __name__ == "__main__":
    main()
