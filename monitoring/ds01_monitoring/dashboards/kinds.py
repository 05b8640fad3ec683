"""The kinds of panels: each with its Grafana type and looks, before a spec says more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STEP = "30s"
"""Shortest step of a query: how often the rules are evaluated."""

_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_STAT = {
    "colorMode": "value",
    "graphMode": "none",
    "justifyMode": "auto",
    "orientation": "auto",
    "percentChangeColorMode": "standard",
    "reduceOptions": _LAST,
    "showPercentChange": False,
    "textMode": "auto",
    "wideLayout": True,
}
_LIGHT = {"colorMode": "background", "textMode": "value_and_name", "justifyMode": "center"}
_TOOLTIP = {"mode": "multi", "sort": "desc"}
_LINES = {
    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": _TOOLTIP,
}
_LINE = {
    "drawStyle": "line",
    "fillOpacity": 0,
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "showPoints": "never",
    "spanNulls": False,
}
_BARGAUGE = {
    "displayMode": "basic",
    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
    "maxVizHeight": 300,
    "minVizHeight": 16,
    "minVizWidth": 8,
    "namePlacement": "auto",
    "orientation": "horizontal",
    "reduceOptions": _LAST,
    "showUnfilled": True,
    "sizing": "auto",
    "valueMode": "text",
}
_PIE = {
    "displayLabels": [],
    "legend": {
        "calcs": [], "displayMode": "table", "placement": "right", "showLegend": True, "values": ["value"],
    },
    "pieType": "donut",
    "orientation": "auto",
    "reduceOptions": _LAST,
    "sort": "desc",
    "tooltip": {"mode": "single", "sort": "none"},
}  # fmt: skip
# Two cards of seven slices stand on a page; Grafana before 11 knows no pages.
_TIMELINE = {
    "alignValue": "center",
    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
    "mergeValues": True,
    "perPage": 14,
    "rowHeight": 0.85,
    "showValue": "auto",
    "tooltip": {"mode": "single", "sort": "none"},
}
# From rows of time, row and word to one column of words for each row, in the order of the rows and of time.
_WORDS = (
    {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "row"}]}},
    {"id": "groupingToMatrix", "options": {"columnField": "row", "rowField": "Time", "valueField": "word"}},
    {
        "id": "convertFieldType",
        "options": {
            "conversions": [{"destinationType": "time", "targetField": "Time\\row"}], "fields": {},
        },
    },
    {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "Time\\row"}]}},
)  # fmt: skip
# From rows of time, row and value to one value for each row, in the order of the rows: an answer has none of its own.
_IN_PLACE = (
    {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "row"}]}},
    {
        "id": "rowsToFields",
        "options": {
            "mappings": [
                {"fieldName": "Time", "handlerKey": "__ignore"},
                {"fieldName": "row", "handlerKey": "field.name"},
                {"fieldName": "Value", "handlerKey": "field.value"},
            ],
        },
    },
)
_TABLE = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True}
_CELLS = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "minWidth": 100}


@dataclass(frozen=True)
class Kind:
    """How one kind of panel looks before the spec says more.

    Attributes:
        type: Grafana's panel type.
        options: Its options.
        custom: Its field settings.
        instant: Asks for the end of the time range only.
        colour: How series are coloured while no thresholds are given.
        step: Shortest step of its queries.
        format: `table`, or `time_series` with a name for each series.
        transformations: What Grafana does to the answers before it draws them.
        unknown: The colour of no value, while no thresholds are given.
    """

    type: str
    options: dict[str, Any]
    custom: dict[str, Any] = field(default_factory=dict)
    instant: bool = True
    colour: dict[str, Any] = field(default_factory=lambda: {"mode": "palette-classic"})
    step: str = STEP
    format: str = "time_series"
    transformations: tuple[dict[str, Any], ...] = ()
    unknown: str = "text"


_PLAIN = {"fixedColor": "text", "mode": "fixed"}
KINDS = {
    "stat": Kind("stat", _STAT, colour=_PLAIN),
    "trend": Kind("stat", {**_STAT, "graphMode": "area"}, instant=False, colour=_PLAIN),
    "light": Kind("stat", {**_STAT, **_LIGHT}, colour=_PLAIN, unknown="#6e7681"),
    "lights": Kind(
        "stat", {**_STAT, **_LIGHT}, colour=_PLAIN, unknown="#6e7681", format="table", transformations=_IN_PLACE,
    ),
    "timeseries": Kind("timeseries", _LINES, _LINE, instant=False),
    "area": Kind(
        "timeseries", _LINES, {**_LINE, "fillOpacity": 60, "stacking": {"group": "A", "mode": "normal"}},
        instant=False,
    ),
    "bars": Kind(
        "timeseries", _LINES,
        {**_LINE, "barAlignment": 1, "drawStyle": "bars", "fillOpacity": 80, "stacking": {"group": "A", "mode": "normal"}},
        instant=False, step="1d",
    ),
    "bargauge": Kind("bargauge", _BARGAUGE),
    "piechart": Kind("piechart", _PIE),
    "state-timeline": Kind("state-timeline", _TIMELINE, {"fillOpacity": 75, "lineWidth": 0}, instant=False),
    "word-timeline": Kind(
        "state-timeline", _TIMELINE, {"fillOpacity": 75, "lineWidth": 0},
        instant=False, format="table", transformations=_WORDS,
    ),
    "table": Kind("table", _TABLE, _CELLS, colour=_PLAIN, format="table"),
    "text": Kind("text", {"content": "", "mode": "markdown"}, colour=_PLAIN),
}  # fmt: skip
