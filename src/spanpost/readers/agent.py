"""``agent.*``: spanpost's own conventions, version 1. They win over every other dialect."""

from __future__ import annotations

from spanpost import semconv as c
from spanpost.readers.dialect import Dialect

AGENT = Dialect(
    name="agent",
    source="spanpost conventions, version 1",
    cannot_tell=(),
    fields={
        "task_id": (c.TASK_ID,),
        "task_name": (c.TASK_NAME,),
        "task_type": (c.TASK_TYPE,),
        "task_parent_id": (c.TASK_PARENT_ID,),
        "agent": (c.NAME,),
        "agent_id": (c.ID,),
        "agent_version": (c.VERSION,),
        "repo": (c.REPO,),
        "topic": (c.TOPIC,),
        "requested_by": (c.REQUESTED_BY,),
        "retry_of": (c.RETRY_OF,),
        "caused_by": (c.CAUSED_BY,),
        "order_id": (c.ORDER_ID,),
        "status": (c.STATUS,),
        "progress": (c.PROGRESS,),
        "action": (c.ACTION,),
        "step_name": (c.STEP_NAME,),
        "step_index": (c.STEP_INDEX,),
        "step_count": (c.STEP_COUNT,),
        "context_used": (c.CONTEXT_USED,),
        "context_window": (c.CONTEXT_WINDOW,),
        "cost_usd": (c.COST_USD,),
    },
)

#: Fields that a resource may set for all spans of its process.
ON_RESOURCE = {
    c.TASK_ID: "task_id",
    c.NAME: "agent",
    c.ID: "agent_id",
    c.VERSION: "agent_version",
    c.REPO: "repo",
    c.TOPIC: "topic",
    "service.name": "service",
    "deployment.environment.name": "environment",
    "deployment.environment": "environment",
}
