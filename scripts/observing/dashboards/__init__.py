"""The four dashboards."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from observing.dashboards.fleet import fleet
from observing.dashboards.pipeline import pipeline
from observing.dashboards.spend import spend
from observing.dashboards.task import task


def dashboards() -> dict[str, str]:
    """Return all dashboards as JSON, by name."""
    made: dict[str, Any] = {"fleet": fleet(), "task": task(), "spend": spend(), "pipeline": pipeline()}
    return {
        name: json.dumps(
            json.loads(JSONEncoder(sort_keys=True).encode(one.build())), indent=1, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for name, one in made.items()
    }
