"""What the live terminal view shows: every slot with its use, memory, temperature, holders and waste mark, and the alerts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ds01_monitoring.api import Prometheus

HISTORY_SECONDS = 1200
STEP_SECONDS = 60
FRESH_SECONDS = 120
"""A newest reading older than this is none."""

SEVERITIES = ("critical", "warning")
Slot = tuple[str, str]
"""Server and name of a slot."""


@dataclass(frozen=True)
class Row:
    """One slot.

    Attributes:
        host: The server.
        name: The allocator's name of the slot, such as `1.0`.
        holders: Users who hold it; an empty name where the allocator knows none; None while nobody can be asked.
        history: Utilisation 0 to 1, the newest last; None where nothing was read.
        memory_used_bytes: In use now; None without telemetry.
        memory_total_bytes: What programs can have; None without telemetry.
        temperature_celsius: Of its GPU; None without telemetry.
        wasted: Idle by the rule of the waste alerts; None while that cannot be said.
    """

    host: str
    name: str
    holders: Sequence[str] | None = ()
    history: Sequence[float | None] = ()
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_celsius: float | None = None
    wasted: bool | None = None


@dataclass(frozen=True)
class Alert:
    """One firing alert: severity, name, what it is about, and since when (Unix time)."""

    severity: str
    name: str
    about: str
    since: float


@dataclass(frozen=True)
class Board:
    """Everything at one moment (Unix time), slots in their order, the gravest and oldest alert first."""

    moment: float
    rows: list[Row] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


def read(server: Prometheus, *, now: float, below: float) -> Board:
    """Ask Prometheus; `below` is the waste line, 0 to 1.

    Raises:
        UserError: Prometheus does not answer.
    """
    holders: dict[Slot, list[str]] = {}
    for one in server.query("group by (host, gpu_slot, user) (ds01_gpu_allocated)"):
        holders.setdefault(_slot(one["metric"]), []).append(one["metric"].get("user", ""))
    used = _by_slot(server, "ds01:slot_memory_used:bytes")
    total = _by_slot(server, "ds01:slot_memory_total:bytes")
    wasted = _by_slot(server, f"ds01:allocation_utilization:p95 < bool {below}")
    heat = {
        (one["metric"].get("host", ""), one["metric"].get("gpu", "")): float(one["value"][1])
        for one in server.query("max by (host, gpu) (ds01:gpu_temperature:celsius)")
    }
    history = _history(server, now)
    known = {_slot(one["metric"]) for one in server.query("group by (host, gpu_slot) (ds01:slot_held:bool)")}
    slots = {_slot(one["metric"]) for one in server.query("group by (host, gpu_slot) (ds01:slot_info)")}
    unknown = slots - known - holders.keys()
    rows = [
        Row(
            host=host,
            name=name,
            holders=None if (host, name) in unknown else tuple(sorted(holders.get((host, name), ()))),
            history=history.get((host, name), ()),
            memory_used_bytes=used.get((host, name)),
            memory_total_bytes=total.get((host, name)),
            temperature_celsius=heat.get((host, name.partition(".")[0])),
            wasted=bool(wasted[host, name]) if (host, name) in wasted else None,
        )
        for host, name in sorted(slots, key=_natural)
    ]
    return Board(now, rows, alerts(server))


def alerts(server: Prometheus) -> list[Alert]:
    """The warnings and critical alerts that fire, the gravest and then the oldest first."""
    firing = (
        "ALERTS_FOR_STATE and ignoring (alertstate) ALERTS{alertstate='firing', severity=~'warning|critical'}"
    )
    found = [_alert(one["metric"], float(one["value"][1])) for one in server.query(firing)]
    return sorted(
        found, key=lambda alert: (SEVERITIES.index(alert.severity), alert.since, alert.name, alert.about)
    )


def _alert(labels: Mapping[str, str], since: float) -> Alert:
    slot = labels.get("gpu_slot") or (f"GPU {labels['gpu']}" if labels.get("gpu") else "")
    about = [labels.get("host", ""), slot, labels.get("user", ""), labels.get("container", "")]
    return Alert(labels["severity"], labels["alertname"], " ".join(part for part in about if part), since)


def _history(server: Prometheus, now: float) -> dict[Slot, list[float | None]]:
    """A value for each step; None where there is none, so that all end at the same moment."""
    end = now // STEP_SECONDS * STEP_SECONDS
    moments = [
        end - HISTORY_SECONDS + STEP_SECONDS * (index + 1) for index in range(HISTORY_SECONDS // STEP_SECONDS)
    ]
    query = "max by (host, gpu_slot) (ds01:slot_utilization:ratio)"
    found: dict[Slot, list[float | None]] = {}
    for one in server.query_range(query, start=moments[0], end=moments[-1], step=STEP_SECONDS):
        values = {float(moment): float(value) for moment, value in one["values"]}
        found[_slot(one["metric"])] = [values.get(moment) for moment in moments]
    for one in server.query(query):
        found.setdefault(_slot(one["metric"]), []).append(float(one["value"][1]))
    return found


def _by_slot(server: Prometheus, expression: str) -> dict[Slot, float]:
    query = f"max by (host, gpu_slot) ({expression})"
    return {_slot(one["metric"]): float(one["value"][1]) for one in server.query(query)}


def _slot(labels: Mapping[str, str]) -> Slot:
    return labels.get("host", ""), labels.get("gpu_slot", "")


def _natural(slot: Slot) -> tuple[str, list[int], str]:
    host, name = slot
    return host, [int(part) for part in re.findall(r"\d+", name)], name
