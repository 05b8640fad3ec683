"""Which allocations of GPUs are open, counted by their ids in files, so that a crash forgets none."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from gpu_telemetry.errors import TelemetryError

SYSTEM_STATE = Path("/var/lib/gpu-telemetry")
LONGEST_NAME = 200


@dataclass(frozen=True)
class Allocation:
    """An open allocation.

    Attributes:
        id: What the allocator calls it.
        since: Unix seconds when it was told.
        gpus: UUIDs of the GPUs or MIG devices that it holds, where told.
    """

    id: str
    since: float
    gpus: tuple[str, ...] = ()


def default_state_dir() -> Path:
    """$GPU_TELEMETRY_STATE, else /var/lib/gpu-telemetry where it can be written or made, else the user's own."""
    told = os.environ.get("GPU_TELEMETRY_STATE")
    if told:
        return Path(told)
    if os.access(SYSTEM_STATE, os.W_OK) or os.geteuid() == 0:
        return SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(home) / "gpu-telemetry"


class Allocations:
    """The open allocations, one file each below a state directory.

    Telling an allocation twice, or releasing one that is not open, changes nothing, so that a hook may be
    repeated. Every method raises TelemetryError when the directory cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "allocations"

    def add(self, allocation_id: str, gpus: tuple[str, ...] = ()) -> bool:
        """Opens an allocation; returns whether it was not open yet. Raises TelemetryError for an id that is no name."""
        path = self._path(allocation_id)
        fresh = not path.exists()
        if fresh:
            self._write(path, Allocation(allocation_id, time.time(), gpus))
        return fresh

    def release(self, allocation_id: str) -> bool:
        """Ends an allocation; returns whether it was open."""
        path = self._path(allocation_id)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unusable(path, error) from error
        return True

    def clear(self) -> int:
        """Ends all allocations; returns how many there were."""
        return sum(self.release(allocation.id) for allocation in self.open())

    def open(self) -> list[Allocation]:
        """The open allocations by id."""
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError as error:
            raise _unusable(self._folder, error) from error
        return [found for path in paths if (found := _read(path)) is not None]

    def any(self) -> bool:
        """Whether at least one is open."""
        return bool(self.open())

    def _path(self, allocation_id: str) -> Path:
        name = quote(allocation_id, safe="", errors="surrogateescape")
        if not name or len(name) > LONGEST_NAME:
            raise TelemetryError(
                f"{allocation_id!r} cannot be the id of an allocation",
                hint="1 to 200 characters",
                exit_code=2,
            )
        return self._folder / f"{name}.json"

    def _make_folder(self) -> None:
        if self._folder.is_dir():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # The service and the allocator may be two users of one group: who may write above may write here.
        self._folder.chmod(stat.S_IMODE(self._folder.parent.stat().st_mode))

    def _write(self, path: Path, allocation: Allocation) -> None:
        try:
            self._make_folder()
            handle, temporary = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                os.fchmod(handle, 0o644)
                json.dump(asdict(allocation), file)
            Path(temporary).replace(path)
        except OSError as error:
            raise _unusable(path, error) from error


def _read(path: Path) -> Allocation | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Allocation(stored["id"], float(stored["since"]), tuple(stored.get("gpus", ())))
    except FileNotFoundError:
        return None  # released meanwhile
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TelemetryError(
            f"{path} is not an allocation: {error}", hint="remove the file; it counts as nothing"
        ) from error


def _unusable(path: Path, error: OSError) -> TelemetryError:
    return TelemetryError(
        f"{path}: {error.strerror}",
        hint="the allocator and the agent need the same --state-dir, and both the right to write there",
    )
