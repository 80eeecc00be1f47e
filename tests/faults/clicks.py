"""One of several gateways whose people answer one question at the same moment.

python -m tests.faults.clicks KEY MINE OF PEOPLE DIES_AFTER      (DATABASE_URL says where)

Waits for a line on stdin, then lets its share of the people approve at once. With DIES_AFTER it is killed as soon as
that many acts were committed, before any person gets an answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from uuid import UUID

from spanpost.model.errors import StoreUnavailable
from spanpost.model.interventions import Actor, Intervention, Verb, Verdict
from spanpost.model.standing_approvals import Scope
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.folded import FoldRules


def click(key: UUID, person: int) -> Intervention:
    """Return a person's press of a button: the same for every repeat."""
    return Intervention(
        tenant="default",
        verb=Verb.APPROVE,
        key=key,
        actor=Actor(provider="slack", team="T1", id=f"U{person}", name=f"person {person}"),
        scope=Scope.TASK if person % 2 else Scope.ONCE,
        source="slack",
        idempotency_key=f"click of {person}",
        at=datetime.now(UTC),
    )


async def main(key: UUID, mine: int, of: int, people: int, dies_after: int) -> None:
    """Approve, and print each person's result."""
    store = PostgresStore(os.environ["DATABASE_URL"], rules=FoldRules(), pool_size=8)
    await store.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    committed = 0

    async def one(person: int) -> tuple[int, Verdict]:
        nonlocal committed
        act = click(key, person)
        while True:
            try:
                verdict = await store.interventions.intervene(act)
                break
            except StoreUnavailable as error:  # Slack sends it again
                print(error, file=sys.stderr)
        committed += 1
        if committed == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return person, verdict

    for person, verdict in await asyncio.gather(*(one(person) for person in range(mine, people, of))):
        print(person, verdict.result, int(verdict.is_repeat), verdict.by, sep="\t")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(UUID(sys.argv[1]), *map(int, sys.argv[2:])))
