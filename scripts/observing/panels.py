"""Parts of all dashboards: datasources, queries, panels of few sorts, annotations."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from observing import datasources

#: Variables of each dashboard: a Grafana may have other datasources of these types.
PROMETHEUS = c.DataSourceRef(datasources.TYPES[datasources.PROMETHEUS], "${prometheus}")
POSTGRES = c.DataSourceRef(datasources.TYPES[datasources.POSTGRES], "${postgres}")
#: What a dashboard's variables narrow metrics to.
WHO = 'agent=~"$agent",environment=~"$environment",tenant=~"$tenant"'
GREEN, YELLOW, RED = "green", "yellow", "red"
#: The nine statuses, coloured as they are in Slack.
STATUS_COLORS = {
    "starting": "blue",
    "working": GREEN,
    "waiting": YELLOW,
    "paused": "#8e8e8e",
    "stalled": "orange",
    "context_warning": "#b8a000",
    "complete": "semi-dark-green",
    "error": RED,
    "cancelled": "#6e6e6e",
}


class Sql(variants.Dataquery):
    """A query of PostgreSQL."""

    def __init__(self, sql: str, *, is_series: bool) -> None:
        self.sql = sql
        self.format = "time_series" if is_series else "table"

    def to_json(self) -> dict[str, Any]:
        """Return the model."""
        return {
            "refId": "A",
            "datasource": POSTGRES.to_json(),
            "rawQuery": True,
            "editorMode": "code",
            "format": self.format,
            "rawSql": self.sql,
        }


class _Built(builder.Builder[Sql]):
    def __init__(self, query: Sql) -> None:
        self._query = query

    def build(self) -> Sql:
        return self._query


def thresholds(*steps: tuple[float | None, str], share: bool = False) -> d.ThresholdsConfig:
    """Return thresholds from their lower bounds; None is the beginning."""
    mode = m.ThresholdsMode.PERCENTAGE if share else m.ThresholdsMode.ABSOLUTE
    return d.ThresholdsConfig().mode(mode).steps([m.Threshold(value=at, color=color) for at, color in steps])


def _target(
    panel: Any, expr: str, legend: str, *, exemplar: bool = False, instant: bool = False, ref: str = "A"
) -> Any:
    query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref)
    if instant:
        query = query.instant()
        if legend == "":
            query = query.format(PromQueryFormat.TABLE)
    if exemplar:
        query = query.exemplar(True)
    return panel.with_target(query)


def number(
    title: str, says: str, expr: str, unit: str = "short", *steps: tuple[float | None, str], width: int = 4
) -> Any:
    """Return one large figure."""
    panel = stat.Panel().title(title).description(says).datasource(PROMETHEUS).unit(unit).height(4).span(width)
    panel = panel.thresholds(thresholds(*(steps or ((None, GREEN),)))).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"])
    )
    return _target(panel, expr, title, instant=True)


def found(
    title: str,
    says: str,
    sql: str,
    unit: str = "short",
    width: int = 4,
    steps: tuple[tuple[float | None, str], ...] = ((None, "text"),),
) -> Any:
    """Return one large figure from PostgreSQL: the query returns `value`."""
    panel = stat.Panel().title(title).description(says).datasource(POSTGRES).unit(unit).height(4).span(width)
    panel = panel.thresholds(thresholds(*steps)).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.with_target(_Built(Sql(sql, is_series=False)))


def in_words(panel: Any, words: dict[str, tuple[str, str]]) -> Any:
    """Return a figure's panel that shows words for its values: each with a colour."""
    options = {
        value: {"text": text, "color": color, "index": n} for n, (value, (text, color)) in enumerate(words.items())
    }
    return panel.mappings([m.ValueMap(options={k: m.ValueMappingResult(**v) for k, v in options.items()})])


