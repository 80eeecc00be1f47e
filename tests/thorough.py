"""How many examples the property tests try: the full number in CI, a quarter on a laptop.

CI tries the same examples each time, so that a change is judged by its own effect; a laptop tries new ones and keeps
failures. With SPANPOST_TEST_SEEDS=new the full number is tried with new examples.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"
#: Whether each run tries the same examples.
IS_SAME = IN_CI and os.environ.get("SPANPOST_TEST_SEEDS") != "new"
#: The profile of tests that set no number. A busy machine is no failure: there are no deadlines. A machine
#: that stands still for a moment is no fault of an example.
_PATIENT = [HealthCheck.too_slow]
settings.register_profile(
    "thorough", max_examples=100, deadline=None, derandomize=IS_SAME, suppress_health_check=_PATIENT
)
settings.register_profile("quick", max_examples=15, deadline=None, suppress_health_check=_PATIENT)
settings.load_profile("thorough" if IN_CI else "quick")


def thorough(examples: int) -> settings:
    """Return the settings of a property test that tries so many examples in CI."""
    tried = examples if IN_CI else max(examples // 4, 10)
    return settings(max_examples=tried, deadline=None, suppress_health_check=_PATIENT)
