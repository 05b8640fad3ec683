"""Every series that can exist: exported by something that runs here, made by Prometheus, or recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_monitoring import known
from ds01_monitoring.promql.labels import UNKNOWN, Inference, Labels
from ds01_monitoring.promql.parse import PromqlError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ds01_monitoring.rules import Rule

TARGET_LABELS = frozenset({"host", "job", "instance"})
"""What every scraped series carries."""

GPU_LABELS = frozenset({"gpu", "UUID", "device", "modelName", "GPU_I_ID", "GPU_I_PROFILE"})
"""What dcgm-exporter's series carry besides, after relabeling."""

META = (
    *("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling"),
    *("scrape_series_added", "scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"),
)
FREE_FORM = frozenset({"ALERTS", "ALERTS_FOR_STATE"})
"""Series whose labels are those of whatever alert fires."""


class Catalogue:
    """Labels by series; a recorded series has those that its rules give it."""

    def __init__(self, rules: Sequence[Rule], counters: Path) -> None:
        self._recorded: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.kind == "record":
                self._recorded.setdefault(rule.name, []).append(rule)
        self._labels: dict[str, Labels | None] = dict.fromkeys(FREE_FORM, UNKNOWN)
        for name, labels in known.series(known.WHEN_ENABLED).items():
            self._labels[name] = Labels(
                labels
            )  # Not those of this site's rules: another card may come tomorrow.
        exported: dict[str, frozenset[str]] = dict.fromkeys(META, frozenset())
        for name in counter_fields(counters):
            exported[name] = GPU_LABELS
        for source in known.SOURCES:
            for name, labels in known.series(source).items():
                exported[name] = exported.get(name, frozenset()) | labels
        for name, labels in exported.items():
            self._labels[name] = Labels(labels | TARGET_LABELS, TARGET_LABELS)

    def lookup(self, name: str) -> Labels | None:
        """The labels of a series, or None where nobody makes it."""
        if name not in self._labels:
            rules = self._recorded.get(name)
            self._labels[name] = UNKNOWN if rules else None  # In force while a rule reads what it records.
            if rules:
                self._labels[name] = self._united([self._of_rule(rule) for rule in rules])
        return self._labels[name]

    def _of_rule(self, rule: Rule) -> Labels:
        try:
            labels = Inference(self.lookup).infer(parse(rule.expr))
        except PromqlError:
            return UNKNOWN
        return with_static(labels or Labels(frozenset()), rule)

    @staticmethod
    def _united(all_labels: Sequence[Labels]) -> Labels:
        possible: frozenset[str] | None = frozenset()
        required = all_labels[0].required
        for labels in all_labels:
            possible = None if possible is None or labels.possible is None else possible | labels.possible
            required &= labels.required
        return Labels(possible, required)


def with_static(labels: Labels, rule: Rule) -> Labels:
    """An expression's labels and those that its rule adds."""
    static = frozenset(rule.labels)
    possible = None if labels.possible is None else labels.possible | static
    return Labels(possible, labels.required | static)


def counter_fields(counters: Path) -> list[str]:
    """The fields of a dcgm-exporter counters file."""
    if not counters.exists():
        return []
    lines = counters.read_text(encoding="utf-8").splitlines()
    return [line.partition(",")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
