"""Random telemetry of two hostile tenants: every id is shared, every text is of one tenant.

The ids of a round follow from the seed and the round's number alone. Which spans are sent, in which order and with
which figures follows from the tenant, too. So each tenant's spans name parents, links, tasks and sessions that only
the other tenant has sent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

TENANTS = ("red", "blue")
#: A word of each tenant that stands in all of its texts.
WORDS = {tenant: f"{tenant}word" for tenant in TENANTS}
_SECOND = 10**9
#: Spans of a round besides its root span.
_SPANS = 9
#: Rounds that a link, a parent task or a repeated call may refer to.
_BACK = 6
_MODELS = ("gpt-4o", "claude-sonnet-4-5", "a-model-without-a-price")


class Sent(NamedTuple):
    """A request: method, path, body as JSON or as it is, and further headers."""

    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    #: Sent with the tenant's token of the API in place of the sender's.
    is_api: bool = False


class Round:
    """The ids of one round, the same for both tenants."""

    def __init__(self, seed: int, number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        self.number = number
        self.trace = f"{chance.getrandbits(128):032x}"
        self.spans = [f"{chance.getrandbits(64):016x}" for _ in range(_SPANS + 1)]
        self.task = f"job-{number // 2}" if number % 3 == 0 else f"job-of-round-{number}"
        self.talk = f"talk-{number % 7}"
        self.approval = f"release-{number}"
        self.responses = [f"resp-{number // 2}-{i}" for i in range(3)]
        self.producer = f"process-{number % 5}"
        self.fingerprint = f"{number % 11:016x}"
        self.reservation = f"00000000-0000-4000-8000-{number:012x}"


def requests(seed: int, tenant: str, number: int, began: int) -> Iterator[Sent]:
    """Yield a tenant's requests of a round, in their order; `began` is the stream's start in nanoseconds since 1970."""
    chance = random.Random(f"{seed} {tenant} {number}")
    ids, word = Round(seed, number), WORDS[tenant]
    back = Round(seed, max(0, number - chance.randrange(1, _BACK)))
    other = next(one for one in TENANTS if one != tenant)
    at = began + number * _SECOND // 10
    root, *rest = _spans(chance, ids, back, word, tenant, at)
    # The root span's start comes first, so that the task is announced at once, whatever the load.
    yield _traces(tenant, other, [root | {"endTimeUnixNano": "0", "status": {}}])
    yield Sent("/v1/logs", _logs(_records(chance, ids, word, tenant, at), tenant, other))
    whole = [root, *rest]
    chance.shuffle(whole)
    for start in range(0, len(whole), 4):
        yield _traces(tenant, other, whole[start : start + 4])
    yield from _asked(chance, ids, back, word, tenant, other, number)
    if chance.random() < 0.2:
        yield _traces(tenant, other, chance.sample(whole, 2))


def _spans(chance: random.Random, ids: Round, back: Round, word: str, tenant: str, at: int) -> Iterator[dict[str, Any]]:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "worker", "gen_ai.conversation.id": ids.talk}
    task = {
        "agent.task.id": ids.task,
        "agent.task.name": f"{word} task {ids.number}",
        "agent.repo": f"{word}/repository",
        "agent.requested_by": f"{word}@example.com",
        "agent.result.pull_request": f"https://git.example/{word}/{ids.number}",
    }
    if chance.random() < 0.4:
        named = chance.choice([back.task, f"job-of-{tenant}", "job-of-red", "job-of-blue"])
        task |= {chance.choice(["agent.task.parent_id", "agent.retry_of", "agent.caused_by"]): named}
    yield _span(ids, 0, "invoke_agent worker", agent | task, at, at + 60 * _SECOND, "", chance.choice([1, 1, 1, 2]))
    for place in range(1, _SPANS + 1):
        if chance.random() < 0.3:  # the other tenant may send it
            continue
        parent = ids.spans[chance.randrange(0, place)]
        begin = at + place * _SECOND
        match chance.randrange(4):
            case 0:
                name = "execute_tool search"
                values: dict[str, Any] = {
                    "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search",
                    "gen_ai.tool.call.id": f"call-{ids.number}-{place}",
                }  # fmt: skip
            case 1:
                name = "invoke_agent helper"
                values = agent | {"gen_ai.agent.name": "helper", "agent.task.id": f"{ids.task}-{place % 3}"}
                values |= {"agent.task.name": f"{word} part {place}"}
            case _:
                name = "chat"
                values = {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.request.model": chance.choice(_MODELS),
                    "gen_ai.response.id": chance.choice(ids.responses),
                    "gen_ai.conversation.id": ids.talk,
                    "gen_ai.usage.input_tokens": chance.randrange(1, 5000),
                    "gen_ai.usage.output_tokens": chance.randrange(1, 500),
                }
        linked = chance.choice([back, ids])
        links = [{"traceId": linked.trace, "spanId": chance.choice(linked.spans)}] if chance.random() < 0.4 else []
        status = chance.choice([0, 0, 1, 2])
        made = _span(
            ids, place, name, values | {"note": word}, begin, begin + chance.randrange(_SECOND), parent, status
        )
        if status == 2:
            made["status"]["message"] = f"{word} failed at {place}"
        yield made | {"links": links}


def _records(chance: random.Random, ids: Round, word: str, tenant: str, at: int) -> Iterator[dict[str, Any]]:
    events: list[tuple[str, dict[str, Any]]] = [
        ("agent.checkpoint", {"agent.checkpoint.message": f"{word} reached {chance.randrange(100)}"}),
        ("agent.artifact", {"agent.artifact.name": f"{word} patch", "agent.artifact.uri": "https://git.example/1"}),
        ("agent.approval.requested", {
            "agent.approval.id": ids.approval, "agent.approval.question": f"May {word} release {ids.number}?",
        }),
        ("agent.approval.resolved", {
            "agent.approval.id": ids.approval, "agent.approval.decision": chance.choice(["approve", "deny"]),
            "agent.approval.by": word,
        }),
        ("gen_ai.evaluation.result", {
            "gen_ai.evaluation.name": "helpful", "gen_ai.evaluation.score.value": chance.randrange(100) / 100,
            "gen_ai.response.id": ids.responses[0], "gen_ai.evaluation.explanation": word,
        }),
    ]  # fmt: skip
    for index, (name, values) in enumerate(events):
        if chance.random() < 0.6:
            yield {
                "timeUnixNano": str(at + (index + 1) * _SECOND), "traceId": ids.trace, "spanId": ids.spans[0],
                "eventName": name, "attributes": _attributes(values | {
                    "agent.producer": ids.producer, "agent.seq": ids.number * 10 + index}),
            }  # fmt: skip


def _asked(
    chance: random.Random, ids: Round, back: Round, word: str, tenant: str, other: str, number: int
) -> Iterator[Sent]:
    """Yield requests for answers, decisions and lists, and those that must be refused."""
    yield Sent(f"/control/v1/approvals/{ids.approval}")
    yield Sent(f"/control/v1/tasks/{chance.choice([ids, back]).task}")
    match number % 8:
        case 0:
            body = {"id": ids.reservation, "ref": ids.task, "tokens": chance.randrange(1000)}
            yield Sent("/control/v1/budget/reservations", body)
        case 1:
            yield Sent("/control/v1/budget/returns", {"id": Round(0, number - 1).reservation})
        case 2:
            body = {"decision": chance.choice(["approve", "deny"]), "comment": f"{word} says so"}
            yield Sent(f"/api/approvals/{ids.approval}/decision", body, is_api=True)
        case 3:
            labels = {"alertname": "Slow", "summary": word, "severity": "warning"}
            alert = {
                "status": "firing", "labels": labels, "annotations": {"summary": f"{word} is slow"},
                "startsAt": "2026-11-21T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": ids.fingerprint,
            }  # fmt: skip
            yield Sent("/alerts/alertmanager", {"version": "4", "status": "firing", "alerts": [alert]})
        case 4:
            # It is not a router's token: the header is refused.
            yield _traces(tenant, other, [], {"spanpost-forwarded-tenant": other})
        case 5:
            yield Sent("/v1/traces", b"{]")
        case 6:
            yield Sent(f"/api/tasks/{ids.task}", is_api=True)
            yield Sent(f"/api/tasks/{ids.trace}", is_api=True)
        case _:
            yield Sent(f"/api/tasks/job-of-{other}", is_api=True)
            yield Sent(f"/api/approvals/{back.approval}", is_api=True)


def _span(
    ids: Round, place: int, name: str, values: dict[str, Any], start: int, end: int, parent: str, status: int
) -> dict[str, Any]:
    made = {
        "traceId": ids.trace, "spanId": ids.spans[place], "name": name, "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end), "attributes": _attributes(values), "status": {"code": status},
    }  # fmt: skip
    return made | ({"parentSpanId": parent} if parent else {})


def _traces(tenant: str, other: str, spans: list[Any], headers: dict[str, str] | None = None) -> Sent:
    whole = {"resourceSpans": [{"resource": _resource(tenant, other), "scopeSpans": [{"spans": spans}]}]}
    return Sent("/v1/traces", whole, headers or {})


def _logs(records: Iterator[Any], tenant: str, other: str) -> Any:
    scopes = [{"logRecords": list(records)}]
    return {"resourceLogs": [{"resource": _resource(tenant, other), "scopeLogs": scopes}]}


def _resource(tenant: str, other: str) -> dict[str, Any]:
    # No setting allows these names: they say nothing.
    return {"attributes": _attributes({"service.name": "worker", "tenant": other, "tenant.id": other, "by": tenant})}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {int: "intValue", float: "doubleValue", str: "stringValue"}
    return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in values.items()]
