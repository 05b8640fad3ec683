"""The series that others export: one file per source, a line per series with its labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SOURCES = (
    "alertmanager",
    "dcgm-exporter",
    "ds01-exporter",
    "gpu-telemetry",
    "grafana",
    "node-exporter",
    "prometheus",
)

WHEN_ENABLED = "rules"
"""The list of recorded series whose rules are not always rendered; it has all their labels."""


@cache
def series(source: str) -> dict[str, frozenset[str]]:
    """Labels of each series that a source exports, by the series' name.

    The files are written as `name label label …`; `#` starts a comment. Labels that Prometheus adds
    (host, job, instance) are not in them.
    """
    text = (Path(__file__).parent / f"{source}.txt").read_text(encoding="utf-8")
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return {words[0]: frozenset(words[1:]) for words in lines if words}
