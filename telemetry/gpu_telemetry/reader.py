"""Reads recordings back: CSV or JSON Lines, compressed or not, with whatever a crash left at the end."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.rows import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TEXT = frozenset(
    {
        "timestamp",
        "status",
        "recording",
        "job",
        "backend",
        "slot",
        "uuid",
        "name",
        "parent_uuid",
        "mig_profile",
    }
    | {"pci_bus_id", "missing", "host_temperatures", "throttle_reasons", "processes"},
)


class Recording:
    """A file's lines, read as they are asked for: a recording of weeks does not fit into memory.

    Args:
        path: The file.

    Attributes:
        path: The file.
        torn_lines: Lines that are no whole line, of those read so far: 1 where the writer was killed in a write.
        interval_seconds: The intended time between samples; None in CSV, which does not tell.

    Raises:
        TelemetryError: On reading, it cannot be read or is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_lines = 0
        self.interval_seconds: float | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One mapping per line: numbers as numbers, what is unknown left out."""
        self.torn_lines = 0
        try:
            with _open(self.path) as file:
                lines = self._whole_lines(file)
                first = next(lines, "")
                if first.startswith("timestamp,"):
                    yield from self._csv(first, lines)
                elif first.startswith("{"):
                    yield from self._jsonl(first, lines)
                elif first:
                    raise _no_recording(self.path, "its first line is no header")
        except OSError as error:
            raise TelemetryError(
                f"cannot read {self.path}: {error.strerror or error}", exit_code=2
            ) from error

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All lines at once."""
        return list(self)

    def _whole_lines(self, file: TextIO) -> Iterator[str]:
        """Lines with their end; what is cut off at the end is counted instead."""
        try:
            for line in file:
                # A power cut leaves blocks of zeros where lines were not yet on the disk.
                if line.endswith("\n") and "\0" not in line:
                    yield line
                else:
                    self.torn_lines += 1
        except (EOFError, zlib.error):
            self.torn_lines += 1  # A compressed file that was cut off; what is before the cut is good.

    def _csv(self, first: str, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        columns = next(csv.reader([first]))
        if "uuid" not in columns or "elapsed_seconds" not in columns:
            raise _no_recording(self.path, "its first line has not our column names")
        for cells in csv.reader(lines):
            if len(cells) == len(columns):
                yield {name: _value(name, cell) for name, cell in zip(columns, cells, strict=True) if cell}
            else:
                self.torn_lines += 1

    def _jsonl(self, first: str, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
        facts = _parsed(first) or {}
        if facts.get("schema") != SCHEMA:
            raise _no_recording(self.path, f"its schema is {facts.get('schema')!r}, not {SCHEMA!r}")
        self.interval_seconds = facts.get("interval_seconds")
        for line in lines:
            found = _parsed(line)
            if found is None:
                self.torn_lines += 1
            else:
                yield {name: value for name, value in found.items() if value is not None}


def when(row: dict[str, Any]) -> float:
    """Unix seconds of a line."""
    return datetime.fromisoformat(str(row["timestamp"]).replace("Z", "+00:00")).timestamp()


def _open(path: Path) -> TextIO:
    # A line ends where the writer ended it: cells may hold other ends.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n")
    return path.open(encoding="utf-8", errors="replace", newline="\n")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _value(name: str, cell: str) -> Any:
    if name in _TEXT:
        return cell
    if cell in {"true", "false"}:
        return cell == "true"
    try:
        return float(cell)
    except ValueError:
        return cell


def _no_recording(path: Path, why: str) -> TelemetryError:
    return TelemetryError(
        f"{path} is no recording: {why}",
        hint="recordings are written by: gpu-telemetry record --out DIR",
        exit_code=2,
    )
