"""A whole dashboard: its rows laid out, its variables, annotations and links.

Keys of a spec (`DASHBOARD_KEYS`): `uid`, `title`, `description`, `range` (such as `6h`), `refresh`, `variables`, `rows`,
`raw`. A row (`ROW_KEYS`) has `panels`, a `height` (of about 38 pixels each) and, where a heading helps, a `title`. A variable
(`VARIABLE_KEYS`) has a `label` and a `query`, and `all: true` where several or all of its values make sense; `host` is in
every dashboard. Panels: see `ds01_monitoring.dashboards.panels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01_monitoring.config.types import duration_seconds
from ds01_monitoring.dashboards import spec
from ds01_monitoring.dashboards.panels import DATASOURCE, merged, panel

if TYPE_CHECKING:
    from ds01_monitoring.config import Settings
    from ds01_monitoring.dashboards.spec import Node

TAG = "ds01"
SCHEMA_VERSION = 42
"""Of Grafana 13; 9.3 (schema 37) takes a newer one as it is, tried."""
GRID = 24
OWN = ', user="$user"'
MAINTENANCE_TAGS = ["ds01", "maintenance"]
"""What `monitoring-manage maintenance` marks its annotations with."""
DASHBOARD_KEYS = ("uid", "title", "description", "range", "refresh", "variables", "rows", "raw")
ROW_KEYS = ("title", "height", "panels")
VARIABLE_KEYS = ("label", "query", "regex", "all")
_HOST = {"label": "Server", "query": "label_values(up, host)", "all": True}


def expand(spec_text: str, place: str, settings: Settings) -> dict[str, Any]:
    """The Grafana JSON of one rendered spec; `place` stands for the file in messages.

    Raises:
        ConfigError: The spec says something that no dashboard has, with file and line.
    """
    top = spec.read(spec_text, place)
    required = ("uid", "title", "description", "range", "refresh", "rows")
    keys = top.mapping(DASHBOARD_KEYS, required, "a dashboard")
    names = _variables(top, keys)
    made = {
        "uid": keys["uid"].text("uid"),
        "title": keys["title"].text("title"),
        "description": f"{keys['description'].text('description')} Site: {settings.site.name}.",
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": f"now-{_duration(keys['range'])}", "to": "now"},
        "timepicker": {},
        "refresh": _duration(keys["refresh"]),
        "links": [_links()],
        "annotations": {"list": _annotations("user" in names)},
        "templating": {"list": [_variable(name, node) for name, node in names.items()]},
        "panels": _layout(keys["rows"]),
    }
    if "raw" in keys:
        keys["raw"].mapping(what="raw")
        made = merged(made, keys["raw"].value)
    return made


def _duration(node: Node) -> str:
    text = node.text("a duration")
    try:
        duration_seconds(text)
    except ValueError as error:
        raise node.error(str(error)) from error
    return text


def _layout(rows: Node) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows.items("rows"):
        keys = row.mapping(ROW_KEYS, ("height", "panels"), "a row")
        if "title" in keys:
            panels.append(_heading(keys["title"].text("title"), len(panels) + 1, top))
            top += 1
        height = keys["height"].whole("height")
        left = 0
        nodes = keys["panels"].items("panels")
        for node, width in zip(nodes, _widths(keys["panels"], nodes), strict=True):
            panels.append(panel(node, len(panels) + 1, {"h": height, "w": width, "x": left, "y": top}))
            left += width
        top += height
    return panels


def _widths(row: Node, nodes: list[Node]) -> list[int]:
    """Given widths as they are; the other panels share the rest, the first ones taking what does not divide."""
    given = [node.mapping(what="a panel").get("width") for node in nodes]
    taken = [node.whole("width") if node else 0 for node in given]
    shared = taken.count(0)
    left = GRID - sum(taken)
    if left < shared:
        raise row.error(f"the panels of this row need more than {GRID}", hint="widths are shares of 24")
    each, more = divmod(left, shared) if shared else (0, 0)
    extra = iter([1] * more + [0] * shared)
    return [width or each + next(extra) for width in taken]


def _heading(title: str, number: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": GRID, "x": 0, "y": top},
        "panels": [],
    }


def _variables(top: Node, keys: dict[str, Node]) -> dict[str, Node]:
    own = keys["variables"].mapping(what="variables") if "variables" in keys else {}
    if "host" in own:
        raise own["host"].error("every dashboard has the variable host already", hint="take it out")
    return {"host": spec.Node(top.document, _HOST, ("host",)), **own}


def _variable(name: str, node: Node) -> dict[str, Any]:
    keys = node.mapping(VARIABLE_KEYS, ("label", "query"), "a variable")
    query = keys["query"].text("query")
    everything = "all" in keys and keys["all"].yes("all")
    made: dict[str, Any] = {
        "name": name,
        "type": "query",
        "label": keys["label"].text("label"),
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "regex": keys["regex"].text("regex") if "regex" in keys else "",
        "refresh": 2,
        "sort": 7,
        "hide": 0,
        "multi": everything,
        "includeAll": everything,
        "skipUrlSync": False,
        "options": [],
    }
    if everything:
        made |= {
            "allValue": ".+", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }  # fmt: skip
    return made


def _links() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "DS01 dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }


def _annotations(own: bool) -> list[dict[str, Any]]:
    """Alerts of the servers shown (of one user where the dashboard is about one) and maintenance."""
    which = f'host=~"$host", severity=~"warning|critical"{OWN if own else ""}'
    return [
        {
            "name": "Alerts",
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": "red",
            # One mark where an alert began: Grafana draws one for each step where its steps grow beyond `step`.
            "expr": f'1000 * ALERTS_FOR_STATE{{{which}}} and ignoring (alertstate) ALERTS{{alertstate="firing", {which}}}',
            "step": "60s",
            "titleFormat": "{{alertname}}",
            "textFormat": "{{host}} {{gpu_slot}} {{gpu}} {{user}} {{container}}",
            "tagKeys": "severity",
            "useValueForTime": True,
        },
        {
            "name": "Maintenance",
            "datasource": {"type": "grafana", "uid": "-- Grafana --"},
            "enable": True,
            "hide": False,
            "iconColor": "blue",
            "target": {"limit": 100, "matchAny": False, "tags": MAINTENANCE_TAGS, "type": "tags"},
        },
    ]
