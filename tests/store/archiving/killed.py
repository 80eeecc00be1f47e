"""Runs retention in a process of its own and kills it at a step: `python -m tests.store.archiving.killed`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import asyncpg

from tests.store.archiving.aged import retain, rules


async def main(dsn: str, directory: str, step: str, time: int) -> None:
    """Run retention; at the given time that this step is reached, end as by `kill -9`."""
    seen: Counter[str] = Counter()

    def watch(at: str) -> None:
        seen[at] += 1
        if at == step and seen[at] == time:
            os.kill(os.getpid(), signal.SIGKILL)

    connection = await asyncpg.connect(dsn)
    await retain(connection, rules(Path(directory), rows_per_file=3), watch=watch)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
