"""People who press buttons in the fake Slack: two at once, signed, at two gateways, and the same press again."""

from __future__ import annotations

import hmac
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from spanpost.interactions.slack.payloads import fingerprint
from tests.acceptance.gateway_process import request
from tests.faults.soak.actors import Threads
from tests.faults.soak.world import PREPARED, World, choice_of, now

SECRET, TEAM = "soak-signing-secret", "T0ACME"
DECISIONS = ("spanpost:approve", "spanpost:deny")
#: The people of Slack. The rule names the approvers of the API, too, who answer beside them.
CLICKERS = ("U0CAROL", "U0DAVE")
#: Seconds for which a person presses a button again that did not answer.
PRESSED_FOR = 90.0


@PREPARED.append
def _prepared(world: World) -> tuple[dict[str, str], str]:
    users = json.dumps(list(CLICKERS))
    rules = f'[[interactions.rules]]\nactions = ["decide"]\nusers = {users}\nroles = ["approver"]\n'
    return {"SPANPOST_INTERACTIONS__SIGNING_SECRET": SECRET, "SPANPOST_INTERACTIONS__COMMENTS": "never"}, rules


def _buttons(slack: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the buttons that approve or deny, of all messages."""
    messages = [message for channel in slack["channels"].values() for message in channel]
    parts = [part for message in messages for part in (message, *message.get("attachments", ()))]
    elements = [one for part in parts for block in part.get("blocks", ()) for one in block.get("elements", ())]
    return [one for one in elements if one.get("action_id") in DECISIONS]


class Clickers(Threads):
    """Carol and Dave: each presses approve or deny below each open question, both at the same moment."""

    name = "clickers"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._chance = choice_of(world.seed, "clickers")
        self._lock = threading.Lock()
        #: Question of each press that was answered 200, by the press's idempotency key; and answers by status.
        self.pressed: dict[str, str] = {}
        self.answers: Counter[int] = Counter()
        #: Answers that no gateway gives.
        self.wrong: list[str] = []

    def start(self) -> None:
        self.begin(self._look)

    def _look(self) -> None:
        world, seen = self.world, set[str]()
        control = world.slack.url.replace("/api/", "/_control")
        with ThreadPoolExecutor(4) as hands:
            while not world.closing.is_set():
                _, said = request(control, b'{"do": "buttons"}', **{"content-type": "application/json"})
                buttons: dict[str, dict[str, Any]] = {}
                for button in json.loads(said)["buttons"]:
                    if button["action_id"] in DECISIONS:
                        buttons.setdefault(button["value"], {})[button["action_id"]] = button
                for key in buttons.keys() - seen:
                    seen.add(key)
                    shown = list(buttons[key].values())
                    for person in CLICKERS:
                        hands.submit(self._press, person, key, self._chance.choice(shown), self._chance.random())
                world.closing.wait(0.2)

    def _press(self, person: str, key: str, button: dict[str, Any], dice: float) -> None:
        try:
            first, until = int(dice * 1000) + CLICKERS.index(person), now() + PRESSED_FOR
            while now() < until:
                at = f"{time.time():.6f}"
                body, headers = self._signed(person, button, at)
                status = self._send(first, body, headers)
                if status == 200:
                    parts = ("click", TEAM, button["channel"], button["ts"], button["action_id"], "", at, person)
                    with self._lock:
                        self.pressed[fingerprint(*parts)] = key
                    if dice < 0.3:  # an attacker repeats it, at the other gateway
                        self._send(first + 1, body, headers)
                    return
                first += 1
                self.world.closing.wait(0.3)
            self.wrong.append(f"{person} pressed for {PRESSED_FOR:g} s without an answer: {button['value']}")
        except Exception as error:
            self.world.findings.append(f"the harness: {self.name} ended by {error!r}")

    def _send(self, number: int, body: bytes, headers: dict[str, str]) -> int:
        gateways = self.world.gateways
        status, said = 0, b""
        with suppress(OSError, http.client.HTTPException):
            status, said = request(f"{gateways[number % len(gateways)].url}/slack/events", body, timeout=5, **headers)
        with self._lock:
            self.answers[status] += 1
            if status not in (0, 200, 401, 503):
                self.wrong.append(f"a press was answered {status}: {said[:200]!r}")
        return status

    @staticmethod
    def _signed(person: str, button: dict[str, Any], at: str) -> tuple[bytes, dict[str, str]]:
        """Return a press as Slack sends it."""
        message = {key: button[key] for key in ("ts", "thread_ts", "bot_id") if button[key]}
        container = {"type": "message", "channel_id": button["channel"], "message_ts": button["ts"]}
        action = {key: button[key] for key in ("action_id", "value", "type")}
        payload = {
            "type": "block_actions",
            "api_app_id": "A0SPANPOST",
            "team": {"id": TEAM},
            "user": {"id": person, "team_id": TEAM},
            "container": container | ({"thread_ts": button["thread_ts"]} if button["thread_ts"] else {}),
            "message": message,
            "actions": [action | {"block_id": button.get("block_id", "b"), "action_ts": at}],
        }
        body = urlencode({"payload": json.dumps(payload)}).encode()
        stamp = str(int(time.time()))
        made = hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, sha256).hexdigest()
        return body, {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": stamp,
            "x-slack-signature": f"v0={made}",
        }

    def findings(self) -> Sequence[str]:
        """Each question that was pressed is closed, by one decision at most: its own, or that of the same question
        before, which an agent asks again that was killed. Each press that was answered left a row, or a word to its
        person. No question that is closed shows buttons.
        """
        rows = self.world.database.rows(
            "SELECT key::text, idempotency_key, result FROM human_interventions WHERE verb IN ('approve', 'deny')"
        )
        acts, decided = {act for _, act, _ in rows}, Counter(key for key, _, result in rows if result == "done")
        twice = [key for key, count in decided.items() if count > 1]
        waiting = {key for (key,) in self.world.database.rows("SELECT key::text FROM approvals WHERE state = 'open'")}
        open_ = sorted(set(self.pressed.values()) & waiting)
        slack = self.world.slack.state()
        closed = sorted({button["value"] for button in _buttons(slack)} - waiting)
        unheard = [key for act, key in self.pressed.items() if act not in acts]
        is_answered = len(unheard) <= len(slack["whispers"]) or slack["faults"]
        return [
            *self.wrong[:5],
            *([f"{len(twice)} questions were decided twice: {twice[:3]}"] if twice else []),
            *([f"{len(open_)} questions were pressed and are open: {open_[:3]}"] if open_ else []),
            *([f"{len(closed)} questions are closed and show buttons: {closed[:3]}"] if closed else []),
            *([] if is_answered else [f"{len(unheard)} presses answered 200 left no row and no word: {unheard[:3]}"]),
        ]

    def notes(self) -> Sequence[str]:
        """Return the answers to presses."""
        return (f"presses in Slack by answer: {dict(self.answers)}",)
