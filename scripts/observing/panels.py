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
PROMETHEUS = c.DataSourceRef(datasources.TYPES[datasources.PROMETHEUS], "${prometheus_datasource}")
POSTGRES = c.DataSourceRef(datasources.TYPES[datasources.POSTGRES], "${postgres_datasource}")
TRACES = c.DataSourceRef(datasources.TYPES[datasources.TRACES], "${tempo_datasource}")
#: What a dashboard's variables narrow metrics to: of spanpost, of one of its processes, of agents.
JOB = 'job=~"$job"'
PROCESS = f'{JOB},instance=~"$instance"'
WHO = f'{JOB},agent=~"$agent",environment=~"$environment",tenant=~"$tenant"'
#: Height of a panel with curves.
HIGH = 9
#: What an empty panel shows.
NOTHING = "none"
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


#: What they narrow rows of `agent_tasks t` to.
TENANTS = "t.tenant = ANY(ARRAY[${tenant:sqlstring}]::text[])"
AGENTS = (
    "coalesce(nullif(t.agent_name, ''), 'unknown') = ANY(ARRAY[${agent:sqlstring}]::text[])"
    " AND coalesce(nullif(t.environment, ''), 'unknown') = ANY(ARRAY[${environment:sqlstring}]::text[])"
    f" AND {TENANTS}"
)
#: Shares of a histogram that its curves show.
QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


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


def asks(panel: Any, sql: str, *, is_series: bool = False) -> Any:
    """Return a panel or an annotation that asks PostgreSQL; a series is time, metric, value."""
    query = _Built(Sql(sql, is_series=is_series))
    return panel.with_target(query) if hasattr(panel, "with_target") else panel.target(query)


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
    panel = (
        panel.no_value(NOTHING)
        .thresholds(thresholds(*(steps or ((None, GREEN),))))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return _target(panel, expr, title, instant=True)


def found(
    title: str,
    says: str,
    sql: str,
    unit: str = "short",
    width: int = 4,
    height: int = 4,
    steps: tuple[tuple[float | None, str], ...] = ((None, "text"),),
) -> Any:
    """Return one large figure from PostgreSQL: the query returns `value`."""
    panel = stat.Panel().title(title).description(says).datasource(POSTGRES).unit(unit).height(height).span(width)
    panel = panel.no_value(NOTHING).thresholds(thresholds(*steps))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return asks(panel, sql)


def in_words(panel: Any, words: dict[str, tuple[str, str]]) -> Any:
    """Return a figure's panel that shows words for its values: each with a colour."""
    options = {
        value: {"text": text, "color": color, "index": n} for n, (value, (text, color)) in enumerate(words.items())
    }
    return panel.mappings([m.ValueMap(options={k: m.ValueMappingResult(**v) for k, v in options.items()})])


def _explained(panel: Any, *, stacked: bool = False) -> Any:
    """Return curves with a table of their last and highest values, and all values in the tooltip."""
    legend = common.VizLegendOptions().display_mode(c.LegendDisplayMode.TABLE).placement(c.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.show_legend(True).calcs(["lastNotNull", "mean" if stacked else "max"]))
    return panel.no_value(NOTHING).tooltip(
        common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
    )


def quantiles(
    buckets: str, legend: str = "", *, by: str = "", of: tuple[tuple[float, str], ...] = QUANTILES
) -> tuple[tuple[str, str], ...]:
    """Return queries for percentiles of a histogram, with their legends; `buckets` is a selector of `_bucket`."""
    grouped = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({grouped}) (rate({buckets}[$__rate_interval])))",
            f"{legend} {name}".strip(),
        )
        for share, name in of
    )


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
        timeseries.Panel()
        .title(title)
        .description(says)
        .datasource(PROMETHEUS)
        .unit(unit)
        .height(HIGH)
        .span(width)
        .min(0)
    )
    panel = panel.fill_opacity(30 if stacked else 8).line_width(2).show_points(c.VisibilityMode.NEVER).span_nulls(True)
    panel = _explained(panel, stacked=stacked)
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
    *queries: tuple[str, str],
    unit: str = "short",
    width: int = 8,
    height: int = 7,
    steps: tuple[tuple[float | None, str], ...] = ((None, "blue"),),
    most: float | None = None,
) -> Any:
    """Return a bar for each series of each query (expression, legend), the longest of a query first."""
    panel = bargauge.Panel().title(title).description(says).datasource(PROMETHEUS).unit(unit).height(height)
    panel = panel.span(width).min(0).no_value(NOTHING)
    panel = panel.orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = (
        panel.text(common.VizTextDisplayOptions().title_size(13).value_size(16)).max_viz_height(28).min_viz_height(14)
    )
    if most is not None:
        panel = panel.max(most)
    panel = panel.thresholds(thresholds(*steps))
    for n, (expr, legend) in enumerate(queries):
        # Sorted by the query: Grafana draws them in the order in which they are answered.
        panel = _target(panel, f"sort_desc({expr})", legend, instant=True, ref=chr(65 + n))
    return panel


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
    panel = asks(panel.no_value("–").unit("none"), sql)
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


def linked(panel: Any, column: str, *links: tuple[str, str], is_outside: bool = False) -> Any:
    """Return the panel with links (title, address) on a column."""
    made = [{"title": title, "url": url, "targetBlank": is_outside} for title, url in links]
    return panel.override_by_name(column, [m.DynamicConfigValue("links", made)])


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
        timeseries.Panel()
        .title(title)
        .description(says)
        .datasource(POSTGRES)
        .unit(unit)
        .height(HIGH)
        .span(width)
        .min(0)
    )
    panel = _explained(panel.show_points(c.VisibilityMode.ALWAYS).line_width(2).span_nulls(True))
    if most is not None:
        panel = panel.max(most)
    if steps:
        panel = panel.thresholds(thresholds(*steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    return asks(panel, sql, is_series=True)
