"""How many connections a process can have: the limit of open files."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from spanpost.http.connections import SPARE, fit_descriptors

ASK = """
import resource, sys
soft, hard, http, grpc = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from spanpost.http.connections import fit_descriptors
print(*fit_descriptors(http, grpc), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def fitted(*given: int) -> tuple[list[int], str]:
    """Run in its own process; return HTTP's connections, gRPC's, the limit then, and stderr."""
    command = [sys.executable, "-c", ASK, *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(word) for word in done.stdout.split()], done.stderr


def test_the_limit_of_open_files_is_raised_for_the_connections() -> None:
    """M4: the limit of open files is raised where the system allows it, without a warning."""
    (http, grpc, limit), said = fitted(256, 4096, 2200, 1000)
    assert (http, grpc) == (2200, 1000)
    assert 2200 + 1000 + SPARE < limit <= 4096
    assert said == ""


@pytest.mark.parametrize("hard", [64, 256, 1024, 2000])
def test_connections_are_as_many_as_files_may_be_open(hard: int) -> None:
    """M4: where the system allows no more files, there are fewer connections of each kind, and a warning."""
    (http, grpc, limit), said = fitted(64, hard, 2200, 1000)
    assert limit == hard
    assert http >= 1
    assert grpc >= 1
    assert http + grpc <= hard // 2 + 512
    assert http + grpc + SPARE < hard
    assert "ulimit -n" in said


def test_what_is_enough_stays(caplog: pytest.LogCaptureFixture) -> None:
    """A sufficient limit is left alone, without a warning."""
    with caplog.at_level(logging.INFO):
        assert fit_descriptors(3, 2) == (3, 2)
    assert caplog.records == []
