"""`local-slack`, a Slack that others wrote, with Socket Mode; and a gateway that posts to it and hears its people.

The gateway has a database of its own in the same server, so that no other gateway takes its deliveries, and so that
the faults of the server hit it, too. Local-slack's own page gets each call and each message; a watcher reads along.

Local-slack keeps no metadata and no `client_msg_id`, so a look-up finds no message of spanpost's: after a lost answer
the message is posted again. The watcher knows the mark of each post. It holds each second post against the look-ups
before it, and the last post of a mark against what it must say. Texts are compared, because an
edit there leaves attachments as they were. The state is in memory: local-slack is frozen, and never killed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExporter

from spanpost.store.sql import schema
from spanpost.text.locales import ENGLISH
from tests.acceptance.gateway_process import query, request
from tests.eventually import until_listening
from tests.faults.posted import truth
from tests.faults.soak import checker
from tests.faults.soak.actors import Threads
from tests.faults.soak.agents import AskingAgent
from tests.faults.soak.senders import TIMEOUT, Senders
from tests.faults.soak.sent import SentSpans
from tests.faults.soak.watched import Watcher
from tests.faults.soak.world import PORTS, Database, Gateway, World, choice_of, free_port, now, pause
from tests.interactions.local_slack import (
    ALICE,
    APP_TOKEN,
    BOB,
    BOT_TOKEN,
    CHANNEL,
    local_slack_command,
)

#: Local-slack answers a press when the app has acknowledged it, or after five seconds.
UNACKNOWLEDGED = 5.0
#: Seconds for which a person waits for a local-slack that is frozen.
PRESSED_FOR = 120.0
#: Seconds after which each acknowledged press is a row, or a word to its person.
HANDLED = 60.0
#: Messages to a person whose press is no row yet, or none at all.
NO_ROW = {ENGLISH.say(f"interactions.{word}") for word in ("late", "unsure")}
_RULE = f'[[interactions.rules]]\nactions = ["decide"]\nusers = {json.dumps([ALICE, BOB])}\n'


class Beside:
    """A second database of the run's server, with the schema."""

    def __init__(self, database: Database, name: str) -> None:
        address = urlsplit(database.dsn)
        database.execute(f"CREATE DATABASE {name} OWNER {address.username}")
        self.dsn = address._replace(path=f"/{name}").geturl()
        asyncio.run(schema.upgrade(self.dsn))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return query(self.dsn, sql)


class LocalSlackFront(Senders):
    """Local-slack, the gateway with a database of its own, and senders of tasks."""

    name = "local-slack"
    share, count = 0.2, 2
    needs: ClassVar[Sequence[str]] = ("local-slack",)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent = SentSpans()  # the checker compares the other with the first database

    def start(self) -> None:
        world, directory = self.world, self.world.directory / self.name
        directory.mkdir()
        self.database = Beside(world.database, "local_slack")
        port, log = free_port(PORTS), directory / "local-slack.log"
        self.process = world.launch(local_slack_command(directory, port), log)
        until_listening(self.process, port, log)
        self.url = f"http://127.0.0.1:{port}"
        self.watcher = Watcher()
        self.watcher.open(self.url)
        (directory / "spanpost.toml").write_text(_RULE)
        of_slack = {
            "SPANPOST_SLACK__TOKEN": BOT_TOKEN,
            "SPANPOST_SLACK__BASE_URL": f"{self.url}/api/",
            "SPANPOST_SLACK__CHANNEL": CHANNEL,
            "SPANPOST_INTERACTIONS__APP_TOKEN": APP_TOKEN,
            "SPANPOST_INTERACTIONS__COMMENTS": "never",
        }
        ports = {"http": free_port(PORTS), "grpc": free_port(PORTS)}
        #: Not among `gateways`, which Prometheus compares with the first database.
        self.gateway = Gateway(self.database.dsn, directory, **ports, **world.settings() | of_slack)
        world.on_end(self.gateway.kill)
        world.wait_until_up(self.gateway)
        super().start()

    def exporters(self) -> list[SpanExporter]:
        return [HttpExporter(endpoint=f"{self.gateway.url}/v1/traces", timeout=TIMEOUT)]

    def messages(self) -> list[dict[str, Any]]:
        """Return all messages of the channel."""
        status, page = request(f"{self.url}/_control/messages/{CHANNEL}", None)
        assert status == 200, page
        found: list[dict[str, Any]] = json.loads(page)["messages"]
        return found

    def findings(self) -> Sequence[str]:
        """What was acknowledged is there once; what was posted again was looked up before."""
        found = checker.worked_off(self.database)
        tasks, checkpoints, _ = asyncio.run(truth(self.database.dsn))
        found += checker.rows(self.database, self.sent) + checker.figures(self.sent, tasks)
        shown = {"channels": {CHANNEL: list(self._kept())}}
        found += checker.messages(self.sent, tasks, checkpoints, shown)
        if rash := self.watcher.rash():
            found.append(f"{len(rash)} posts were made again without a look-up: {rash[:3]}")
        if not self.watcher.is_open:
            found.append("the harness: the watcher of local-slack ended")
        if "Traceback (most recent call last)" in self.gateway.log:
            found.append(f"its gateway logged a traceback: {self.gateway.log[-1500:]}")
        return found

    def _kept(self) -> Iterator[dict[str, Any]]:
        """Yield the last message of each mark, with the metadata that local-slack did not keep."""
        by_mark = self.watcher.by_mark()
        last = {post.ts: posts[-1].ts for posts in by_mark.values() for post in posts}
        marks = {posts[-1].ts: mark for mark, posts in by_mark.items()}
        for message in self.messages():
            if message["ts"] in marks:
                key, generation = marks[message["ts"]]
                yield message | {
                    "metadata": {"event_payload": {"k": key, "g": generation}},
                    "thread_ts": last.get(message.get("thread_ts", ""), message["ts"]),
                }

    def notes(self) -> Sequence[str]:
        return [
            f"local-slack: {len(self.watcher.posts)} messages of {len(self.sent.tasks)} tasks and the questions, "
            f"{len(self.watcher.again())} posted again after a look-up: it keeps no metadata, so none finds a message"
        ]


