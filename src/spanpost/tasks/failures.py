"""What a failure says in a line: the class of its exception, and the first line of its words."""

from __future__ import annotations

import re
from typing import Final

from spanpost.model.readings import Failure
from spanpost.text.sanitise import line

#: Characters of a type as it was sent, of a class name, and of a line.
_SENT, _TYPE, _LINE = 400, 80, 300
#: The class at the end of a path: `__main__.DeployFailed`, `java.net.ConnectException`, `App\\Fault`. A word that
#: is no class name (`rate_limit.exceeded`), and a type of Go (`*url.Error`), stays whole.
_CLASS: Final = re.compile(r"(?:[\w$<>-]+[.\\]|[\w$]+::)+(_*[A-Z]\w*)")
_MAIN: Final = "__main__."


def class_name(type: str) -> str:
    """Return an exception's class as people say it: without the module, which is kept in the row."""
    sent = line(type, _SENT)
    found = _CLASS.fullmatch(sent)
    return line(found[1] if found is not None else sent.removeprefix(_MAIN), _TYPE)


def said_parts(type: str, words: str) -> tuple[str, str]:
    """Return class and words of a failure; the type is not repeated where a program wrote the whole exception:

    ``TimeoutError('no answer')`` and ``asyncio.TimeoutError: no answer`` are ``TimeoutError`` and ``no answer``.
    """
    name = class_name(type)
    for kind in filter(None, dict.fromkeys((line(type, _SENT), name))):
        if words == kind:
            return name, ""
        if words.startswith(f"{kind}: "):
            return name, words.removeprefix(f"{kind}: ")
        if words.startswith((f"{kind}('", f'{kind}("')) and words.endswith(f"{words[len(kind) + 1]})"):
            return name, words[len(kind) + 2 : -2]
    return name, words


def said(type: str, words: str) -> str:
    """Return class and words of a failure in one text: ``RolloutFailed: canary at 12 % errors``."""
    name, why = said_parts(type, words)
    return why if name and why.startswith(name) else ": ".join(filter(None, (name, why)))


def failure_parts(failure: Failure | None, translated: str | None = None) -> tuple[str, str]:
    """Return class and first line of a failure. `translated`: its words in another language."""
    if failure is None:
        return "", ""
    words = failure.message if translated is None else translated
    name, why = said_parts(failure.type, line(words.strip().partition("\n")[0], _SENT + _LINE))
    return name, line(why, _LINE)


def failure_line(failure: Failure | None, translated: str | None = None) -> str:
    """Return class and first line of a failure in one text."""
    return said(*failure_parts(failure, translated))
