"""The columns of a dashboard's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01_monitoring.dashboards.fields import axis, mappings, thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.dashboards.spec import Node

COLUMN_KEYS = ("title", "unit", "width", "sort", "axis", "thresholds", "mappings", "cell", "link", "novalue")
"""Keys of a column: `cell` is text, background or gauge; `sort` is up or down; `link` an address."""

CELLS = {
    "text": {"type": "color-text"},
    "background": {"mode": "basic", "type": "color-background"},
    "gauge": {"mode": "basic", "type": "gauge"},
}
_CELLS_BEFORE_10 = {"text": "color-text", "background": "color-background-solid", "gauge": "basic"}


def column_transformations(columns: Node, names: list[str]) -> list[dict[str, Any]]:
    """Put the answers of all queries into one table that shows just these columns.

    A column named in `names` is the value of that query; any other one is a label.
    """
    fields = {key: _field(key, names) for key in columns.mapping(what="columns")}
    titles = {key: _keys(node)["title"] for key, node in columns.mapping(what="columns").items()}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(fields.values())}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate(fields.values())},
                "renameByName": {name: titles[key] for key, name in fields.items()},
            },
        },
    ]


def column_sorting(columns: Node) -> list[dict[str, Any]]:
    """The column that the table is sorted by at first, if one is."""
    made = []
    for node in columns.mapping(what="columns").values():
        keys = _keys(node)
        if "sort" in keys:
            made.append(
                {"desc": _one_of(keys["sort"], ("up", "down")) == "down", "displayName": keys["title"]}
            )
    return made


def column_overrides(columns: Node) -> list[dict[str, Any]]:
    """Unit, width, colours and links of each column."""
    made = []
    for node in columns.mapping(what="columns").values():
        keys = _keys(node)
        properties = [{"id": name, "value": value} for name, value in _properties(keys)]
        if properties:
            made.append({"matcher": {"id": "byName", "options": keys["title"]}, "properties": properties})
    return made


def _properties(keys: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if "unit" in keys:
        yield "unit", keys["unit"].text("unit")
    if "width" in keys:
        yield "custom.width", keys["width"].number("width")
    if "axis" in keys:
        yield from axis(keys["axis"]).items()
    if "novalue" in keys:
        yield "noValue", keys["novalue"].text("novalue")
    if "mappings" in keys:
        yield "mappings", mappings(keys["mappings"])
    if "thresholds" in keys:
        yield "thresholds", thresholds(keys["thresholds"])
        yield "color", {"mode": "thresholds"}
    if "cell" in keys:
        cell = _one_of(keys["cell"], tuple(CELLS))
        yield "custom.cellOptions", CELLS[cell]
        yield "custom.displayMode", _CELLS_BEFORE_10[cell]
    if "link" in keys:
        yield "links", [{"title": "Open", "url": keys["link"].text("link"), "targetBlank": False}]


def _keys(node: Node) -> dict[str, Any]:
    if isinstance(node.value, str):
        return {"title": node.text("the title")}
    keys: dict[str, Any] = node.mapping(COLUMN_KEYS, ("title",), "a column")
    return {**keys, "title": keys["title"].text("the title")}


def _field(key: str, names: list[str]) -> str:
    if key not in names:
        return key
    return "Value" if len(names) == 1 else f"Value #{chr(ord('A') + names.index(key))}"


def _one_of(node: Node, allowed: tuple[str, ...]) -> str:
    if node.value not in allowed:
        raise node.error(f"{node.value!r} is not known here", hint=f"allowed: {', '.join(allowed)}")
    return str(node.value)
