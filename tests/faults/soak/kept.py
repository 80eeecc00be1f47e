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
        "--seed 2554 --seconds 18 --rate 60 --only 'gateway frozen,index corrupted,snapshot held'",
        "nothing in the gateways: an index with garbage, and a gateway frozen for longer than its leases",
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
    Kept(
        "--seed 21 --seconds 30 --rate 60 --only 'network swallows,certificate expired,database disk full,"
        "database disk fails'",
        "an expired certificate of the database was blamed on the spans; a disk that failed kept the embedded lock",
    ),
    Kept(
        "--seed 41 --seconds 30 --rate 60 --only 'memory limit,names gone'",
        "a gateway that lost its database while it started answered 500",
    ),
    Kept(
        "--seed 4 --seconds 60 --rate 40 --retention 12 --only 'agent killed'",
        "deliveries that were given up, because their task was archived before they arrived",
    ),
    Kept(
        "--seed 11 --seconds 60 --rate 150 --only 'Slack clock jumps,Slack loses answers,Slack lies'",
        "messages posted twice: Slack's clock leapt by hours, and the fake gave two messages one position",
    ),
    Kept(
        "--seed 11 --seconds 60 --rate 60 --only 'index corrupted'",
        "messages posted twice: a planted defect in the source, by which a lost answer was no doubt",
    ),
    Kept(
        "--seed 4 --seconds 70 --rate 60 --slack-down 45 --only 'agent killed'",
        "the same defect, after an outage of Slack",
    ),
)
