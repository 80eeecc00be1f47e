"""The page of proofs, and the lists of promises in the pages of guarantees: from what tests prove, what the harness for
faults did, and which planted defects were found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reference import planted, soaked
from reference.proofs import ROOT, Proof, cell, promises, proofs, results, said

PAGES = ROOT / "docs" / "explanation" / "guarantees"
#: The list of promises of a page stands between these.
BEGIN, END = "<!-- promises: made by `make reference` -->", "<!-- end of the promises -->"
#: Tests in one cell of the lists of faults; more are folded.
SHOWN = 4


def proofs_page() -> str:
    """Return the page of proofs."""
    stated, found, known = promises(), proofs(), results()
    parts = [
        "# Proofs",
        "*Made from the tests by `make reference`: `tests/promises.toml` has the promises, faults and bad inputs, "
        "each test names what it proves (`@pytest.mark.proves`), and `pytest --record-proofs` keeps its result in "
        "`tests/proofs.json`.*",
        "Each promise stands with the tests that try to break it, the faults and inputs under which they do, and what "
        "came out last. [The guarantees](../explanation/what-is-promised.md) say what a promise means, and what it "
        "does not.",
        _sums(stated, found, known),
        _left(stated, found, known),
        _promises(stated, found, known),
        soaked.section(stated),
        planted.section(),
    ]
    for page, guarantee in stated["guarantees"].items():
        parts.append(f"## {guarantee['title']}\n\n[What it means](../explanation/guarantees/{page}.md).")
        parts += [_of_promise(stated, found, known, *one) for one in guarantee["promises"].items()]
    parts.append("## Faults\n\nThe numbered ones were planned before the tests were written.")
    rows = ["| | fault | tests |", "|---|---|---|"]
    for name, one in stated["faults"].items():
        place, says = (str(one[0]), one[1]) if isinstance(one, list) else ("", one)
        rows.append(f"| {place} | {says} | {_tests(found, name, stated)} |")
    parts.append("\n".join(rows))
    parts.append("## Bad input")
    for group, listed in stated["inputs"].items():
        rows = ["| | sent | tests |", "|---|---|---|"]
        rows += [f"| {place} | {says} | {_tests(found, name, stated)} |" for name, (place, says) in listed.items()]
        parts.append(f"### {group}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def untried() -> list[str]:
    """Return the promises, faults and inputs that neither a test nor the harness tries, and that say no reason."""
    stated, found = promises(), proofs()
    by_harness = [name for pair in soaked.tried().values() for name in pair]
    tried = {name for one in found for name in (one.promise, *one.tried)}.union(by_harness, stated["not_tried"])
    named = [name for one in stated["guarantees"].values() for name in one["promises"]]
    inputs = [name for group in stated["inputs"].values() for name in group]
    return [name for name in (*named, *stated["faults"], *inputs) if name not in tried]


def unproven() -> list[str]:
    """Return what a release must not lack: results of marked tests and of planted defects, and a published run."""
    known = results()
    tests = sorted({one.test for one in proofs()})
    found, defects = planted.found(), [one for area in planted.planted().values() for one in area]
    runs = soaked.runs()
    return [
        *(f"{name}: tries nothing, and tests/promises.toml does not say why" for name in untried()),
        *(f"{test}: no recorded result; run it with --record-proofs" for test in tests if test not in known),
        *(f"{test}: its recorded result is a failure" for test in tests if known.get(test, {}).get("failed")),
        *(f"{one['name']}: not planted; run scripts/plant-defects" for one in defects if one["name"] not in found),
        *([] if runs else ["tests/soaked.jsonl has no run; run make soak with --log"]),
    ]


def _sums(stated: dict[str, Any], found: list[Proof], known: dict[str, Any]) -> str:
    inputs = {name: one for group in stated["inputs"].values() for name, one in group.items()}
    planned = {name for name, one in stated["faults"].items() if isinstance(one, list)}
    tried = {name for proof in found for name in proof.tried} | {fault for _, fault in soaked.tried().values()}
    partly = tried & {*stated["not_tried"]}
    tests = {proof.test for proof in found}
    ran = [known[name] for name in tests if name in known]
    number = sum(len(one["promises"]) for one in stated["guarantees"].values())
    runs, defects = soaked.runs(), planted.found()
    failed, missing = sum(one["failed"] > 0 for one in ran), len(tests) - len(ran)
    hours = soaked.seconds(runs) / 3600
    spans, findings = (sum(run.get("spans", 0) for run in runs), sum(len(run.get("findings") or ()) for run in runs))
    hits = sum(bool(one["found_by"]) for one in defects.values())
    rows = [
        ("[promises](#promises)", f"{number}"),
        (
            "tests that try to break them",
            f"{len(tests)}: {sum(one['failed'] == 0 for one in ran)} passed, {failed} failed, {missing} not recorded",
        ),
        ("cases (examples, seeds and parameters of the last recorded runs)", f"{sum(one['cases'] for one in ran):,}"),
        (
            "[planned faults](#faults)",
            f"{len(tried & planned)} of {len(planned)} tried, {len(partly & planned)} of them in part",
        ),
        ("further faults", f"{len(tried & ({*stated['faults']} - planned))}"),
        (
            "[bad inputs](#bad-input)",
            f"{len(tried & {*inputs})} of {len(inputs)} tried, {len(partly & {*inputs})} of them in part",
        ),
        (
            "[all faults at once](#under-all-faults-at-once)",
            f"{len(runs)} runs, {hours:.1f} hours, {spans:,} spans, {findings} findings" if runs else "no run",
        ),
        (
            "[planted defects](#planted-defects)",
            f"{hits} of {sum(map(len, planted.planted().values()))} found, {len(defects) - hits} survive",
        ),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {says} |" for name, says in rows)])


def _left(stated: dict[str, Any], found: list[Proof], known: dict[str, Any]) -> str:
    """Return what is missing, in one place."""
    lines = [f"- *{said(stated, name)}*: {left}" for name, left in stated["not_tried"].items()]
    missing = sorted({one.test for one in found} - {*known})
    lines += [f"- No result is recorded of {_test(test)}." for test in missing]
    failed = sorted({one.test for one in found if known.get(one.test, {}).get("failed")})
    lines += [f"- The last result of {_test(test)} is a failure." for test in failed]
    lines += [f"- No test tries `{name}`." for name in untried()]
    return "\n".join(["**What is left to try:**", "", *(lines or ["Nothing that the lists name."])])


def _promises(stated: dict[str, Any], found: list[Proof], known: dict[str, Any]) -> str:
    rows = ["| promise | tests | cases | faults and inputs | harness | last result |", "|---|---|---|---|---|---|"]
    runs = soaked.runs()
    for guarantee in stated["guarantees"].values():
        rows.append(f"| **[{guarantee['title']}](#{_anchor(guarantee['title'])})** | | | | | |")
        for name, says in guarantee["promises"].items():
            mine = [one for one in found if one.promise == name]
            tests = dict.fromkeys(one.test for one in mine)
            ran = [known[test] for test in tests if test in known]
            times = [sum(run.get("faults", {}).get(kind, 0) for run in runs) for kind in soaked.tried(name)]
            first = re.split(r"(?<=[.:;]) ", says)[0].rstrip(":;")
            rows.append(
                f"| [`{name}`](#{name}) {cell(first)} | {len(tests)} | {sum(one['cases'] for one in ran):,} "
                f"| {len({it for one in mine for it in one.tried})} | {f'{sum(times):,}' if sum(times) else ''} "
                f"| {_outcome(len(tests), ran)} |"
            )
    return (
        "## Promises\n\n*Cases* are examples, seeds and parameters. *Harness* is how often "
        "[the harness](#under-all-faults-at-once) dealt a fault that tries the promise.\n\n" + "\n".join(rows)
    )


def _outcome(tests: int, ran: list[dict[str, Any]]) -> str:
    failed = sum(one["failed"] > 0 for one in ran)
    words = [f"**{failed} failed**"] if failed else []
    words += [f"{tests - len(ran)} not recorded"] if tests > len(ran) else []
    last = max((one["on"] for one in ran), default="")
    day = last.replace("-", "\N{NON-BREAKING HYPHEN}")  # in one line of a narrow column
    return " ".join([", ".join(words or ["passed" if tests else "**no test**"]), day]).strip()


def _of_promise(stated: dict[str, Any], found: list[Proof], known: dict[str, Any], name: str, says: str) -> str:
    rows = [
        f"| {cell(one.shows)} {_test(one.test)} "
        f"| {', '.join(said(stated, it) for it in one.tried) or '–'} | {_result(known, one)} |"
        for one in found
        if one.promise == name
    ]
    runs, faults = soaked.runs(), soaked.kinds()
    rows += [
        f"| Under all faults at once, *{kind}*: {cell((faults[kind].__doc__ or '').split(chr(10) * 2)[0])} "
        f"| {said(stated, fault)} | {outcome} |"
        for kind, (_, fault) in soaked.tried(name).items()
        if (outcome := soaked.dealt(kind, runs))
    ]
    table = "\n".join(["| what a test shows | tried | cases and last result |", "|---|---|---|", *rows])
    return f"### `{name}`\n\n**{says}**\n\n{table if rows else 'Not tried.'}"


def _test(test: str) -> str:
    path, name = test.split("::")
    return f"[`{name}`](../../tests/{path})"


def _result(known: dict[str, dict[str, Any]], proof: Proof) -> str:
    if (one := known.get(proof.test)) is None:
        return "not recorded"
    size = f"; {one['size']}" if "size" in one else ""
    outcome = "passed" if not one["failed"] else f"**{one['failed']} failed**"
    cases = f"{one['cases']:,} case{'' if one['cases'] == 1 else 's'}"
    return f"{cases}{size}; {outcome} in {one['seconds']:g} s, {one['on']}"


def _tests(found: list[Proof], name: str, stated: dict[str, Any]) -> str:
    """Return what tries a fault or an input, and what is left."""
    tests = [_test(one) for one in dict.fromkeys(proof.test for proof in found if name in proof.tried)]
    kinds = [kind for kind, (_, fault) in soaked.tried().items() if fault == name]
    parts = [f"<details><summary>{len(tests)} tests</summary>{', '.join(tests)}</details>"]
    if len(tests) <= SHOWN:
        parts = [", ".join(tests)] if tests else []
    if kinds:
        parts.append(f"[harness](#under-all-faults-at-once): {', '.join(kinds)}")
    if not (tests or kinds):
        parts.append("**No test.**")
    for key, word in (("not_tried", "Left"), ("not_applicable", "Does not apply")):
        if name in stated[key]:
            parts.append(f"**{word}:** {stated[key][name]}")
    return " ".join(part if part.endswith((".", ">", "*")) else f"{part}." for part in parts)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def with_promises(page: Path) -> str:
    """Return the page of a guarantee with its promises, and how many tests hold each."""
    stated, found = promises(), proofs()
    guarantee = stated["guarantees"][page.stem]
    lines = []
    for name, says in guarantee["promises"].items():
        held = len({proof.test for proof in found if proof.promise == name})
        counted = f"{held} {'test' if held == 1 else 'tests'}"
        lines.append(f"- {says} ([{counted}](../../reference/guarantees.md#{name}))")
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    anchor = _anchor(guarantee["title"])
    last = f"[The proofs](../../reference/guarantees.md#{anchor}) name the tests, the faults and the last results."
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{last}\n\n{END}{after}"
