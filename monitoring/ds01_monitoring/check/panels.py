"""The queries of the rendered dashboards."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01_monitoring.check.findings import Finding, source_place, warning
from ds01_monitoring.config import duration_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ds01_monitoring.tree import RenderedTree

_VALUES = re.compile(r"label_values\((?:(.*),)?\s*(\w+)\s*\)", re.DOTALL)
_RESULT = re.compile(r"query_result\((.*)\)", re.DOTALL)
_SINCE = re.compile(r"now-(\d+[smhdwy])")


@dataclass(frozen=True)
class Query:
    """One PromQL query of a dashboard.

    Attributes:
        file: The dashboard, by path below the tree.
        title: The panel, variable or annotation that asks.
        legend: Its legend, where `{{label}}` names a label of the result.
    """

    file: str
    title: str
    expr: str
    legend: str = ""


def queries(tree: Path) -> Iterator[Query]:
    """Every query of every panel, variable and annotation below `tree`."""
    for path in sorted((tree / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        file = path.relative_to(tree).as_posix()
        for panel in _panels(dashboard.get("panels", [])):
            for target in panel.get("targets", []):
                if target.get("expr"):
                    yield Query(
                        file, panel.get("title", ""), target["expr"], target.get("legendFormat") or ""
                    )
        for variable in dashboard.get("templating", {}).get("list", []):
            yield from _variable(file, variable)
        for annotation in dashboard.get("annotations", {}).get("list", []):
            expr = annotation.get("expr") or annotation.get("target", {}).get("expr")
            if expr:
                yield Query(file, annotation.get("name", ""), expr)


def check_ranges(tree: RenderedTree) -> list[Finding]:
    """Warnings about dashboards that show a longer time than is kept."""
    retention = tree.context.settings.prometheus.retention_time
    findings = []
    for path in sorted((tree.path / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        since = _SINCE.fullmatch(dashboard.get("time", {}).get("from", ""))
        if since and duration_seconds(since[1]) > duration_seconds(retention):
            file = path.relative_to(tree.path).as_posix()
            problem = f"{dashboard['title']} shows {since[1]} and samples are kept for {retention}"
            hint = "raise prometheus.retention_time, or choose a shorter range in Grafana"
            findings.append(warning(problem, place=source_place(tree, file), hint=hint))
    return findings


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _variable(file: str, variable: dict[str, Any]) -> Iterator[Query]:
    if variable.get("type") != "query":
        return
    query = variable.get("query")
    text = query.get("query", "") if isinstance(query, dict) else str(query or "")
    values, result = _VALUES.fullmatch(text.strip()), _RESULT.fullmatch(text.strip())
    if values and values[1]:
        yield Query(file, variable["name"], values[1], f"{{{{{values[2]}}}}}")
    elif result:
        yield Query(file, variable["name"], result[1])
