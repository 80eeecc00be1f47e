"""How hard the tests of properties try: as told in CI, a quarter of it on a laptop."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"
#: What tests go by that do not say how hard they try. A busy machine is no failure: there are no deadlines.
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.register_profile("quick", max_examples=30, deadline=None)
settings.load_profile("thorough" if IN_CI else "quick")


def thorough(examples: int) -> settings:
    """Return the settings of a test of a property that tries so many examples in CI."""
    tried = examples if IN_CI else max(examples // 4, 20)
    return settings(max_examples=tried, deadline=None, suppress_health_check=[HealthCheck.too_slow])