def lines(
    title: str,
    says: str,
    *queries: tuple[str, str],
    unit: str = "short",
    width: int = 12,
    exemplar: bool = False,
    steps: tuple[tuple[float | None, str], ...] = (),
    stacked: bool = False,
    most: float | None = None,
) -> Any:
    """Return curves of metrics; each is (query, legend)."""
    panel = (
        timeseries.Panel().title(title).description(says).datasource(PROMETHEUS).unit(unit).height(8).span(width).min(0)
    )
    panel = panel.fill_opacity(30 if stacked else 8).line_width(2).show_points(c.VisibilityMode.NEVER).span_nulls(True)
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(c.LegendDisplayMode.LIST)
        .placement(c.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel = panel.tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
    if most is not None:
        panel = panel.max(most)
    if steps:
        panel = panel.thresholds(thresholds(*steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    for number_, (expr, legend) in enumerate(queries):
        panel = _target(panel, expr, legend, exemplar=exemplar, ref=chr(65 + number_))
    return panel


def colored(panel: Any, colors: dict[str, str]) -> Any:
    """Return the panel with a colour of its own for each series of these names."""
    for name, color in colors.items():
        panel = panel.override_by_name(name, [m.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def bars(
    title: str,
    says: str,
    expr: str,
    legend: str,
    unit: str = "short",
    width: int = 8,
    steps: tuple[tuple[float | None, str], ...] = ((None, "blue"),),
    most: float | None = None,
) -> Any:
    """Return a bar for each series, the longest first."""
    panel = (
        bargauge.Panel().title(title).description(says).datasource(PROMETHEUS).unit(unit).height(8).span(width).min(0)
    )
    panel = panel.orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = (
        panel.text(common.VizTextDisplayOptions().title_size(13).value_size(16)).max_viz_height(28).min_viz_height(14)
    )
    if most is not None:
        panel = panel.max(most)
    # Sorted by the query: Grafana draws them in the order in which they are answered.
    return _target(panel.thresholds(thresholds(*steps)), f"sort_desc({expr})", legend, instant=True)


def rows(
    title: str,
    says: str,
    sql: str,
    *,
    width: int = 24,
    height: int = 8,
    units: dict[str, str] | None = None,
    widths: dict[str, int] | None = None,
    hidden: tuple[str, ...] = (),
    steps: dict[str, tuple[tuple[float | None, str], ...]] | None = None,
    statuses: tuple[str, ...] = (),
) -> Any:
    """Return a table from PostgreSQL.

    By column: units, widths (pixels), thresholds that colour it, those that hold a status.
    """
    panel = table.Panel().title(title).description(says).datasource(POSTGRES).height(height).span(width)
    panel = panel.with_target(_Built(Sql(sql, is_series=False)))
    properties: dict[str, list[m.DynamicConfigValue]] = {}
    for column, unit in (units or {}).items():
        properties.setdefault(column, []).append(m.DynamicConfigValue("unit", unit))
    for column, pixels in (widths or {}).items():
        properties.setdefault(column, []).append(m.DynamicConfigValue("custom.width", pixels))
    for column in hidden:
        properties.setdefault(column, []).append(m.DynamicConfigValue("custom.hidden", True))
    for column, bounds in (steps or {}).items():
        levels = {"mode": "absolute", "steps": [{"value": at, "color": color} for at, color in bounds]}
        text = m.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
        properties.setdefault(column, []).extend([m.DynamicConfigValue("thresholds", levels), text])
    for column in statuses:
        words = {status: {"color": color, "index": n} for n, (status, color) in enumerate(STATUS_COLORS.items())}
        text = m.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
        mapping = m.DynamicConfigValue("mappings", [{"type": "value", "options": words}])
        properties.setdefault(column, []).extend([mapping, text])
    for column, values in properties.items():
        panel = panel.override_by_name(column, values)
    return panel


def linked(panel: Any, column: str, title: str, url: str, *, is_outside: bool = False) -> Any:
    """Return the panel with a link on a column."""
    link = {"title": title, "url": url, "targetBlank": is_outside}
    return panel.override_by_name(column, [m.DynamicConfigValue("links", [link])])


def curve(
    title: str,
    says: str,
    sql: str,
    unit: str = "short",
    *,
    steps: tuple[tuple[float | None, str], ...] = (),
    width: int = 12,
    most: float | None = None,
) -> Any:
    """Return curves from PostgreSQL: the query returns time, metric, value."""
    panel = (
        timeseries.Panel().title(title).description(says).datasource(POSTGRES).unit(unit).height(8).span(width).min(0)
    )
    panel = panel.show_points(c.VisibilityMode.ALWAYS).line_width(2).span_nulls(True)
    if most is not None:
        panel = panel.max(most)
    if steps:
        panel = panel.thresholds(thresholds(*steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    return panel.with_target(_Built(Sql(sql, is_series=True)))


#: Annotations over graphs: name, filter on the view `grafana_annotations`, colour, and whether it is on from
#: the beginning.
Note = tuple[str, str, str, bool]
_FAILED = "kind = 'task' AND task_uid IN (SELECT uid FROM agent_tasks WHERE status = 'error' OR ended_at IS NULL)"
#: Of a fleet only what needs attention; the rest after a click, because hundreds of tasks hide the curves
#: below them.
UNDER_WAY: Note = ("Tasks under way or failed", _FAILED, "blue", True)
NOTES: tuple[Note, ...] = (
    UNDER_WAY,
    ("Questions and stalls", "kind IN ('approval_requested', 'stalled')", "orange", True),
    ("All tasks", "kind = 'task'", "blue", False),
    ("Errors and warnings", "kind NOT IN ('task', 'approval_requested', 'approval_resolved', 'stalled')", "red", False),
)


def annotations(note: Note) -> d.AnnotationQuery:
    """Return tasks, warnings or approvals as annotations."""
    name, where, color, is_on = note
    sql = (
        "SELECT time, timeend, text, tags FROM grafana_annotations"
        f" WHERE time <= $__timeTo() AND coalesce(timeend, time) >= $__timeFrom() AND {where} ORDER BY time "
        f"DESC LIMIT 500"
    )
    query = d.AnnotationQuery().name(name).datasource(POSTGRES).enable(is_on).icon_color(color)
    return query.target(_Built(Sql(sql, is_series=False)))  # type: ignore[arg-type]


def of_label(name: str, label: str, metric: str) -> Any:
    """Return a variable with the values of a label."""
    variable = d.QueryVariable(name).label(label).datasource(PROMETHEUS).multi(True).include_all(True)
    return variable.query({"query": f"label_values({metric}, {name})", "refId": "A"}).refresh(
        m.VariableRefresh.ON_TIME_RANGE_CHANGED
    )


def dashboard(
    name: str, title: str, says: str, *, hours: int = 6, notes: tuple[Note, ...] = NOTES, is_of_fleet: bool = True
) -> d.Dashboard:
    """Return a dashboard with its variables, and links to the others."""
    made = d.Dashboard(title).uid(f"spanpost-{name}").description(says).tags(["spanpost"]).refresh("30s")
    made = made.time(f"now-{hours}h", "now").timezone("browser").tooltip(m.DashboardCursorSync.CROSSHAIR)
    made = made.link(
        d.DashboardLink("spanpost")
        .type(m.DashboardLinkType.DASHBOARDS)
        .tags(["spanpost"])
        .keep_time(True)
        .as_dropdown(True)
    )
    made = made.with_variable(d.DatasourceVariable("prometheus").label("Prometheus").type("prometheus"))
    made = made.with_variable(d.DatasourceVariable("postgres").label("Postgres").type("grafana-postgresql-datasource"))
    if is_of_fleet:
        for variable, label in (("agent", "Agent"), ("environment", "Environment"), ("tenant", "Tenant")):
            made = made.with_variable(of_label(variable, label, "spanpost_tasks_started_total"))
    for note in notes:
        made = made.annotation(annotations(note))
    return made
