"""What a resource says about all spans of its process: the service, the agent, the task."""

from __future__ import annotations

from typing import Any

from spanpost.model.observations import Origin
from spanpost.readers import values as v
from spanpost.readers.agent import ON_RESOURCE
from spanpost.readers.dialect import DIRECT, Coerce

_SHARED = ("service", "environment", "repo", "topic")
_resources: dict[int, tuple[Origin, dict[str, Any]]] = {}
#: Bound of the cache.
_MEMO = 1024


def of_resource(origin: Origin) -> dict[str, Any]:
    """Return the fields that a resource states; under ``shared`` those of every reading, as pairs."""
    known = _resources.get(id(origin))
    if known is not None and known[0] is origin:
        return known[1]
    said: dict[str, Any] = {}
    resource = origin.resource
    for attribute, field in ON_RESOURCE.items():
        value = resource.get(attribute)
        if value is not None and field not in said:
            take: Coerce = v.name if field == "agent" else DIRECT.get(field, v.text)
            found = take(value)
            if found is not None and not (field == "service" and found.startswith("unknown_service")):
                said[field] = found
    if said:
        said["shared"] = tuple([(field, said[field]) for field in _SHARED if field in said])
    if len(_resources) >= _MEMO:
        _resources.clear()
    _resources[id(origin)] = (origin, said)
    return said
