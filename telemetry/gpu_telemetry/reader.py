"""Reads recordings back: CSV or JSON Lines, compressed or not, with whatever a crash left at the end."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.rows import COLUMNS, SCHEMA

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


@dataclass
class Recording:
    """A file's lines.

    Attributes:
        path: The file.
        rows: One mapping per line: numbers as numbers, what is unknown left out.
        torn_lines: Lines that are no whole line: 0, or 1 where the writer was killed in a write.
        interval_seconds: The intended time between samples; None in CSV, which does not tell.
    """

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    torn_lines: int = 0
    interval_seconds: float | None = None


def read(path: Path) -> Recording:
    """A whole recording.

    Raises:
        TelemetryError: It cannot be read, or is no recording.
    """
    try:
        text = _text(path)
    except OSError as error:
        raise TelemetryError(f"cannot read {path}: {error.strerror or error}", exit_code=2) from error
    recording = Recording(path)
    if text.startswith("timestamp,"):
        _read_csv(recording, text)
    elif text.startswith("{"):
        _read_jsonl(recording, text)
    elif text.strip():
        raise _no_recording(path, "its first line is no header")
    return recording


def when(row: dict[str, Any]) -> float:
    """Unix seconds of a line."""
    return datetime.fromisoformat(str(row["timestamp"]).replace("Z", "+00:00")).timestamp()


def _text(path: Path) -> str:
    if path.suffix != ".gz":
        return path.read_bytes().decode("utf-8", "replace")
    with gzip.open(path, "rb") as file:
        data = io.BytesIO()
        try:
            while chunk := file.read1(1 << 20):
                data.write(chunk)
        except (EOFError, zlib.error):
            pass  # Cut off while copied somewhere; what is before the cut is good.
    return data.getvalue().decode("utf-8", "replace")


def _read_csv(recording: Recording, text: str) -> None:
    whole, last = _whole_lines(text)
    reader = csv.reader(io.StringIO(whole, newline=""))
    columns = next(reader, list(COLUMNS))
    if "uuid" not in columns or "elapsed_seconds" not in columns:
        raise _no_recording(recording.path, "its first line has not our column names")
    for cells in reader:
        if len(cells) == len(columns):
            recording.rows.append(_typed(columns, cells))
        else:
            recording.torn_lines += 1
    recording.torn_lines += bool(last)


def _whole_lines(text: str) -> tuple[str, str]:
    """What ends with a line end, and the rest."""
    at = text.rfind("\n") + 1
    return text[:at], text[at:]


def _typed(columns: list[str], cells: list[str]) -> dict[str, Any]:
    return {name: _value(name, cell) for name, cell in zip(columns, cells, strict=True) if cell != ""}


def _value(name: str, cell: str) -> Any:
    if name in _TEXT:
        return cell
    if cell in {"true", "false"}:
        return cell == "true"
    try:
        return float(cell)
    except ValueError:
        return cell


def _read_jsonl(recording: Recording, text: str) -> None:
    for number, line in enumerate(_lines(text)):
        try:
            found = json.loads(line)
        except ValueError:
            recording.torn_lines += 1
            continue
        if number == 0:
            if found.get("schema") != SCHEMA:
                raise _no_recording(recording.path, f"its schema is {found.get('schema')!r}, not {SCHEMA!r}")
            recording.interval_seconds = found.get("interval_seconds")
        else:
            recording.rows.append({name: value for name, value in found.items() if value is not None})


def _lines(text: str) -> Iterator[str]:
    yield from (line for line in text.split("\n") if line)


def _no_recording(path: Path, why: str) -> TelemetryError:
    return TelemetryError(
        f"{path} is no recording: {why}",
        hint="recordings are written by: gpu-telemetry record --out DIR",
        exit_code=2,
    )
