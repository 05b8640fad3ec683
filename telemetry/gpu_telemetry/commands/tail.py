"""`gpu-telemetry tail`: the last readings of a recording, per device."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections import deque
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_telemetry.commands.summary import recordings_in
from gpu_telemetry.reader import Recording
from gpu_telemetry.tables import UNKNOWN, gibibytes, number, table

if TYPE_CHECKING:
    import argparse

_HEAD = ("time", "device", "status", "util %", "mem GiB", "°C", "W", "gap s")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a recording, .gz too, or a folder: the newest in it"
    )
    parser.add_argument(
        "-n",
        type=_count,
        default=15,
        metavar="N",
        help="how many samples of each device (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the lines as JSON, one per line")


def execute(options: argparse.Namespace) -> int:
    """Print them; 1 if there are none."""
    recording = Recording(max(recordings_in([options.file]), key=lambda path: path.name))
    rows = _last(recording, options.n)
    if options.json:
        sys.stdout.write("".join(json.dumps(row) + "\n" for row in rows))
    else:
        sys.stdout.write(table(_HEAD, [_cells(row) for row in rows]))
    if recording.torn_lines:
        sys.stderr.write(f"note: {recording.torn_lines} torn line left out; its writer was killed\n")
    return 0 if rows else 1


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ArgumentTypeError(f"{text} is less than 1")
    return count


def _last(recording: Recording, count: int) -> list[dict[str, Any]]:
    """The last `count` lines of each device, in the file's order; lines without a device count as one device."""
    kept: dict[str, deque[tuple[int, dict[str, Any]]]] = {}
    for at, row in enumerate(recording):
        kept.setdefault(str(row.get("uuid", "")), deque(maxlen=count)).append((at, row))
    return [row for _, row in sorted((each for rows in kept.values() for each in rows), key=itemgetter(0))]


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
