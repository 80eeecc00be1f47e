"""Panels of time: states as bars, durations as a heatmap, a trace."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, prometheus, statetimeline
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import heatmap as h
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from observing.panels import HIGH, NOTHING, POSTGRES, PROMETHEUS, TRACES, asks, in_words

#: A row in which nothing happens.
IDLE = {"0": ("idle", "transparent")}


def states(
    title: str, says: str, sql: str, words: dict[str, tuple[str, str]], *, height: int = HIGH, width: int = 12
) -> Any:
    """Return a row for each `metric` of a query of time, metric, value; `words` names and colours the values.

    A state ends with the next value of its row: 0 is idle.
    """
    panel = statetimeline.Panel().title(title).description(says).datasource(POSTGRES).height(height).span(width)
    panel = panel.show_value(c.VisibilityMode.NEVER).merge_values(True).row_height(0.8).fill_opacity(80).line_width(0)
    # Rows have values at different times: the gaps between are no ends.
    panel = panel.span_nulls(True).no_value(NOTHING).legend(common.VizLegendOptions().show_legend(False))
    panel = panel.tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.SINGLE))
    return asks(in_words(panel, IDLE | words), sql, is_series=True)


def heat(title: str, says: str, buckets: str, *, unit: str = "s", width: int = 12) -> Any:
    """Return a histogram's buckets over time; `buckets` is a selector of `_bucket`."""
    panel = heatmap.Panel().title(title).description(says).datasource(PROMETHEUS).height(HIGH).span(width)
    panel = panel.color(
        heatmap.HeatmapColorOptions()
        .mode(h.HeatmapColorMode.SCHEME)
        .scheme("Blues")
        .steps(32)
        .reverse(False)
        .fill("dark-blue")
        .exponent(0.5)
    )
    panel = panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(c.AxisPlacement.LEFT))
    panel = panel.filter_values(heatmap.FilterValueRange().le(1e-9)).cell_gap(1).no_value(NOTHING).unit("short")
    query = (
        prometheus.Dataquery()
        .expr(f"sum by (le) (increase({buckets}[$__rate_interval]))")
        .format(PromQueryFormat.HEATMAP)
        .legend_format("{{le}}")
        .ref_id("A")
    )
    return panel.with_target(query)


class _Trace(variants.Dataquery):
    """A trace by its id."""

    def __init__(self, trace_id: str) -> None:
        self._trace_id = trace_id

    def to_json(self) -> dict[str, Any]:
        """Return the model."""
        return {"refId": "A", "datasource": TRACES.to_json(), "queryType": "traceql", "query": self._trace_id}


class _Built(builder.Builder[_Trace]):
    def __init__(self, query: _Trace) -> None:
        self._query = query

    def build(self) -> _Trace:
        return self._query


def trace(title: str, says: str, trace_id: str, *, height: int = 16) -> Any:
    """Return the spans of one trace, out of the backend of traces."""
    panel = d.Panel().type("traces").title(title).description(says).datasource(TRACES).height(height).span(24)
    return panel.no_value(NOTHING).with_target(_Built(_Trace(trace_id)))
