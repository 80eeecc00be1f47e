"""Kept seeds: runs that once found a defect, as arguments of `python -m tests.faults.soak`.

`make soak ARGS=--kept` repeats all of them; the tests repeat those that are short. Each names its faults, so that a
fault that is added later changes no plan.
"""

from __future__ import annotations

from typing import NamedTuple


class Kept(NamedTuple):
    """A run, and what it found when it was kept."""

    arguments: str
    found: str
    #: It is short, and a test.
    is_test: bool = False


#: Faults of two runs.
_MANY = (
    "gateway killed,gateway restarted,gateway frozen,worker killed,agent killed,asking agent killed,agent frozen,"
    "spool disk full,collector killed,collector frozen,collector queue full,gateway gone,program killed,program frozen,"
    "Slack down,Slack throttles,Slack loses answers,database restarted,database killed,backend killed,database hangs,"
    "database read-only,connections cut,connections used up,lock held,network cut,network one way,network slow"
)
KEPT = (
    Kept(
        "--seed 160 --seconds 10 --rate 60 --only 'gateway killed,connections cut,agent killed,asking agent killed,"
        "Slack loses answers,collector killed,program killed'",
        "nothing: the shortest run with each of the parts",
        is_test=True,
    ),
    Kept(
        "--seed 3 --seconds 40 --rate 60 --only 'gateway restarted,connections cut'",
        "a traceback of a worker that stops, for the connections of its neighbours",
    ),
    Kept(
        "--seed 1 --seconds 30 --rate 60 --only 'failover,standby killed' --standby",
        "nothing in the gateways: two failovers in one run, and a commit that waits for the standby",
    ),
    Kept(
        f"--seed 201 --seconds 45 --rate 60 --only '{_MANY}'",
        "a gateway whose start failed after it accepted connections closed its socket under them",
    ),
    Kept(
        f"--seed 202 --seconds 45 --rate 60 --only '{_MANY}'",
        "a traceback of the sealer whose connection was lost in a COMMIT",
    ),
)
