"""Recording rules in an order in which each finds what it reads: levels of rules that need only earlier levels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from .errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_COUNTED = re.compile(r"(?:count|sum)_over_time\(\s*([a-zA-Z_:][a-zA-Z0-9_:]*)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


@dataclass(frozen=True)
class Rule:
    """A recording rule with the interval of its group, in seconds.

    `counted` says that some rule counts or adds up its samples, and so relies on that interval.
    """

    record: str
    expr: str
    labels: dict[str, str]
    interval: float
    counted: bool = False

    def step(self, scraped: int) -> float:
        """How often it must be evaluated, in seconds, where data come every `scraped` seconds."""
        return self.interval if self.counted and self.interval else max(self.interval, scraped)

    def needs(self, records: set[str]) -> set[str]:
        """Which of `records` it reads, itself left out."""
        return (set(_NAME.findall(_STRING.sub('""', self.expr))) & records) - {self.record}


def levels(files: Sequence[Path]) -> list[list[Rule]]:
    """The recording rules of all `files`. Rules that need each other in a circle come last, together."""
    contents = [_entries(path) for path in files]
    counted = {
        name for entries in contents for _, rule in entries for name in _COUNTED.findall(str(rule["expr"]))
    }
    waiting = [
        Rule(rule["record"], str(rule["expr"]), rule.get("labels") or {}, interval, rule["record"] in counted)
        for entries in contents
        for interval, rule in entries
        if "record" in rule
    ]
    found: list[list[Rule]] = []
    while waiting:
        missing = {rule.record for rule in waiting}
        ready = [rule for rule in waiting if not rule.needs(missing)] or waiting
        found.append(ready)
        waiting = [rule for rule in waiting if rule not in ready]
    return found


def _entries(path: Path) -> list[tuple[float, dict[str, Any]]]:
    """Every rule of a file, alerts included, with the interval of its group."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return [
            (_seconds(group.get("interval") or "0s"), {**rule, "expr": rule["expr"]})
            for group in content.get("groups") or []
            for rule in group.get("rules") or []
        ]
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise DemoError(
            f"{path}: no rules file: {error}", hint="give the rendered prometheus/rules/*.yml"
        ) from error


def _seconds(duration: str) -> float:
    """A Prometheus duration ("1h30m") in seconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))
