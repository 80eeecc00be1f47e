"""One of several processes that record overlapping parts of one stream in one database.

python -m tests.faults.replica RUNS OF MINE BEGAN      (DATABASE_URL says where)
"""

from __future__ import annotations

import asyncio
import os
import sys

from spanpost.model.errors import StoreUnavailable
from spanpost.store.postgres import PostgresStore
from spanpost.tasks.folded import FoldRules
from tests.faults.stream import tangled, torn

#: Transactions that one replica has open at once.
AT_ONCE = 4


async def main(runs: int, of: int, mine: int, began: int) -> None:
    """Record our part, four batches at a time, and print how many there were."""
    store = PostgresStore(os.environ["DATABASE_URL"], rules=FoldRules(), pool_size=AT_ONCE)
    await store.open()
    batches = torn(tangled(runs, began), of, mine, 24, began)
    count = refused = 0

    async def work() -> None:
        nonlocal count, refused
        for batch in batches:
            while True:
                try:
                    await store.record(batch)
                    break
                except StoreUnavailable:  # a sender would get 503 and send again
                    refused += 1
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    await store.close()
    print(count, refused)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
