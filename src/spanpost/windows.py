"""Temporary."""
from collections.abc import Mapping


def load_windows(overrides: Mapping[str, int] = {}) -> dict[str, int]:
    return dict(overrides)