class LocalSlackAsker(AskingAgent):
    """An agent that asks at that gateway. People answer in local-slack alone."""

    name = "asking agent of local-slack"
    needs = LocalSlackFront.needs

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self.world.actors[LocalSlackFront.name].gateway
        return gateway

    @property
    def database(self) -> Beside:
        database: Beside = self.world.actors[LocalSlackFront.name].database
        return database

    def of_people(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {}

    def notes(self) -> Sequence[str]:
        return [f"{self.name}: {len(self.answers())} answers"]


@dataclass(frozen=True)
class Press:
    """A press of a person: its block, its question, when it was over, and whether it was acknowledged in time."""

    block: str
    key: str
    at: float
    is_quick: bool


class LocalSlackPeople(Threads):
    """Alice and Bob: each presses approve or deny below each open question, both at once, until it is answered."""

    name = "people of local-slack"
    needs = LocalSlackFront.needs

    def start(self) -> None:
        self._front: LocalSlackFront = self.world.actors[LocalSlackFront.name]
        self._chance, self._numbers = choice_of(self.world.seed, self.name), itertools.count()
        self.presses: list[Press] = []
        self.begin(self._look)

    def _look(self) -> None:
        asker = self.world.actors[LocalSlackAsker.name]
        with ThreadPoolExecutor(2) as hands:
            while not self.world.closing.is_set() or asker.process.poll() is None:
                for key, buttons in self._front.watcher.open_questions().items():
                    chosen = [self._chance.choice(buttons) for _ in range(2)]
                    list(hands.map(self._press, (ALICE, BOB), (key, key), chosen))
                pause(threading.Event(), 0.5)  # until people look again

    def _press(self, person: str, key: str, chosen: tuple[str, dict[str, Any]]) -> None:
        (ts, button), block, began = chosen, f"press-{next(self._numbers)}", now()
        action = {name: button[name] for name in ("type", "action_id", "value")} | {"block_id": block}
        body = {"channel": CHANNEL, "messageTs": ts, "user": person, "action": action}
        url, headers = f"{self._front.url}/_control/interact", {"content-type": "application/json"}
        status, said = request(url, json.dumps(body).encode(), timeout=PRESSED_FOR, **headers)
        assert status == 200, said
        self.presses.append(Press(block, key, time.time(), now() - began < UNACKNOWLEDGED))

    def _acknowledged(self) -> list[Press]:
        """Return the presses that were sent to the gateway, and acknowledged."""
        return [press for press in self.presses if press.is_quick and press.block in self._front.watcher.sent]

    def findings(self) -> Sequence[str]:
        """Each question has one decision; each acknowledged press is a row, or a word to its person.

        A gateway that is killed meanwhile says no word.
        """
        front = self._front
        rows = front.database.rows(
            "SELECT key::text, idempotency_key, result FROM human_interventions WHERE verb IN ('approve', 'deny')"
        )
        acts, decided = {act for _, act, _ in rows}, Counter(key for key, _, result in rows if result == "done")
        twice = [key for key, count in decided.items() if count > 1]
        open_ = sorted({press.key for press in self._acknowledged()} - set(decided))
        words = sum(m.get("text") in NO_ROW for m in front.messages() if m.get("ephemeral_to"))
        unheard = [
            press
            for press in self._acknowledged()
            if front.watcher.sent[press.block] not in acts
            and not any(press.at < start < press.at + HANDLED for start in front.gateway.started)
        ]
        found = []
        if twice:
            found.append(f"{len(twice)} questions were decided twice: {twice[:3]}")
        if open_:
            found.append(f"{len(open_)} questions were pressed and are undecided: {open_[:3]}")
        if len(unheard) > words:
            found.append(f"{len(unheard)} acknowledged presses left no row, and {words} a word: {unheard[:3]}")
        return found

    def notes(self) -> Sequence[str]:
        sent = self._front.watcher.sent
        return [
            f"{self.name}: {len(self.presses)} presses, {len(sent)} sent by the socket, "
            f"{len(self._acknowledged())} acknowledged"
        ]
