"""Known context windows: a shipped table, with the settings on top.

`scripts/generate_model_windows.py` makes the table; the file holds its source, version, date and licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import msgspec

from spanpost.tasks.context import canonical_model, model_names


class _Table(msgspec.Struct):
    """The models of the shipped file: maximum input and output tokens by name."""

    models: dict[str, tuple[int, int | None]]


def load_windows(overrides: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
    """Return the window in tokens by model name, for `FoldRules.windows`. The file is read once, at the
    first call.

    Overrides win, in any spelling (`azure/gpt-4o` is gpt-4o). An override without a date applies to all
    dates of the model; one with a date to that date, and to the undated name unless that has its own
    override.

    Raises ValueError for an override that is not a positive number, and names it.
    """
    for model, window in overrides.items():
        if isinstance(window, bool) or not isinstance(window, int) or window <= 0:
            raise ValueError(f"context window of {model!r} is {window!r}: give a positive number of tokens")
        if not model.strip():
            raise ValueError("a context window is given for an empty model name: name the model")
    table = dict(_shipped())
    named = {model: model_names(model) for model in overrides}
    undated = {names[-1] for names in named.values() if len(names) == 1}
    for name in [name for name in table if canonical_model(name) in undated]:
        del table[name]
    loose: dict[str, int] = {}
    for model, names in named.items():
        exact, canon, window = names[0], names[-1], overrides[model]
        # For two spellings of one name the smaller window counts: it warns earlier, and the order does not
        # matter.
        table[exact] = min(window, loose[exact]) if exact in loose else window
        loose[exact] = table[exact]
        if canon not in undated:
            table[canon] = min(window, loose[canon]) if canon in loose else window
            loose[canon] = table[canon]
    return table


def given_names(overrides: Mapping[str, int]) -> frozenset[str]:
    """Return the names under which `load_windows` enters the overrides."""
    named = [model_names(model) for model in overrides]
    return frozenset(name for names in named for name in (names[0], names[-1]))


def load_outputs() -> Mapping[str, int]:
    """Return the maximum output tokens by model name, where known."""
    return MappingProxyType({name: figures[1] for name, figures in _figures().items() if figures[1] is not None})


@cache
def _shipped() -> Mapping[str, int]:
    return MappingProxyType({name: figures[0] for name, figures in _figures().items()})


@cache
def _figures() -> Mapping[str, tuple[int, int | None]]:
    data = resources.files("spanpost.runtime").joinpath("data/model_windows.json").read_bytes()
    return msgspec.json.decode(data, type=_Table).models
