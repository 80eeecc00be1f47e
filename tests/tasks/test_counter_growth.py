"""What counters, which cannot take anything back, are told of figures that grew."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spanpost.tasks.usage import counter_growth

SMALL = st.one_of(st.integers(-3, 9), st.just(0))
FLOWS: st.SearchStrategy[Any] = st.tuples(*[SMALL] * 13)
WHOLES: st.SearchStrategy[Any] = st.tuples(*[st.integers(0, 20)] * 13)


@given(WHOLES, WHOLES, st.dictionaries(st.sampled_from("abc"), FLOWS, max_size=3))
def test_counters_are_told_all_that_grew_and_no_more(whole: Any, told: Any, grown: Any) -> None:
    """No model's figure falls or grows by more than it did, and of each figure as much is told as the whole grew and models did."""
    found = counter_growth(whole, told, grown)
    for model, more in found.items():
        assert any(more)
        assert all(0 <= n <= max(0, d) for n, d in zip(more, grown[model], strict=True))
    for i in range(13):
        section, gains = max(0, whole[i] - told[i]), sum(max(0, amounts[i]) for amounts in grown.values())
        assert sum(more[i] for more in found.values()) == min(section, gains)
