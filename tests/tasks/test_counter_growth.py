"""How far counters, which never fall, grow with figures that may fall."""

from __future__ import annotations

from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from spanpost.tasks.amounts import ZERO, Amounts
from spanpost.tasks.usage import counter_growth

FIGURES = Amounts.__struct_fields__
GROWN = st.builds(Amounts, *[st.one_of(st.integers(-3, 9), st.just(0)) for _ in FIGURES])
WHOLES = st.builds(Amounts, *[st.integers(0, 20) for _ in FIGURES])


@pytest.mark.proves("counters")
@given(WHOLES, WHOLES, st.dictionaries(st.sampled_from("abc"), GROWN, max_size=3))
def test_counters_grow_by_all_that_grew_and_no_more(
    whole: Amounts, counted: Amounts, grown: dict[str, Amounts]
) -> None:
    """No model's counter falls or grows by more than its figure; the sum grows as the whole and the models did."""
    found = counter_growth(whole, counted, grown)
    for model, more in found.items():
        assert more != ZERO
        assert all(0 <= n <= max(0, d) for n, d in zip(astuple(more), astuple(grown[model]), strict=True))
    for figure in map(attrgetter, FIGURES):
        missing, gains = max(0, figure(whole) - figure(counted)), sum(max(0, figure(more)) for more in grown.values())
        assert sum(map(figure, found.values())) == min(missing, gains)
