"""`gpu-telemetry summary`: what recordings say, per device or as one table of many runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.reader import Recording
from gpu_telemetry.runfile import RunFile
from gpu_telemetry.summary import DeviceSummary, summarise
from gpu_telemetry.tables import UNKNOWN, duration, gibibytes, number, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

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
_RUN_HEAD = ("job", "exit", "OOM", "job GiB")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="recordings, or folders of them; .gz too"
    )
    parser.add_argument("--table", action="store_true", help="one line per job and device, to compare runs")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def execute(options: argparse.Namespace) -> int:
    """Print it; 1 if there is nothing to summarise."""
    files = [_Watched(path) for path in recordings_in(options.files)]
    groups = _by_job(files) if options.table else {"": files}
    found = [(job, group, each) for job, group in groups.items() for each in summarise(group)]
    if options.json:
        text = json.dumps([asdict(each) for _, _, each in found], indent=2) + "\n"
    elif options.table:
        runs = {job: _run_cells(job, group) for job, group in groups.items()}
        text = table((*_RUN_HEAD, *_HEAD), [(*runs[job], *_cells(each)) for job, _, each in found])
    else:
        text = render([each for _, _, each in found])
    sys.stdout.write(text)
    for file in files:
        file.remark()
    return 0 if found else 1


def recordings_in(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the recordings in the folders named.

    Raises:
        TelemetryError: A folder has none.
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


class _Watched:
    """A recording that remembers, while it is read, what a person should be told about it."""

    def __init__(self, path: Path) -> None:
        self.recording = Recording(path)
        self._refused: set[str] = set()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.recording:
            if row.get("status", "ok") != "ok":
                self._refused.add(str(row["status"]))
            yield row

    def first(self) -> dict[str, Any]:
        """Its first line; nothing if it has none."""
        return next(iter(self.recording), {})

    def remark(self) -> None:
        """Say what was not whole."""
        path = self.recording.path
        if self.recording.torn_lines:
            sys.stderr.write(
                f"note: {path}: {self.recording.torn_lines} torn line left out; its writer was killed\n"
            )
        if self._refused:
            sys.stderr.write(
                f"note: {path}: at times nothing could be read: {', '.join(sorted(self._refused))}\n"
            )


def _by_job(files: Sequence[_Watched]) -> dict[str, list[_Watched]]:
    """Recordings of one job together; those without a tag by recording."""
    groups: dict[str, list[_Watched]] = {}
    for file in files:
        first = file.first()
        groups.setdefault(str(first.get("job") or first.get("recording", UNKNOWN)), []).append(file)
    return groups


def _run_cells(job: str, files: Sequence[_Watched]) -> tuple[str, ...]:
    """What `gpu-telemetry run` noted of the job's last run; dashes where it was no run."""
    runs = [run for file in files if (run := RunFile.beside(file.recording.path, file.first())) is not None]
    if not runs:
        return (job, UNKNOWN, UNKNOWN, UNKNOWN)
    last = runs[-1]
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    exit_code = UNKNOWN if last.exit_code is None else str(last.exit_code)
    return (job, exit_code, "yes" if last.cuda_out_of_memory else "no", gibibytes(max(peaks, default=None)))


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
