"""smolagents by OpenInference: the totals on an agent's span count from the agent's creation, so its calls
are counted.
"""

from __future__ import annotations

from spanpost.readers.dialect import Dialect

SMOLAGENTS = Dialect(
    name="smolagents",
    source="smolagents 1.26.0 by openinference-instrumentation-smolagents 0.1.43",
    cannot_tell=(
        "tokens from the cache",
        "the failure of a model on the root of its run: its step reports it",
        "that a run stopped at its maximum of steps",
        "that an agent was interrupted (`interrupt()`): the root of its run stays open",
        "a conversation (`reset=False`)",
    ),
    scopes=("openinference.instrumentation.smolagents",),
    has_lifetime_totals=True,
)
