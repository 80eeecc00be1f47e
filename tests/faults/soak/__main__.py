"""Run the harness: ``python -m tests.faults.soak --seed 7 --seconds 120`` (`make soak ARGS=…`).

Exits with 1 if a promise was broken, and prints the command that repeats the run.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.faults.soak import plan
from tests.faults.soak.actors import ACTORS
from tests.faults.soak.checker import saved
from tests.faults.soak.dealt import FAULTS
from tests.faults.soak.kept import KEPT
from tests.faults.soak.run import fresh, run, table


def arguments() -> argparse.ArgumentParser:
    """Return the arguments of a run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="seed of the plan and of the telemetry; not given: any")
    parser.add_argument("--runs", type=int, default=1, help="runs, with the following seeds")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a run, without its start and its end")
    parser.add_argument("--only", default="", help=f"kinds of faults, by commas: {', '.join(FAULTS)}")
    parser.add_argument("--with", dest="extra", default="", help="actors that take no part by themselves, by commas")
    parser.add_argument("--gateways", type=int, default=2, help="the first has a proxy, the second two workers")
    parser.add_argument("--rate", type=float, default=150.0, help="spans a second")
    parser.add_argument("--long", type=float, default=1 / 8, help="share of the tasks that have hundreds of spans")
    parser.add_argument(
        "--every", type=float, default=plan.EVERY, help="seconds from one fault to the next, in the mean"
    )
    parser.add_argument("--standby", action="store_true", help="PostgreSQL with a synchronous standby, and failovers")
    parser.add_argument("--slack-down", type=float, default=0.0, help="seconds from the start in which Slack is down")
    parser.add_argument("--retention", type=float, default=0.0, help="seconds after which rows leave for archives")
    parser.add_argument("--log", type=Path, help="file to which a line of JSON is appended for each run")
    parser.add_argument(
        "--keep", type=Path, help="directory for the logs; not given: below /tmp, until a run without findings"
    )
    parser.add_argument("--each", action="store_true", help="each kind once, for --seconds at most")
    parser.add_argument("--plan", action="store_true", help="only print the plan of the seed")
    parser.add_argument("--kept", action="store_true", help="repeat the runs that once found a defect")
    return parser


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `run` beside its seed, its length and its faults."""
    named = {name: getattr(given, name) for name in ("gateways", "rate", "long", "every", "slack_down", "retention")}
    return {**named, "has_standby": given.standby, "is_each_once": given.each}


def main() -> int:
    """Read the arguments, and run each seed."""
    parser = arguments()
    given = parser.parse_args()
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # exporters say each refused request
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the proxy's TLS
    if not given.kept:
        return _run(parser, given)
    broken = [kept.arguments for kept in KEPT if _run(parser, parser.parse_args(shlex.split(kept.arguments)))]
    print(f"{len(KEPT) - len(broken)} of {len(KEPT)} kept runs found nothing", flush=True)
    return int(bool(broken))


def _run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    only = [name.strip() for name in given.only.split(",") if name.strip()]
    extra = [name.strip() for name in given.extra.split(",") if name.strip()]
    if unknown := set(extra) - {name for name, actor in ACTORS.items() if actor.is_extra}:
        parser.error(f"no such actor: {', '.join(sorted(unknown))}")
    if unknown := set(only) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    first = random.randrange(1_000_000) if given.seed is None else given.seed
    is_broken = False
    for seed in range(first, first + given.runs):
        if given.plan:
            for each in plan.plan(seed, given.seconds, given.gateways, only or list(FAULTS), given.every):
                print(f"{each.at:6.1f} s  {each.fault}")
            continue
        home = fresh(given.keep)
        print(f"seed {seed}, logs in {home}", flush=True)
        result = run(home, seed, given.seconds, only=only, extra=extra, **options(given))
        print(table(result), flush=True)
        words = f"--seed {seed} --seconds {given.seconds:g} --gateways {given.gateways} --rate {given.rate:g}"
        for name in ("long", "every"):
            if (value := getattr(given, name)) != parser.get_default(name):
                words += f" --{name} {value:g}"
        words += " --standby" * given.standby + f" --slack-down {given.slack_down:g}" * bool(given.slack_down)
        words += f" --retention {given.retention:g}" * bool(given.retention) + " --each" * given.each
        words += f' --only "{given.only}"' if only else ""
        words += f' --with "{given.extra}"' if extra else ""
        if given.log:
            saved(given.log, {**result, "arguments": words})
        if result["findings"]:
            is_broken = True
            print(f"Repeat it: make soak ARGS='{words}'", flush=True)
        elif not given.keep:
            shutil.rmtree(home, ignore_errors=True)
    return int(is_broken)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end all processes
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of exporters that hang would hold up the end
