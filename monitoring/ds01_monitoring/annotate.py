"""Adds to every rendered alert what nobody should have to type: its runbook, and who hears it on this site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def annotate(text: str, *, place: str, runbook_url: str, notify: Mapping[str, str]) -> str:
    """Return a rule file's text with `runbook_url` on every alert and the site's `notify` labels.

    The text is edited where the keys stand, so that comments, line breaks and PromQL stay as written.

    Args:
        text: A rendered rule file.
        place: What it was made from, for messages.
        runbook_url: The page that has a section per alert; the alert's name in lower case is its anchor.
        notify: Audience by alert name, above what the rule says itself.

    Raises:
        ConfigError: It is no YAML, or an alert has no annotations or labels.
    """
    edits: list[tuple[int, int, str]] = []
    for rule in _alerts(text, place):
        name = rule["alert"].value
        annotations = _mapping(rule, "annotations", place)
        url = f"{runbook_url}#{name.lower()}"
        if "runbook_url" not in annotations:
            edits.append(_insert(f'runbook_url: "{url}"', rule, "annotations"))
        if name in notify:
            labels = _mapping(rule, "labels", place)
            if "notify" in labels:
                value = labels["notify"]
                edits.append((value.start_mark.index, value.end_mark.index, notify[name]))
            else:
                edits.append(_insert(f"notify: {notify[name]}", rule, "labels"))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _alerts(text: str, place: str) -> Iterator[dict[str, Any]]:
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(
            f"line {line} of the rendered file is not YAML: {error.problem}",
            place=place,
            hint="`monitoring-manage render --out DIR --no-check` shows what it renders to",
        ) from error
    for group in _items(_pairs(root).get("groups")):
        for rule in _items(_pairs(group).get("rules")):
            keys = _pairs(rule)
            if "alert" in keys:
                yield keys


def _pairs(node: Any) -> dict[str, Any]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _items(node: Any) -> list[Any]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _mapping(rule: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
    pairs = _pairs(rule.get(key))
    if not pairs:
        raise ConfigError(
            f"alert {rule['alert'].value} has no {key}",
            place=place,
            hint="every alert has labels severity and notify, and annotations summary and description",
        )
    return pairs


def _insert(line: str, rule: Mapping[str, Any], key: str) -> tuple[int, int, str]:
    """The edit that puts `line` before the first key of a block or flow mapping."""
    node = rule[key]
    first = node.value[0][0].start_mark
    separator = ", " if node.flow_style else "\n" + " " * first.column
    return first.index, first.index, line + separator
