"""One of several processes that record a share of a stream and post it; it may be killed and restarted.

    python -m tests.faults.sender TASKS OF MINE BEGAN JOURNAL

The journal holds a line for each recorded batch; a restart repeats the last batch and continues.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import spanpost
from spanpost.settings import load
from tests.faults.stream import share

BATCH = 60


def main(tasks: int, of: int, mine: int, began: int, journal: Path) -> None:
    """Record the rest of the share, report it, and go on posting until the process is stopped."""
    pipeline = spanpost.Pipeline(load())
    pipeline.start()
    done = len(journal.read_bytes().splitlines()) if journal.exists() else 0
    with journal.open("ab", buffering=0) as book:
        for number, batch in enumerate(share(tasks, of, mine, began, BATCH)):
            if number < done - 1:
                continue
            pipeline.receive(batch)
            if number >= done:
                book.write(b"%d\n" % number)
    print("recorded", flush=True)
    os.read(0, 1)
    pipeline.shutdown(10)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), Path(sys.argv[5]))
