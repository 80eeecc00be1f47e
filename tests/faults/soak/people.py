"""People who answer the agents' questions at any gateway, both at once, and press again when no answer comes."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.acceptance.gateway_process import request
from tests.faults.soak.actors import Threads
from tests.faults.soak.world import PEOPLE, World, choice_of, now


class People(Threads):
    """Two people: each sees each open question, and approves or denies by dice of their own."""

    name = "people"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        #: By question and person: the outcome, with `decision` and `by`.
        self.answers: dict[str, dict[str, dict[str, Any]]] = {}

    def start(self) -> None:
        for person, token in PEOPLE.items():
            self.begin(self._answer, person, token)

    def _answer(self, person: str, token: str) -> None:
        world, chance = self.world, choice_of(self.world.seed, "person", person)
        headers, seen = {"authorization": f"Bearer {token}", "content-type": "application/json"}, set[str]()

        def ask(path: str, body: dict[str, str] | None = None, **more: str) -> tuple[int, Any]:
            url = chance.choice(world.gateways).url
            try:
                status, said = request(
                    url + path, json.dumps(body).encode() if body else None, timeout=5, **headers, **more
                )
                return status, json.loads(said)
            except (OSError, http.client.HTTPException, ValueError):
                return 0, None

        asking = world.actors["asking agent"]
        while not world.closing.is_set() or asking.process.poll() is None:
            status, page = ask("/api/approvals?state=open&limit=50")
            if status not in (0, 200, 503):
                world.findings.append(f"{person} was answered {status} for the open questions: {page}")
            for question in page["items"] if status == 200 else ():
                key, name = question["key"], question["id"]
                if key in seen:
                    continue
                decision, until = chance.choice(["approve", "deny"]), now() + 90
                while now() < until:
                    status, came = ask(
                        f"/api/approvals/{key}/decision",
                        {"decision": decision},
                        **{"Idempotency-Key": f"{person} {key}"},
                    )
                    if status in (200, 409):
                        seen.add(key)
                        self._note(name, person, status, came)
                        break
                    if status not in (0, 503):
                        world.findings.append(f"{person} was answered {status} for {name}: {came}")
                        seen.add(key)
                        break
                    world.closing.wait(0.2)
            world.closing.wait(0.3)

    def _note(self, name: str, person: str, status: int, came: Any) -> None:
        if status == 200:
            self.answers.setdefault(name, {})[person] = {"decision": came["decision"], "by": came["by"]}
