"""What `gpu-telemetry run` notes of a run: a JSON file beside its recording, written however the run ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "gpu-telemetry/run/1"


@dataclass
class RunFile:
    """One run.

    Attributes:
        recording: Id of the recording, as in its files' names.
        job: The job's tag, or "".
        command: The command and its arguments.
        started: UTC.
        ended: UTC; None while it runs.
        duration_seconds: By the monotonic clock.
        exit_code: The command's; 128 + signal if a signal ended it; None while it runs.
        signal: The signal that ended it, or None.
        cuda_out_of_memory: The line of its output that says so, or None.
        simulated: Whether the readings are made up.
        peak_memory_bytes: The most GPU memory that all its processes held together at one sample; None if unknown.
        processes: Per process and device: `pid`, `name`, `uuid`, `slot`, `peak_memory_bytes`, `samples`.
        devices: Per device the fields of `DeviceSummary`.
        dropped_samples: Samples that the disk refused.
    """

    recording: str
    job: str
    command: list[str]
    started: str
    ended: str | None = None
    duration_seconds: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    cuda_out_of_memory: str | None = None
    simulated: bool = False
    peak_memory_bytes: int | None = None
    processes: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    dropped_samples: int = 0

    def write(self, folder: Path) -> Path:
        """Put it beside the recording, whole or not at all; returns where.

        Raises:
            OSError: The disk refuses it.
        """
        path = folder / _name(self.recording)
        draft = path.with_suffix(".json.tmp")
        draft.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n")
        draft.replace(path)
        return path

    @classmethod
    def beside(cls, recording: Path, row: dict[str, Any]) -> RunFile | None:
        """The file that belongs to a recording and one of its lines; None if there is none that can be read."""
        try:
            found = json.loads((recording.parent / _name(str(row.get("recording", "")))).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or found.pop("schema", None) != SCHEMA:
            return None
        known = {name: value for name, value in found.items() if name in cls.__dataclass_fields__}
        return cls(**known)


def _name(recording: str) -> str:
    return f"gpu-telemetry-run_{recording}.json"
