"""A sample as the lines of a recording: CSV and JSON Lines, one line per device, the same names in both."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from gpu_telemetry.metrics import IDENTITY, READINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_telemetry.metrics import GpuMetrics, HostMetrics, Sample

SCHEMA = "gpu-telemetry/record/1"
FORMATS = ("csv", "jsonl")
NOTHING = "none"  # In CSV: known, and empty. An empty cell is unknown.

_OWN = ("timestamp", "simulated")
_DEVICE = tuple(name for name in IDENTITY if name not in _OWN)
_VALUES = tuple("throttle_reasons" if name == "throttle_mask" else name for name in READINGS)
COLUMNS: tuple[str, ...] = (
    "timestamp",
    "elapsed_seconds",
    "gap_seconds",
    "status",
    "recording",
    "job",
    "backend",
    "simulated",
    "slot",
    *_DEVICE,
    *_VALUES,
    "missing",
    "host_cpu_power_watts",
    "host_temperatures",
)


def utc(timestamp: float) -> str:
    """Unix seconds as "2026-11-10T09:00:44.579Z"."""
    text = datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def header(form: str, facts: dict[str, Any]) -> str:
    """The first line of every file: CSV's column names, or an object with the schema and the recording's facts."""
    if form == "csv":
        return ",".join(COLUMNS) + "\r\n"
    return json.dumps({"schema": SCHEMA, **facts}, separators=(",", ":")) + "\n"


def lines(form: str, sample: Sample, common: dict[str, Any]) -> str:
    """A sample's lines: one per device, or one that says why nothing could be read.

    Args:
        form: "csv" or "jsonl".
        sample: What was read.
        common: `elapsed_seconds`, `recording` and `job`, the same in every line.
    """
    shared = {
        "timestamp": utc(sample.timestamp),
        "gap_seconds": round(sample.gap_seconds, 3),
        "status": sample.error.reason if sample.error else "ok",
        "backend": sample.backend,
        "simulated": sample.simulated,
        **common,
    }
    devices: tuple[GpuMetrics | None, ...] = sample.gpus or (None,)
    if form == "csv":
        return _csv(shared, devices, sample.host)
    return "".join(_json(shared, device, sample.host) for device in devices)


def _csv(shared: dict[str, Any], devices: tuple[GpuMetrics | None, ...], host: HostMetrics | None) -> str:
    host_cells = (_total_power(host), _temperatures(host))
    text = io.StringIO()
    writer = csv.writer(text)
    front = [_cell(shared[name]) for name in COLUMNS[:8]]
    width = len(_DEVICE) + len(_VALUES) + 2
    for device in devices:
        cells = [""] * width if device is None else [*_device_cells(device), _reasons(device)]
        writer.writerow([*front, *cells, *host_cells])
    return text.getvalue()


def _device_cells(device: GpuMetrics) -> Iterator[Any]:
    yield device.slot
    for name in _DEVICE:
        yield _cell(getattr(device, name))
    for name in _VALUES:
        yield _cell(getattr(device, name)) if name != "processes" else _processes(device)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace(
            "\0", ""
        )  # Python 3.10's csv can neither write nor read it, and no C string has it.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "|".join(value) or NOTHING
    return value


def _processes(device: GpuMetrics) -> str:
    """Each as pid:bytes:user, what is unknown left empty."""
    if device.processes is None:
        return ""
    return (
        "|".join(f"{each.pid}:{_cell(each.memory_used_bytes)}:{each.user or ''}" for each in device.processes)
        or NOTHING
    )


def _by_reason(device: GpuMetrics) -> dict[str, list[str]]:
    """The missing readings by their reason: mostly one reason with many readings."""
    found: dict[str, list[str]] = {}
    for name, reason in device.missing.items():
        found.setdefault(reason, []).append("throttle_reasons" if name == "throttle_mask" else name)
    return found


def _reasons(device: GpuMetrics) -> str:
    return "|".join(f"{reason}={' '.join(names)}" for reason, names in _by_reason(device).items())


def _total_power(host: HostMetrics | None) -> Any:
    """Of all packages; unknown if one of them is."""
    if host is None or not host.cpu_power_watts:
        return ""
    known = [watts for watts in host.cpu_power_watts.values() if watts is not None]
    return round(sum(known), 3) if len(known) == len(host.cpu_power_watts) else ""


def _temperatures(host: HostMetrics | None) -> str:
    if host is None:
        return ""
    return "|".join(f"{each.chip}/{each.label}={each.celsius:g}" for each in host.temperatures)


def _json(shared: dict[str, Any], device: GpuMetrics | None, host: HostMetrics | None) -> str:
    line = dict(shared)
    if device is not None:
        line["slot"] = device.slot
        line |= {name: getattr(device, name) for name in _DEVICE}
        line |= {name: getattr(device, name) for name in _VALUES}
        if device.processes is not None:
            line["processes"] = [
                {name: getattr(each, name) for name in each.__slots__} for each in device.processes
            ]
        line["missing"] = _by_reason(device)
    if host is not None:
        line["host"] = {
            "cpu_power_watts": dict(host.cpu_power_watts),
            "cpu_energy_joules": dict(host.cpu_energy_joules),
            "temperatures": [
                {"chip": t.chip, "label": t.label, "celsius": t.celsius} for t in host.temperatures
            ],
            "missing": dict(host.missing),
        }
    return json.dumps(line, separators=(",", ":")) + "\n"
