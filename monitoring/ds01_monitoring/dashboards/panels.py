"""The panels of a dashboard spec, as Grafana's JSON. What each kind looks like: `ds01_monitoring.dashboards.kinds`.

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

All but `text` need `description`, `query` and `novalue`. `lights` asks for series with the label `row`, `word-timeline` for
series with the labels `row` and `word`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ds01_monitoring.dashboards.fields import axis, mappings, thresholds
from ds01_monitoring.dashboards.kinds import KINDS
from ds01_monitoring.dashboards.tables import column_overrides, column_sorting, column_transformations

if TYPE_CHECKING:
    from ds01_monitoring.dashboards.kinds import Kind
    from ds01_monitoring.dashboards.spec import Node

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
KEYS = (
    "description", "query", "legend", "unit", "axis", "thresholds",
    "colours", "mappings", "columns", "novalue", "width", "raw",
)  # fmt: skip
REQUIRED = ("description", "query", "novalue")
POINTS = 500
"""Of a series, at most: more do not show, and cost as much again over a week of many slots."""

FINEST = 11_000
"""Grafana sets an instant query's time back to a multiple of range / points: up to minutes for a narrow panel. So many
points as Prometheus allows make that seconds."""


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
