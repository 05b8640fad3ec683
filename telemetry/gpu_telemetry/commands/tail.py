"""`gpu-telemetry tail`: the last readings of a recording, per device."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_telemetry import reader
from gpu_telemetry.tables import UNKNOWN, gibibytes, number, table

if TYPE_CHECKING:
    import argparse

_HEAD = ("time", "device", "status", "util %", "mem GiB", "°C", "W", "gap s")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording; .gz too")
    parser.add_argument(
        "-n", type=int, default=15, metavar="N", help="how many samples of each device (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="the lines as JSON, one per line")


def execute(options: argparse.Namespace) -> int:
    """Print them; 1 if there are none."""
    recording = reader.read(options.file)
    rows = _last(recording.rows, options.n)
    if options.json:
        sys.stdout.write("".join(json.dumps(row) + "\n" for row in rows))
    else:
        sys.stdout.write(table(_HEAD, [_cells(row) for row in rows]))
    if recording.torn_lines:
        sys.stderr.write(f"note: {recording.torn_lines} torn line left out; its writer was killed\n")
    return 0 if rows else 1


def _last(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The last `count` lines of each device, in the file's order; lines without a device count as one device."""
    left: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for row in reversed(rows):
        uuid = str(row.get("uuid", ""))
        left[uuid] = left.get(uuid, count) - 1
        if left[uuid] >= 0:
            found.append(row)
    return found[::-1]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["timestamp"]),
        str(row.get("slot", UNKNOWN)),
        str(row.get("status", UNKNOWN)) + (" simulated" if row.get("simulated") is True else ""),
        number(row.get("utilization_percent")),
        gibibytes(row.get("memory_used_bytes")),
        number(row.get("temperature_celsius")),
        number(row.get("power_watts")),
        number(row.get("gap_seconds"), 1),
    )
