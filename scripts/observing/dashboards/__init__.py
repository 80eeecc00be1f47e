"""The four dashboards."""

from __future__ import annotations

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from observing.dashboards.fleet import fleet
from observing.dashboards.pipeline import pipeline
from observing.dashboards.spend import spend
from observing.dashboards.task import task

#: The newest schema that Grafana 11.0 reads.
SCHEMA: Final = 39


def dashboards() -> dict[str, str]:
    """Return all dashboards as JSON, by name."""
    made: dict[str, Any] = {"fleet": fleet(), "task": task(), "spend": spend(), "pipeline": pipeline()}
    return {
        name: json.dumps(_of_eleven(one), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for name, one in made.items()
    }


def _of_eleven(one: d.Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana 11 and newer read it: the SDK writes the schema of Grafana 12."""
    made: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(one.build()))
    for link in (*made["links"], *made["annotations"]["list"]):
        link.pop("placement", None)
    return made | {"schemaVersion": SCHEMA}
