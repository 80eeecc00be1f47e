"""Parameters that a launcher declares: what is accepted, and the fault of everything else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanpost.routing.parameters import LONGEST_VALUE, Parameter, checked

DECLARED = (
    Parameter(name="repo", required=True),
    Parameter(name="size", kind="choice", choices=("small", "large"), default="small"),
    Parameter(name="rounds", kind="number", minimum=1, maximum=9.5),
)


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"repo": "acme/shop"}, {}),
        ({"repo": "acme/shop", "size": "large", "rounds": "9.5"}, {}),
        ({}, {"repo": "fault.missing"}),
        ({"repo": "  "}, {"repo": "fault.missing"}),
        ({"repo": "x" * (LONGEST_VALUE + 1)}, {"repo": "fault.long"}),
        ({"repo": "x", "size": "huge"}, {"size": "fault.choice"}),
        ({"repo": "x", "rounds": "many"}, {"rounds": "fault.number"}),
        ({"repo": "x", "rounds": "1e3"}, {"rounds": "fault.number"}),
        ({"repo": "x", "rounds": "nan"}, {"rounds": "fault.number"}),
        ({"repo": "x", "rounds": "３"}, {"rounds": "fault.number"}),
        ({"repo": "x", "rounds": "0"}, {"rounds": "fault.least"}),
        ({"repo": "x", "rounds": "9.51"}, {"rounds": "fault.most"}),
        ({"repo": "x", "branch": "main"}, {"branch": "fault.unknown"}),
        ({"size": "huge", "rounds": "0"}, {"repo": "fault.missing", "size": "fault.choice", "rounds": "fault.least"}),
    ],
)
def test_what_is_given_is_checked(given: dict[str, str], faults: dict[str, str]) -> None:
    """Each fault stands at its parameter; without one the values are given on, with the defaults."""
    values, found = checked(DECLARED, given)
    assert {name: fault.key for name, fault in found.items()} == faults
    assert values == ({} if faults else {"size": "small", **given})


def test_a_launcher_without_a_declaration_accepts_everything() -> None:
    """Without a declaration any parameters are given on as they are."""
    assert checked((), {"any": " thing "}) == ({"any": " thing "}, {})


@given(st.dictionaries(st.sampled_from(["repo", "size", "rounds", "other"]), st.text(max_size=12)))
def test_only_declared_values_pass(given: dict[str, str]) -> None:
    """What passes has declared names alone, each with a value of its kind."""
    values, faults = checked(DECLARED, given)
    if faults:
        assert values == {}
        return
    assert values.keys() <= {"repo", "size", "rounds"}
    assert values["repo"].strip()
    assert values["size"] in ("small", "large")
    assert Decimal("1") <= Decimal(values.get("rounds", "1")) <= Decimal("9.5")
