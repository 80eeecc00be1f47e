"""How many examples the property tests try: the full number in CI, a quarter on a laptop and in `make test-fast`.

CI tries the same seeds each time, and nearly the same examples (hypothesis also draws constants of the modules that
happen to be loaded), so that a change is judged by its own effect; a laptop tries new ones and keeps failures. With
SPANPOST_TEST_SEEDS=new the full number is tried with new examples.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"
#: Whether the full number is tried; the fast tests try few, as on a laptop.
IS_THOROUGH = IN_CI and os.environ.get("TEST_EXAMPLES") != "few"
#: Whether each run tries the same examples.
IS_SAME = IN_CI and os.environ.get("SPANPOST_TEST_SEEDS") != "new"
#: The profile of tests that set no number. A busy machine is no failure: there are no deadlines. A machine
#: that stands still for a moment is no fault of an example.
_PATIENT = [HealthCheck.too_slow]
settings.register_profile(
    "thorough", max_examples=100, deadline=None, derandomize=IS_SAME, suppress_health_check=_PATIENT
)
settings.register_profile("quick", max_examples=15, deadline=None, derandomize=IS_SAME, suppress_health_check=_PATIENT)
settings.load_profile("thorough" if IS_THOROUGH else "quick")


def thorough(examples: int) -> settings:
    """Return the settings of a property test that tries so many examples in CI."""
    tried = examples if IS_THOROUGH else max(examples // 4, 10)
    return settings(max_examples=tried, deadline=None, suppress_health_check=_PATIENT)


def by_seeds(number: int, *failed: tuple[int, int]) -> Callable[[Callable[[int, int], None]], Callable[[], None]]:
    """Run a test of a random history with `number` pairs of seeds, of the history and of its order.

    `failed`: pairs that failed once; they are tried first.
    """

    def decorate(test: Callable[[int, int], None]) -> Callable[[], None]:
        def run() -> None:
            random = Random(test.__name__) if IS_SAME else Random()
            for seed, order in (*failed, *((random.getrandbits(32), random.getrandbits(32)) for _ in range(number))):
                try:
                    test(seed, order)
                except Exception as error:
                    error.add_note(f"seed={seed}, order={order}")
                    raise

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        run.cases = number + len(failed)  # type: ignore[attr-defined]  # for the page of proofs
        return run

    return decorate
