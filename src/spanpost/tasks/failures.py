"""What a failure says in a line: its type, and the first line of its words."""

from __future__ import annotations

from spanpost.model.readings import Failure
from spanpost.text.sanitise import line

#: Characters of a type, and of a line.
_TYPE, _LINE = 80, 300


def failure_parts(failure: Failure | None, said: str | None = None) -> tuple[str, str]:
    """Return type and first line of a failure; the type is not repeated where a program wrote the whole exception:

    ``TimeoutError('no answer')`` and ``TimeoutError: no answer`` are ``TimeoutError`` and ``no answer``. `said`: its
    words in another language.
    """
    if failure is None:
        return "", ""
    words = failure.message if said is None else said
    kind, why = line(failure.type, _TYPE), line(words.strip().partition("\n")[0], _LINE)
    if kind and why.startswith(f"{kind}: "):
        return kind, why.removeprefix(f"{kind}: ")
    if kind and why.startswith((f"{kind}('", f'{kind}("')) and why.endswith(f"{why[len(kind) + 1]})"):
        return kind, why[len(kind) + 2 : -2]
    return kind, why


def failure_line(failure: Failure | None, said: str | None = None) -> str:
    """Return type and first line of a failure: ``RolloutFailed: canary at 12 % errors``."""
    return ": ".join(filter(None, failure_parts(failure, said)))
