"""The panels of a dashboard spec: each kind with its Grafana type and looks.

A panel has one key that names its kind and holds its title, and up to twelve others:

| key | meaning |
|---|---|
| `description` | what it shows and what to do; the text behind the `i` in its corner |
| `query` | PromQL, or a mapping of names to PromQL: legends of the series, columns of a table |
| `legend` | name of each series, with `{{label}}`; only where `query` is one text |
| `unit` | a Grafana unit such as `percentunit`, `bytes`, `celsius`, `watt`, `s` |
| `axis` | `[from, to]` of the scale; `null` leaves an end free |
| `thresholds` | `{base: green, 85: orange}`: from which value on which colour |
| `colours` | `{held: blue, free: green}`: the colour of a series, by its name in the legend |
| `mappings` | `{1: [free, green], none: [unknown, text]}`: words for values |
| `columns` | of a table, in order: name to title, or to a mapping (`COLUMN_KEYS`); others are hidden |
| `novalue` | what stands there when there is no data, and whether that is well |
| `width` | of 24; without it the panels of a row share what is left |
| `raw` | Grafana's own JSON, merged over everything above |

All but `text` need `description`, `query` and `novalue`. `word-timeline` asks for series with the labels `row` and `word`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01_monitoring.dashboards.fields import axis, mappings, thresholds
from ds01_monitoring.dashboards.tables import column_overrides, column_sorting, column_transformations

if TYPE_CHECKING:
    from ds01_monitoring.dashboards.spec import Node

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
KEYS = (
    "description", "query", "legend", "unit", "axis", "thresholds",
    "colours", "mappings", "columns", "novalue", "width", "raw",
)  # fmt: skip
REQUIRED = ("description", "query", "novalue")
STEP = "30s"
"""Shortest step of a query: how often the rules are evaluated."""

POINTS = 500
"""Of a series, at most: more do not show, and cost as much again over a week of many slots."""

FINEST = 11_000
"""Grafana sets an instant query's time back to a multiple of range / points: up to minutes for a narrow panel. So many
points as Prometheus allows make that seconds."""

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
# From rows of time, row and word to one column of words for each row, in the order of time.
_WORDS = (
    {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "Time"}]}},
    {"id": "groupingToMatrix", "options": {"columnField": "row", "rowField": "Time", "valueField": "word"}},
    {
        "id": "convertFieldType",
        "options": {
            "conversions": [{"destinationType": "time", "targetField": "Time\\row"}], "fields": {},
        },
    },
)  # fmt: skip
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


def panel(node: Node, number: int, grid: dict[str, int]) -> dict[str, Any]:
    """One panel as Grafana's JSON; `number` is its id.

    Raises:
        ConfigError: A key is unknown, missing, or says nothing that a panel can show.
    """
    name = kind_of(node)
    kind = KINDS[name]
    keys = node.mapping((name, *KEYS), () if name == "text" else REQUIRED, f"a panel of the kind {name}")
    if "columns" in keys and name != "table":
        raise keys["columns"].error("only a table has columns", hint="take it out, or make this a table")
    made: dict[str, Any] = {
        "id": number,
        "type": kind.type,
        "title": keys[name].text("the title"),
        "description": keys["description"].text("description") if "description" in keys else "",
        "datasource": DATASOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": _defaults(kind, keys), "overrides": _colours(keys)},
        "options": copy.deepcopy(kind.options),
    }
    if "query" in keys:
        made["targets"] = targets(keys, kind)
        made["interval"] = kind.step
        made["maxDataPoints"] = FINEST if kind.instant else POINTS
    if kind.transformations:
        made["transformations"] = copy.deepcopy(list(kind.transformations))
    if "columns" in keys:
        names = list(keys["query"].value) if isinstance(keys["query"].value, dict) else []
        made["transformations"] = column_transformations(keys["columns"], names)
        made["fieldConfig"]["overrides"] = column_overrides(keys["columns"])
        made["options"]["sortBy"] = column_sorting(keys["columns"])
    if "raw" in keys:
        keys["raw"].mapping(what="raw")
        made = merged(made, keys["raw"].value)
    return made


def kind_of(node: Node) -> str:
    """The kind that a panel names.

    Raises:
        ConfigError: It names none, or two.
    """
    named = [key for key in node.mapping(what="a panel") if key in KINDS]
    if len(named) != 1:
        problem = f"a panel has one kind, this one has {' and '.join(named) or 'none'}"
        raise node.error(problem, hint=f"start it with one of: {', '.join(KINDS)}")
    return named[0]


def targets(keys: dict[str, Node], kind: Kind) -> list[dict[str, Any]]:
    """The queries of a panel, one for each name in `query`."""
    query = keys["query"]
    if isinstance(query.value, dict):
        if "legend" in keys:
            raise keys["legend"].error("the names in query are the legends", hint="take legend out")
        named = [(legend, node.text("a query")) for legend, node in query.mapping(what="query").items()]
        if not named:
            raise query.error("the query asks nothing", hint="write PromQL, or names with PromQL each")
    else:
        legend = keys["legend"].text("legend") if "legend" in keys else ""
        named = [(legend, query.text("query"))]
    return [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": expr,
            "format": kind.format,
            "instant": kind.instant,
            "legendFormat": legend,
            "range": not kind.instant,
        }
        for index, (legend, expr) in enumerate(named)
    ]


def _defaults(kind: Kind, keys: dict[str, Node]) -> dict[str, Any]:
    made: dict[str, Any] = {"color": copy.deepcopy(kind.colour), "custom": copy.deepcopy(kind.custom)}
    made["mappings"] = mappings(keys["mappings"]) if "mappings" in keys else []
    made["thresholds"] = (
        thresholds(keys["thresholds"])
        if "thresholds" in keys
        else {"mode": "absolute", "steps": [{"color": kind.unknown, "value": None}]}
    )
    if "thresholds" in keys:
        if kind.type == "timeseries":
            made["custom"]["thresholdsStyle"] = {"mode": "dashed"}
        else:
            made["color"] = {"mode": "thresholds"}
    if "mappings" in keys and kind.type == "stat":
        made["color"] = {"mode": "thresholds"}
    if "unit" in keys:
        made["unit"] = keys["unit"].text("unit")
    if "novalue" in keys:
        made["noValue"] = keys["novalue"].text("novalue")
    if "axis" in keys:
        made |= axis(keys["axis"])
    return made


def _colours(keys: dict[str, Node]) -> list[dict[str, Any]]:
    if "colours" not in keys:
        return []
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": node.text("a colour")}}],
        }
        for name, node in keys["colours"].mapping(what="colours").items()
    ]


def merged(base: Any, over: Any) -> Any:
    """`over` laid upon `base`: mappings key by key, everything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        laid = {key: merged(value, over[key]) if key in over else value for key, value in base.items()}
        return laid | {key: copy.deepcopy(value) for key, value in over.items() if key not in base}
    return copy.deepcopy(over)
