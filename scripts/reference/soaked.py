"""The published runs of the harness for faults: `tests/soaked.jsonl`, a line for each run, as `--log` writes it.

A run may say more than is read here: what it counted is summed, and what it gives reasons for is listed, by its name.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from reference.proofs import ROOT, TESTS, cell, folded, said

RUNS = TESTS / "soaked.jsonl"
#: Keys of a run that the section words itself.
_WORDED = {"seed", "seconds", "took", "under_faults", "cores", "spans", "refused", "tasks", "questions"}
_WORDED |= {"faults", "recovery", "memory", "database", "versions", "findings"}


def runs() -> list[dict[str, Any]]:
    """Return the published runs, oldest first."""
    return [json.loads(line) for line in RUNS.read_text().splitlines() if line.strip()] if RUNS.exists() else []


def kinds() -> dict[str, Any]:
    """Return the kinds of faults that the harness knows today, by name."""
    _harness("plan")  # whose modules register their faults
    return dict(_harness("dealt").FAULTS)


def _harness(module: str) -> Any:
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"tests.faults.soak.{module}")
    finally:
        sys.path.remove(str(ROOT))


def tried(promise: str = "") -> dict[str, tuple[str, str]]:
    """Return the promise and the fault that each kind of fault tries, by its name."""
    return {name: fault.tries for name, fault in kinds().items() if promise in ("", fault.tries[0])}


def seconds(of: Iterable[dict[str, Any]]) -> float:
    """Return the time under faults of runs, without their starts and ends."""
    return float(sum(run.get("under_faults", run.get("seconds", 0)) for run in of))


def dealt(kind: str, of: Iterable[dict[str, Any]]) -> str:
    """Return how often a kind was dealt, in how many runs, and what the last of them found; empty: never."""
    with_it = [run for run in of if run.get("faults", {}).get(kind)]
    if not with_it:
        return ""
    times, last = sum(run["faults"][kind] for run in with_it), with_it[-1]
    found = len(last.get("findings") or ())
    outcome = f"**{_count(found, 'finding')}**" if found else "nothing found"
    return f"{times:,} times in {_count(len(with_it), 'run')}; {outcome} in the last, {_day(last)}"


def section(stated: dict[str, Any]) -> str:
    """Return the section of the page."""
    published, known = runs(), kinds()
    parts = [
        "## Under all faults at once",
        "`make soak` runs real processes (PostgreSQL, gateways with workers, agents, exporters, a fake Slack), deals "
        "them the faults of a seed's plan, and compares the end with what was acknowledged: rows, figures, messages, "
        "answers, the sealed log. [How to run it](../../tests/README.md#faults-for-hours). Each line of "
        "[`tests/soaked.jsonl`](../../tests/soaked.jsonl) is a published run. The figures are made of all of them.",
    ]
    if not published:
        parts.append("**No run is published.**")
    else:
        parts += [_sums(published), _findings(published)]
    parts.append(_by_kind(stated, published, known))
    if published:
        parts += [*_reasons(published), _listed(published)]
    return "\n\n".join([*parts, _kept()])


def _sums(published: list[dict[str, Any]]) -> str:
    counted, longest = Counter[str](), seconds(published)
    for run in published:
        counted.update({key: one for key, one in run.items() if type(one) is int})
    faults = Counter[str]()
    for run in published:
        faults.update(run.get("faults", {}))
    commits = Counter(str(run.get("commit") or "not noted") for run in published)
    versions = sorted({f"{name} {one}" for run in published for name, one in run.get("versions", {}).items()})
    more = [f"{count:,} {key.replace('_', ' ')}" for key, count in sorted(counted.items()) if key not in _WORDED]
    rows = [
        ("runs", f"{len(published)} with {_count(len({run['seed'] for run in published}), 'seed')}"),
        ("time under faults", f"{longest / 3600:.1f} hours" if longest >= 3600 else f"{longest / 60:.0f} minutes"),
        ("spans acknowledged", f"{counted['spans']:,}, of {counted['tasks']:,} tasks"),
        ("spans refused before", f"{counted['refused']:,}, which their senders repeated"),
        ("questions", f"{counted['questions']:,}"),
        ("faults dealt", f"{faults.total():,} of {_count(len(faults), 'kind')}"),
        ("findings", f"{sum(len(run.get('findings') or ()) for run in published)}"),
        ("counted as well", ", ".join(more)),
        ("commits", ", ".join(f"`{name}` ({_count(count, 'run')})" for name, count in commits.items())),
        ("with", ", ".join(versions)),
    ]
    return "\n".join(["| in sum | |", "|---|---|", *(f"| {name} | {says} |" for name, says in rows if says)])


def _findings(published: list[dict[str, Any]]) -> str:
    lines = [
        f"- seed {run['seed']}, `{run.get('commit') or 'not noted'}`, {_day(run)}: {cell(str(found)[:400])}"
        + (f" *{cell(run['explained'])}*" if run.get("explained") else "")
        for run in published
        for found in run.get("findings") or ()
    ]
    return "\n".join(["**Findings:**", "", *lines]) if lines else "**Findings: none.**"


def _by_kind(stated: dict[str, Any], published: list[dict[str, Any]], known: dict[str, Any]) -> str:
    rows = [
        "| fault | what it does | promise and fault that it tries | dealt | in runs | longest until the first 200 |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({*known, *(kind for run in published for kind in run.get("faults", {}))}, key=str.casefold):
        fault = known.get(name)
        does = cell((fault.__doc__ or "").split("\n\n")[0]) if fault else "*The harness does not deal it any more.*"
        tries = f"[`{fault.tries[0]}`](#{fault.tries[0]}): {cell(said(stated, fault.tries[1]))}" if fault else ""
        with_it = [run for run in published if run.get("faults", {}).get(name)]
        times = [run["recovery"][name] for run in with_it if name in run.get("recovery", {})]
        rows.append(
            f"| {name} | {does} | {tries} | {sum(run['faults'][name] for run in with_it) or '**never**'} "
            f"| {len(with_it)} | {f'{max(times):.1f} s' if times else '–'} |"
        )
    after = (
        "The time counts from the end of a fault until all gateways that it touched had answered 200. It has no "
        "figure where a fault touches no gateway, or another fault touched the same gateways meanwhile. It depends "
        "on the machine and on what else runs there: the list of runs has its cores and its load at the end."
    )
    return "\n".join([*rows, "", after])


def _reasons(published: list[dict[str, Any]]) -> list[str]:
    """Return what else runs say: reasons by name (what the machine could not do), figures by name, and notes."""
    listed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    summed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    notes: list[str] = []
    for run in published:
        for key, one in run.items():
            if key in _WORDED:
                continue
            if isinstance(one, list):
                notes += [f"- seed {run['seed']}: {cell(str(note)[:400])}" for note in one]
            for name, said_of in one.items() if isinstance(one, dict) else ():
                if isinstance(said_of, str):
                    listed[key][f"{name}: {said_of or 'not possible'}"] += 1
                elif isinstance(said_of, int | float):
                    summed[key][name] += said_of  # type: ignore[assignment]
    parts = {
        key: [f"- {cell(line)} ({_count(count, 'run')})" for line, count in sorted(lines.items())]
        for key, lines in listed.items()
    }
    for key, figures in summed.items():
        parts.setdefault(key, []).extend(f"- {cell(name)}: {number:,}" for name, number in sorted(figures.items()))
    worded = ["\n".join([f"**{key.replace('_', ' ').capitalize()}:**", "", *lines]) for key, lines in parts.items()]
    return [*worded, folded(f"{len(notes)} notes of runs", *notes)] if notes else worded


def _listed(published: list[dict[str, Any]]) -> str:
    rows = [
        "| repeat it by `make soak ARGS='…'` | commit | on | cores, load | spans | faults | memory, MiB "
        "| database, MiB | findings |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in reversed(published):
        words = run.get("arguments") or f"--seed {run['seed']} --seconds {run.get('seconds', 0):g}"
        rows.append(
            f"| `{cell(words)}` | `{run.get('commit') or 'not noted'}` | {_day(run)} "
            f"| {run.get('cores', '–')}, {run.get('load', '–')} | {run.get('spans', 0):,} "
            f"| {sum(run.get('faults', {}).values())} | {_growth(run.get('memory'))} | {_growth(run.get('database'))} "
            f"| {len(run.get('findings') or ())} |"
        )
    return folded(f"All {len(published)} published runs, the newest first", "", *rows)


def _kept() -> str:
    kept = [f"- `{cell(each.arguments)}`: {cell(each.found)}" for each in _harness("kept").KEPT]
    before = "**Kept runs**, which `make soak ARGS=--kept` repeats, and what each found when it was kept:"
    return "\n".join([before, "", *kept])


def _growth(size: Any) -> str:
    """Return before → after, of one or of several."""

    def total(one: Any) -> Any:
        return sum(one) if isinstance(one, list) else one

    return f"{total(size.get('before'))} → {total(size.get('after'))}" if isinstance(size, dict) else "–"


def _day(run: dict[str, Any]) -> str:
    return str(run.get("on", "not noted"))[:10]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
