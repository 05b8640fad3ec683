"""The past that Prometheus would have scraped from the simulated server, as OpenMetrics text.

The text is for `promtool tsdb create-blocks-from openmetrics`: series one after the other, each in the order of
time, with the labels that they have after scraping and relabeling (`host`, `job`, `instance`; what our
configuration drops is not there). Types are `unknown`, since DCGM's counters lack OpenMetrics' suffix and blocks
keep no types. A container that ends leaves its last value; promtool cannot write staleness marks, so queries see
it for up to five minutes more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from . import allocations, dcgm, host
from .clock import Clock
from .hardware import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .allocations import Sample
    from .hardware import Gpu, Slot
    from .world import World

TARGETS = {
    "dcgm-exporter": "127.0.0.1:9400",
    "ds01-exporter": "127.0.0.1:9101",
    "node-exporter": "127.0.0.1:9100",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "127.0.0.1:9093",
}
"""Scrape jobs and the addresses that become their `instance` label, unless told otherwise."""

OPTIONAL = ("grafana",)
"""Jobs that a stack may have or not; a past is made for those that a target names."""

_SCRAPE_SECONDS = {"dcgm-exporter": 0.004, "ds01-exporter": 0.003, "node-exporter": 0.03}


@dataclass(frozen=True)
class Span:
    """From `start` to `end` (s since the epoch, both included) every `step` seconds; `host` is the label."""

    start: int
    end: int
    step: int
    host: str = "demo"
    targets: Mapping[str, str] = field(default_factory=lambda: TARGETS)

    @property
    def times(self) -> range:
        """The moments of the scrapes."""
        return range(self.start, self.end + 1, self.step)

    def labels(self, job: str) -> dict[str, str]:
        """The target's labels."""
        return {"host": self.host, "instance": self.targets[job], "job": job}


def lines(world: World, span: Span) -> Iterator[str]:
    """The text, piece by piece. Every piece ends with a line end."""
    yield from _dcgm(world, span)
    yield from _others(world, span)
    yield "# EOF\n"


def _dcgm(world: World, span: Span) -> Iterator[str]:
    clock = Clock()
    by_slot: dict[str, tuple[Gpu, Slot, list[dcgm.Row]]] = {}
    for time in span.times:
        for gpu, slot, row in dcgm.rows(world, time, clock):
            by_slot.setdefault(slot.name, (gpu, slot, []))[2].append(row)
    for family in dcgm.FAMILIES:
        yield f"# TYPE {family.name} unknown\n"
        for gpu, slot, found in by_slot.values():
            if family.whole and not slot.whole:
                continue
            series = defaultdict(list)
            for time, row in zip(span.times, found, strict=True):
                for extra, value in family.samples(row):
                    series[tuple(extra.items())].append(f" {dcgm.number(value)} {time}\n")
            for own, values in series.items():
                labels = _dcgm_labels(gpu, slot) | dict(own) | span.labels("dcgm-exporter")
                yield series_text(family.name, labels, values)


def _dcgm_labels(gpu: Gpu, slot: Slot) -> dict[str, str]:
    labels = {"gpu": str(gpu.index), "UUID": gpu.uuid, "device": f"nvidia{gpu.index}", "modelName": MODEL}
    if slot.profile:
        labels |= {"GPU_I_PROFILE": slot.profile, "GPU_I_ID": str(slot.instance_id)}
    return labels


def _others(world: World, span: Span) -> Iterator[str]:
    families: dict[str, dict[tuple[str, ...], _Series]] = defaultdict(dict)
    log = allocations.EventWindow(world.profile, span.start, span.end)
    for time in span.times:
        for job, sample in _scraped(world, span, time, log):
            family, key = families[sample.name], (job, *sample.labels.values())
            if key not in family:
                family[key] = _Series(sample.labels | span.labels(job), [])
            family[key].values.append(f" {sample.value:.10g} {time}\n")
    for name, series in families.items():
        yield f"# TYPE {name} unknown\n"
        yield from (series_text(name, one.labels, one.values) for one in series.values())


class _Series(NamedTuple):
    labels: dict[str, str]
    values: list[str]


def _scraped(
    world: World, span: Span, time: int, log: allocations.EventWindow
) -> Iterator[tuple[str, Sample]]:
    yield from (("ds01-exporter", sample) for sample in allocations.samples(world, time, log))
    yield from (("node-exporter", sample) for sample in host.samples(world, time))
    for job in span.targets:
        yield job, allocations.Sample("up", {}, 1)
        seconds = _SCRAPE_SECONDS.get(job, 0.005)
        yield (
            job,
            allocations.Sample("scrape_duration_seconds", {}, seconds * (1 + 0.2 * (time // 60 % 7) / 7)),
        )


def series_text(name: str, labels: Mapping[str, str], values: list[str]) -> str:
    """The lines of one series; each of `values` is " VALUE TIME" with its line end."""
    key = _key(name, labels)
    return "".join(key + value for value in values)


def _key(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
