"""Declared parameters of launchers, and the one rule by which every endpoint checks what a person gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from spanpost.text.locales import LocaleMessage
from spanpost.text.sanitise import line

ParameterKind: TypeAlias = Literal["text", "choice", "number"]
#: Characters of a value.
LONGEST_VALUE: Final = 1_000
NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?\Z")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that a launcher declares."""

    name: str
    kind: ParameterKind = "text"
    #: How people read its name; empty: the name.
    label: str = ""
    hint: str = ""
    required: bool = False
    #: The value if none is given.
    default: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def fault(self, value: str) -> LocaleMessage | None:
        """Return why it cannot have this value; None if it can."""
        if not value:
            return LocaleMessage("fault.missing") if self.required else None
        if len(value) > LONGEST_VALUE:
            return LocaleMessage("fault.long", {"most": LONGEST_VALUE})
        if self.kind == "choice" and value not in self.choices:
            return LocaleMessage("fault.choice", {"choices": ", ".join(self.choices)})
        return self._number_fault(value) if self.kind == "number" else None

    def _number_fault(self, value: str) -> LocaleMessage | None:
        if not NUMBER.match(value):
            return LocaleMessage("fault.number")
        number = Decimal(value)
        if self.minimum is not None and number < Decimal(str(self.minimum)):
            return LocaleMessage("fault.least", {"least": f"{self.minimum:g}"})
        if self.maximum is not None and number > Decimal(str(self.maximum)):
            return LocaleMessage("fault.most", {"most": f"{self.maximum:g}"})
        return None


def checked(declared: Sequence[Parameter], given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, LocaleMessage]]:
    """Return the values to start with, and the faults by parameter; one of both is empty.

    A launcher that declares nothing accepts everything.
    """
    if not declared:
        return dict(given), {}
    known = {one.name: one for one in declared}
    values = {name: (given.get(name) or "").strip() or one.default for name, one in known.items()}
    faults = {name: fault for name, one in known.items() if (fault := one.fault(values[name])) is not None}
    for name in given.keys() - known.keys():
        faults[name] = LocaleMessage("fault.unknown", {"known": ", ".join(known)})
    return ({}, faults) if faults else ({name: value for name, value in values.items() if value}, {})


def sentence_of(faults: Mapping[str, LocaleMessage], tell: Callable[[LocaleMessage], str]) -> str:
    """Return all faults in one line."""
    return "; ".join(f"{line(name, 100)} {tell(fault)}" for name, fault in faults.items())
