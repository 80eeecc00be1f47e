"""What surrounds the panels of a dashboard: variables, links, annotations, rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m

from observing.panels import AGENTS, POSTGRES, PROMETHEUS, asks

#: Annotations over graphs: name, filter on the view `grafana_annotations`, colour, and whether it is on from
#: the beginning.
Note = tuple[str, str, str, bool]
#: Of a fleet all are off: hundreds of tasks hide the curves below them.
NOTES: tuple[Note, ...] = (
    (
        "Failed tasks",
        "t.kind = 'task' AND t.task_uid IN (SELECT uid FROM agent_tasks WHERE status = 'error')",
        "red",
        False,
    ),
    ("Questions and stalls", "t.kind IN ('approval_requested', 'stalled')", "orange", False),
    ("All tasks", "t.kind = 'task'", "blue", False),
    (
        "Errors and warnings",
        "t.kind NOT IN ('task', 'approval_requested', 'approval_resolved', 'stalled')",
        "yellow",
        False,
    ),
)
_OVERLAP = "t.started_at <= $__timeTo() AND coalesce(t.ended_at, now()) >= $__timeFrom()"


def _annotations(note: Note, *, is_of_fleet: bool) -> d.AnnotationQuery:
    """Return tasks, warnings or approvals as annotations."""
    name, where, color, is_on = note
    sql = (
        "SELECT t.time, t.timeend, t.text, t.tags FROM grafana_annotations t"
        f" WHERE t.time <= $__timeTo() AND coalesce(t.timeend, t.time) >= $__timeFrom() AND {where}"
        f"{f' AND {AGENTS}' if is_of_fleet else ''} ORDER BY t.time DESC LIMIT 500"
    )
    query = d.AnnotationQuery().name(name).datasource(POSTGRES).enable(is_on).icon_color(color)
    return asks(query, sql)  # type: ignore[no-any-return]


def _of_label(name: str) -> Any:
    """Return a variable with the values of a label of spanpost's processes."""
    variable = d.QueryVariable(name).label(name.capitalize()).datasource(PROMETHEUS).multi(True).include_all(True)
    narrowed = '{job=~"$job"}' if name == "instance" else ""
    query = {"query": f"label_values(spanpost_build_info{narrowed}, {name})", "refId": "A"}
    return variable.all_value(".+").query(query).refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _of_tasks(name: str, column: str) -> Any:
    """Return a variable with the values of a column of the tasks in the time range.

    `other` and `unknown` are what metrics call the rest.
    """
    sql = (
        f"SELECT DISTINCT coalesce(nullif({column}, ''), 'unknown') FROM agent_tasks t WHERE {_OVERLAP}"
        " UNION VALUES ('other'), ('unknown') ORDER BY 1"
    )
    variable = d.QueryVariable(name).label(name.capitalize()).datasource(POSTGRES).multi(True).include_all(True)
    return variable.query(sql).refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED)


def dashboard(
    name: str,
    title: str,
    says: str,
    *,
    hours: int = 6,
    notes: tuple[Note, ...] = NOTES,
    is_of_fleet: bool = True,
    labels: tuple[str, ...] = ("job",),
) -> d.Dashboard:
    """Return a dashboard with its variables, and links to the others.

    `labels` are those of spanpost's processes that it can be narrowed to.
    """
    made = d.Dashboard(title).uid(f"spanpost-{name}").description(says).tags(["spanpost"]).refresh("30s").readonly()
    made = made.time(f"now-{hours}h", "now").timezone("browser").tooltip(m.DashboardCursorSync.CROSSHAIR)
    made = made.link(
        d.DashboardLink("spanpost")
        .type(m.DashboardLinkType.DASHBOARDS)
        .tags(["spanpost"])
        .keep_time(True)
        .as_dropdown(True)
    )
    if labels:
        made = made.with_variable(
            d.DatasourceVariable("prometheus_datasource").label("Prometheus data source").type("prometheus")
        )
    made = made.with_variable(
        d.DatasourceVariable("postgres_datasource").label("PostgreSQL data source").type(str(POSTGRES.type_val))
    )
    for label in labels:
        made = made.with_variable(_of_label(label))
    if is_of_fleet:
        for variable, column in (("agent", "t.agent_name"), ("environment", "t.environment"), ("tenant", "t.tenant")):
            made = made.with_variable(_of_tasks(variable, column))
    for note in notes:
        made = made.annotation(_annotations(note, is_of_fleet=is_of_fleet))
    return made


def in_rows(made: d.Dashboard, rows: Mapping[str, Iterable[Any]], *, closed: tuple[str, ...] = ()) -> d.Dashboard:
    """Return the dashboard with its panels below headings that fold; those in `closed` begin folded."""
    for title, panels in rows.items():
        row = d.Row(title)
        if title in closed:
            row = row.collapsed(True)
            for panel in panels:
                row = row.with_panel(panel)
            made = made.with_row(row)
            continue
        made = made.with_row(row)
        for panel in panels:
            made = made.with_panel(panel)
    return made
