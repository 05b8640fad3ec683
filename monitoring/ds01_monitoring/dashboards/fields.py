"""What a panel and a column have in common: scales, colours and words for values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds01_monitoring.dashboards.spec import Node


def axis(node: Node) -> dict[str, float]:
    """`[from, to]` as Grafana's min and max."""
    ends = node.items("axis")
    if len(ends) != 2:
        raise node.error("axis must be [from, to]", hint="write null for an end that is free")
    named = zip(("min", "max"), ends, strict=True)
    return {name: end.number("axis") for name, end in named if end.value is not None}


def thresholds(node: Node) -> dict[str, Any]:
    """Colours by value: `base` is the colour below the first value."""
    found = node.mapping(required=("base",), what="thresholds")
    steps: list[dict[str, Any]] = [{"color": found.pop("base").text("a colour"), "value": None}]
    for key, colour in sorted(found.items(), key=lambda item: _float(item[1], item[0])):
        steps.append({"color": colour.text("a colour"), "value": _float(colour, key)})
    return {"mode": "absolute", "steps": steps}


def mappings(node: Node) -> list[dict[str, Any]]:
    """Words and colours for single values; `none` stands for no value."""
    values: dict[str, Any] = {}
    made: list[dict[str, Any]] = []
    for index, (key, entry) in enumerate(node.mapping(what="mappings").items()):
        pair = [item.text("a mapping") for item in entry.items("a mapping")]
        if len(pair) != 2:
            raise entry.error("a mapping must be [words, colour]")
        word, colour = pair
        result = {"text": word, "color": colour, "index": index}
        if key == "none":
            # Timelines of words have empty ones; Grafana takes any word for no number, so that nan would match all.
            made += [
                {"type": "special", "options": {"match": match, "result": result}}
                for match in ("null", "empty")
            ]
        else:
            values[key] = result
    return [{"type": "value", "options": values}, *made] if values else made


def _float(node: Node, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise node.error(f"{text} is no number", hint="thresholds are base and numbers") from None
    return int(value) if value.is_integer() else value
