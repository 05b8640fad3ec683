"""`gpu-telemetry summary`: what recordings say, per device or as one table of many runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry import reader
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.summary import DeviceSummary, summarise
from gpu_telemetry.tables import UNKNOWN, duration, gibibytes, number, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from gpu_telemetry.reader import Recording

_HEAD = (
    "device",
    "samples",
    "time",
    "util min",
    "mean",
    "p95",
    "max %",
    "peak GiB",
    "of",
    "max °C",
    "mean W",
    "energy kJ",
    "gaps",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="recordings, or folders of them; .gz too"
    )
    parser.add_argument("--table", action="store_true", help="one line per job and device, to compare runs")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def execute(options: argparse.Namespace) -> int:
    """Print it; 1 if there is nothing to summarise."""
    recordings = [reader.read(path) for path in recordings_in(options.files)]
    groups = _by_job(recordings) if options.table else [("", recordings)]
    summaries = [(job, each) for job, group in groups for each in summarise(group)]
    if options.json:
        sys.stdout.write(json.dumps([asdict(each) for _, each in summaries], indent=2) + "\n")
    elif options.table:
        rows = [(job or UNKNOWN, *_cells(each)) for job, each in summaries]
        sys.stdout.write(table(("job", *_HEAD), rows))
    else:
        sys.stdout.write(table(_HEAD, [_cells(each) for _, each in summaries]))
    _remark(recordings)
    return 0 if summaries else 1


def recordings_in(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the recordings in the folders named.

    Raises:
        TelemetryError: A folder has none, or a path does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            each for each in path.rglob("gpu-telemetry_*") if each.name.endswith((".csv", ".jsonl", ".gz"))
        )
        if not inside:
            raise TelemetryError(
                f"{path} has no recordings", hint="their names begin with gpu-telemetry_", exit_code=2
            )
        found += inside
    return found


def render(summaries: Sequence[DeviceSummary]) -> str:
    """The table of one recording."""
    return table(_HEAD, [_cells(each) for each in summaries])


def _by_job(recordings: Sequence[Recording]) -> list[tuple[str, list[Recording]]]:
    """Recordings of one job together; those without a tag each on its own, by its file's name."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        job = next((str(row["job"]) for row in recording.rows if row.get("job")), recording.path.name)
        groups.setdefault(job, []).append(recording)
    return sorted(groups.items())


def _cells(each: DeviceSummary) -> tuple[str, ...]:
    energy = number(None if each.energy_joules is None else each.energy_joules / 1000, 1)
    return (
        f"{each.slot} {each.name or each.uuid}{' (simulated)' if each.simulated else ''}",
        str(each.samples),
        duration(each.duration_seconds),
        number(each.utilization_min_percent),
        number(each.utilization_mean_percent, 1),
        number(each.utilization_p95_percent),
        number(each.utilization_max_percent),
        gibibytes(each.memory_peak_bytes),
        gibibytes(each.memory_total_bytes),
        number(each.temperature_max_celsius),
        number(each.power_mean_watts),
        f"~{energy}" if each.energy_estimated else energy,
        f"{each.gaps} ({duration(each.gap_seconds)})" if each.gaps else "0",
    )


def _remark(recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        if recording.torn_lines:
            sys.stderr.write(
                f"note: {recording.path}: {recording.torn_lines} torn line left out; its writer was killed\n"
            )
        refused = {str(row["status"]) for row in recording.rows if row.get("status", "ok") != "ok"}
        if refused:
            sys.stderr.write(
                f"note: {recording.path}: at times nothing could be read: {', '.join(sorted(refused))}\n"
            )
