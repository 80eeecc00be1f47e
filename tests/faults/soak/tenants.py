"""A gateway with tokens: a tenant whose token is rotated while it sends, and one that attacks beside it."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from tests.acceptance.gateway_process import request
from tests.eventually import eventually
from tests.faults.soak.actors import Threads
from tests.faults.soak.sent import SentTask, sent_task, span
from tests.faults.soak.world import PEOPLE, PORTS, STARTS_WITHIN, Gateway, World, choice_of, free_port, now

#: Its rows and tasks are not compared with what was sent: it sends the ids of the others.
ATTACKER = "red"
_HONEST = "blue"
#: Seconds until a gateway that was reloaded refuses a revoked token, on a machine that is busy.
REFUSED_WITHIN = 60.0
_PROTOBUF = {"content-type": "application/x-protobuf"}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Tenants(Threads):
    """The gateway, which reads its tokens again at SIGHUP, and the senders of both tenants."""

    name = "tenants"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        #: Seconds from a reload until the revoked token was refused.
        self.refused_after: list[float] = []
        self._tokens = ["blue-0"]
        #: Prometheus scrapes it, too: it records from the journal what the others accepted.
        self.gateways = list[Gateway]()

    def start(self) -> None:
        self._directory = self.world.directory / "guarded"
        self._directory.mkdir()
        self._write()
        scraping = {"SPANPOST_GATEWAY__OPERATOR_TOKENS": json.dumps([_hash(token) for token in PEOPLE.values()])}
        variables = self.world.settings() | self.world.variables | scraping
        ports = {"http": free_port(PORTS), "grpc": free_port(PORTS)}
        self.gateway = Gateway(self.world.database.dsn, self._directory, **ports, **variables)
        self.gateways.append(self.gateway)
        self.world.on_end(self.gateway.kill)
        eventually(lambda: self.gateway.is_ready, limit=STARTS_WITHIN)
        self.begin(self._send)
        self.begin(self._attack)

    def _write(self) -> None:
        hashes = {_HONEST: [_hash(token) for token in self._tokens], ATTACKER: [_hash("red")]}
        (self._directory / "spanpost.toml").write_text(
            "".join(
                f'[[gateway.tokens]]\ntenant = "{tenant}"\nsha256 = {json.dumps(hashed)}\n'
                for tenant, hashed in hashes.items()
            )
        )

    def _reload(self) -> None:
        self._write()
        self.gateway.process.send_signal(signal.SIGHUP)

    # --- the tenant whose token is rotated ---------------------------------------------------------------------------

    def _send(self) -> None:
        world, chance = self.world, choice_of(self.world.seed, "blue")
        for count in itertools.count():
            if world.closing.is_set():
                return
            task = sent_task(f"{world.seed}-blue-{count}", chance)
            spans = list(task.spans)
            chance.shuffle(spans)
            if count % 3 == 2:
                old, new = self._tokens[-1], f"blue-{count}"
                self._tokens = [old, new]
                self._reload()
                self._until_answered(new, 200)
                if self._deliver(spans[:10], new) and self._deliver(spans[10:], new):
                    world.sent.complete(task)
                self._tokens = [new]
                self._reload()
                began = now()
                self._until_answered(old, 401)
                self.refused_after.append(round(now() - began, 2))
            elif self._deliver(spans[:10], self._tokens[-1]) and self._deliver(spans[10:], self._tokens[-1]):
                world.sent.complete(task)
            world.closing.wait(1.0)

    def _deliver(self, spans: Sequence[ReadableSpan], token: str) -> bool:
        """Send until it is acknowledged. A token that was not revoked is never refused."""
        given_up = float("inf")
        while now() < given_up:
            status = self._post(encode_spans(spans).SerializeToString(), token)
            if status == 200:
                self.world.sent.acknowledge(spans)
                return True
            if status not in (0, 503):
                self.wrong.append(f"the valid token {token} was answered {status}")
                return False
            if self.world.closing.is_set():
                given_up = min(given_up, now() + 90)
            self.world.closing.wait(0.2)
        self.world.sent.give_up(len(spans))
        return False

    def _until_answered(self, token: str, wanted: int) -> None:
        """Send an empty request until its answer is of that status. A database that is away proves nothing."""
        until = now() + REFUSED_WITHIN
        while (status := self._post(b"", token)) != wanted:
            if now() > until:
                self.wrong.append(f"{token} is answered {status} instead of {wanted} for {REFUSED_WITHIN:g} s")
                return
            time.sleep(0.05)  # as a client does that tries it again

    def _post(self, body: bytes, token: str, **headers: str) -> int:
        with suppress(OSError, http.client.HTTPException):
            more = _PROTOBUF | {"authorization": f"Bearer {token}"} | headers
            status, _ = request(f"{self.gateway.url}/v1/traces", body, timeout=5, **more)
            return status
        return 0

    # --- the tenant that attacks -------------------------------------------------------------------------------------

    def _attack(self) -> None:
        world, chance = self.world, choice_of(self.world.seed, "red")
        kinds = attacks(world.seed)
        for count in itertools.count():
            if world.closing.is_set():
                return
            attack = kinds[count % len(kinds)]
            status = self._strike(attack, chance)
            self.answers[f"{attack.name}: {status}"] += 1
            if status not in (0, 503, *attack.answers):
                self.wrong.append(f"{attack.name} was answered {status}, not {attack.answers}")
            world.closing.wait(0.5)

    def _strike(self, attack: Attack, chance: random.Random) -> int:
        address = urlsplit(self.gateway.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        headers = _PROTOBUF | {"authorization": "Bearer red"} | attack.headers
        body = attack.body if attack.body is not None else _hostile(self.world.seed, chance)
        try:
            connection.request(attack.method, attack.path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def findings(self) -> Sequence[str]:
        """Return the wrong answers, and the rows of the attacker in other tenants."""
        strays = self.world.database.rows(
            "SELECT count(*) FROM agent_tasks WHERE tenant <> 'red' AND name LIKE 'Red %'"
        )
        return [
            *self.wrong[:5],
            *([f"{strays[0][0]} tasks of the attacker are another tenant's"] if strays[0][0] else []),
        ]

    def notes(self) -> Sequence[str]:
        """Return how long a revoked token was accepted, and what the attacks were answered."""
        longest = max(self.refused_after, default=0)
        return (
            f"{len(self.refused_after)} tokens were revoked, and refused at most {longest} s after the reload",
            f"{self.answers.total()} attacks of {len(self.answers)} kinds and answers",
        )


@dataclass(frozen=True)
class Attack:
    """A request that a tenant should not send, and its good answers. `body` None: hostile telemetry."""

    name: str
    answers: Sequence[int]
    body: bytes | None = b""
    path: str = "/v1/traces"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def attacks(seed: int) -> Sequence[Attack]:
    """Return the attacks, in the order in which they are repeated."""
    garbage = random.Random(seed).randbytes(5000)
    bomb = gzip.compress(b"\0" * (80 << 20), 1)
    as_json = {"content-type": "application/json"}
    stranger = {"authorization": "Bearer a-stranger"}
    return (
        Attack("hostile telemetry", (200,), None),
        Attack("garbage", (400,), garbage),
        Attack("compression bomb", (413,), bomb, headers={"content-encoding": "gzip"}),
        Attack("cut gzip", (400,), bomb[:2000], headers={"content-encoding": "gzip"}),
        Attack("deep JSON", (400,), b"[" * 100_000, headers=as_json),
        Attack("JSON that is no request", (200,), b'{"resourceSpans": 7}', headers=as_json),
        Attack("announced too long", (413,), b"", headers={"content-length": str(1 << 30)}),
        Attack("unknown type", (415,), b"x", headers={"content-type": "image/png"}),
        Attack("hostile telemetry again", (200,), None),
        Attack("a stranger's token", (401,), garbage, headers=stranger),
        Attack("another tenant named", (400, 401, 403), b"", headers={"spanpost-forwarded-tenant": "blue"}),
        Attack("the API with a sender's token", (401, 403), None, "/api/tasks", "GET"),
        Attack("no such path", (404,), b"", "/v1/nothing"),
        Attack("wrong method", (405,), b"", method="DELETE"),
        Attack("a decision with a sender's token", (401, 403), b"{}", "/api/approvals/x/decision", headers=as_json),
    )


def _hostile(seed: int, chance: random.Random) -> bytes:
    """Return spans with ids of tasks of the other tenants, in circles, with texts of all sorts and impossible times."""
    other: SentTask = sent_task(f"{seed}-{chance.randrange(8)}-{chance.randrange(30)}", choice_of(seed, "sender", 0))
    ids = [each.get_span_context() for each in other.spans]
    made = []
    for number, each in enumerate(chance.sample(ids, 8)):
        values: dict[str, Any] = {
            "gen_ai.operation.name": chance.choice(["invoke_agent", "chat", "execute_tool", "\u0000", "x" * 5000]),
            "agent.task.id": other.task_id,
            "agent.task.name": f"Red {chance.choice(['<!channel>', chr(0x202E), 'xoxb-1234', '*' * 4000])}",
            "gen_ai.usage.input_tokens": chance.choice([-1, 2**62, 7]),
            "gen_ai.conversation.id": f"talk {number % 2}",
        }
        parent = chance.choice(ids).span_id
        made.append(
            span(each.trace_id, each.span_id, chance.choice(["", "Red \u202e", "a" * 10_000]), values, parent=parent)
        )
    return encode_spans(made).SerializeToString()
