"""Run the harness: ``python -m tests.faults.soak --seed 7 --seconds 120`` (`make soak ARGS=…`).

Exits with 1 if a promise was broken, and prints the command that repeats the run.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.faults.soak import plan
from tests.faults.soak.checker import saved
from tests.faults.soak.dealt import FAULTS
from tests.faults.soak.run import fresh, run, table


def main() -> int:
    """Read the arguments, and run each seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="seed of the plan and of the telemetry; not given: any")
    parser.add_argument("--runs", type=int, default=1, help="runs, with the following seeds")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a run, without its start and its end")
    parser.add_argument("--only", default="", help=f"kinds of faults, by commas: {', '.join(FAULTS)}")
    parser.add_argument("--gateways", type=int, default=2, help="the first has a proxy, the second two workers")
    parser.add_argument("--rate", type=float, default=150.0, help="spans a second")
    parser.add_argument("--log", type=Path, help="file to which a line of JSON is appended for each run")
    parser.add_argument(
        "--keep", type=Path, help="directory for the logs; not given: below /tmp, until a run without findings"
    )
    parser.add_argument("--each", action="store_true", help="each kind once, for --seconds at most")
    parser.add_argument("--plan", action="store_true", help="only print the plan of the seed")
    given = parser.parse_args()
    only = [name.strip() for name in given.only.split(",") if name.strip()]
    if unknown := set(only) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    first = random.randrange(1_000_000) if given.seed is None else given.seed
    is_broken = False
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # exporters say each refused request
    for seed in range(first, first + given.runs):
        if given.plan:
            for each in plan.plan(seed, given.seconds, given.gateways, only or list(FAULTS)):
                print(f"{each.at:6.1f} s  {each.fault}")
            continue
        home = fresh(given.keep)
        print(f"seed {seed}, logs in {home}", flush=True)
        result = run(
            home, seed, given.seconds, only=only, gateways=given.gateways, rate=given.rate, is_each_once=given.each
        )
        print(table(result), flush=True)
        if given.log:
            saved(given.log, result)
        if result["findings"]:
            is_broken = True
            words = f"--seed {seed} --seconds {given.seconds:g} --gateways {given.gateways} --rate {given.rate:g}"
            words += " --each" if given.each else ""
            again = f"make soak ARGS='{words}{f' --only {chr(34)}{given.only}{chr(34)}' if only else ''}'"
            print(f"Repeat it: {again}", flush=True)
        elif not given.keep:
            shutil.rmtree(home, ignore_errors=True)
    return int(is_broken)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end all processes
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of exporters that hang would hold up the end
