"""A sender that stops itself once while it holds deliveries.

    python -m tests.faults.frozen_dispatcher claimed|answered [the arguments of tests.faults.sender]

*claimed* and not yet sent, or *answered* by Slack and not yet noted in the database.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

from spanpost.dispatch.dispatcher import Dispatcher
from tests.faults import sender


def main() -> None:
    """Arm the stop, and send."""
    stops = [True]

    def stop() -> None:
        if stops:
            stops.clear()
            # This thread stops itself, so that it executes nothing more.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    begin, finish = Dispatcher._begin, Dispatcher._finish

    def beginning(self: Dispatcher, claimed: Any, until: float) -> None:
        listed = list(claimed)
        if listed:
            stop()
        begin(self, listed, until)

    async def finishing(self: Dispatcher, *given: Any) -> Any:
        stop()
        return await finish(self, *given)

    if sys.argv[1] == "claimed":
        Dispatcher._begin = beginning  # type: ignore[method-assign]
    else:
        Dispatcher._finish = finishing  # type: ignore[method-assign]
    sender.main(*map(int, sys.argv[2:6]), Path(sys.argv[6]))


if __name__ == "__main__":
    main()
