"""Parts of several dashboards: targets of links, variables, thresholds."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as d

from observing.datasources import TRACES, TYPES
from observing.panels import AGENTS, GREEN, RED, YELLOW

#: Links to a task and its time range, and to its page on the board: a table with them has RANGE's hidden columns.
TASK = (
    "Open the task",
    "/d/spanpost-task?var-task=${__data.fields.id:percentencode}&from=${__data.fields.from}&to=${__data.fields.to}"
    "&${postgres_datasource:queryparam}&${board:queryparam}",
)
BOARD = ("Open it on the board", "${board}/board/tasks/${__data.fields.id:percentencode}")
HIDDEN = ("id", "from", "to")
#: Their column of the board's links.
ON_BOARD = "'open' AS \"Board\""
RANGE = (
    't.task_id AS "id", (extract(epoch FROM t.started_at) * 1000 - 60000)::bigint AS "from",'
    ' (extract(epoch FROM coalesce(t.ended_at, now())) * 1000 + 60000)::bigint AS "to"'
)
_TRACES = "${tempo_datasource}"
#: A trace by its id, in Explore.
TRACE = (
    f"/explore?schemaVersion=1&panes=%7B%22t%22:%7B%22datasource%22:%22{_TRACES}%22,%22queries%22:%5B%7B%22refId%22:%22A%22,"
    f"%22datasource%22:%7B%22type%22:%22{TYPES[TRACES]}%22,%22uid%22:%22{_TRACES}%22%7D,%22queryType%22:%22traceql%22,"
    "%22query%22:%22${__value.raw}%22%7D%5D,%22range%22:%7B%22from%22:%22${__from}%22,%22to%22:%22${__to}%22%7D%7D%7D"
)
BUDGET = ((None, GREEN), (0.8, YELLOW), (1.0, RED))
OK = {"ok": GREEN, "delivered": GREEN, "error": RED}
USED = f"FROM model_usage u JOIN agent_tasks t ON t.uid = u.task_uid WHERE $__timeFilter(u.at) AND {AGENTS}"
#: Address of the board, as people reach it.
BOARD_VARIABLE = d.TextBoxVariable("board").label("Board").default_value("http://127.0.0.1:4318")
ENDED = f"FROM agent_tasks t WHERE $__timeFilter(t.ended_at) AND t.announced AND {AGENTS}"
CONTEXT = ((None, GREEN), (0.7, YELLOW), (0.85, RED))
