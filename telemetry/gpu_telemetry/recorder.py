"""Writes samples to files that rotate, are compressed and grow old, whatever happens to the disk or to us."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpu_telemetry import rows
from gpu_telemetry.archive import Archive
from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_telemetry.metrics import Sample

log = logging.getLogger(__name__)

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Limits:
    """When a file is ended, and when old files are deleted.

    Attributes:
        rotate_bytes: A file is ended and compressed once it is that large.
        rotate_seconds: … or that old.
        keep_bytes: The oldest files are deleted while all of a folder's are larger than this together.
        keep_seconds: Files last written longer ago than this are deleted.
    """

    rotate_bytes: int = 64 * 1024**2
    rotate_seconds: float = 24 * 3600.0
    keep_bytes: int = 2 * 1024**3
    keep_seconds: float = 30 * 24 * 3600.0


class Recorder:
    """Appends samples to the newest file of a folder.

    Every sample is one write, so that a process that is killed tears the last line at most. A full disk stops nothing:
    what cannot be written is counted, and the gap is marked in the first sample that fits again.

    Args:
        folder: Where the files go; made if it is not there.
        form: "csv" or "jsonl".
        limits: Rotation and retention.
        interval_seconds: The intended time between samples, for the files' readers.
        job: A tag that every line carries, or "".
        clock: A monotonic clock in seconds, for the files' age.

    Raises:
        TelemetryError: The folder cannot be made or written to, or the form is unknown.
    """

    def __init__(
        self,
        folder: Path,
        form: str = "csv",
        *,
        limits: Limits | None = None,
        interval_seconds: float = 1.0,
        job: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if form not in rows.FORMATS:
            raise TelemetryError(
                f"unknown format {form!r}", hint=f"choose from {', '.join(rows.FORMATS)}", exit_code=2
            )
        self.folder = folder
        self.recording = secrets.token_hex(4)
        self.dropped_samples = 0
        self.paths: list[Path] = []
        self._form = form
        self._limits = limits or Limits()
        self._interval_seconds = interval_seconds
        self._job = job
        self._clock = clock
        self._started: float | None = None
        self._part = 0
        self._file: int | None = None
        self._size = 0
        self._opened = 0.0
        self._last_written: float | None = None
        self._archive = Archive(folder, self._limits.keep_bytes, self._limits.keep_seconds)
        self._workers: list[threading.Thread] = []
        self._full = False
        try:
            self._open()
        except OSError as error:
            raise TelemetryError(
                f"cannot record into {folder}: {error.strerror}",
                hint="choose a folder that this user may write to with --out",
            ) from error
        self._aside(self._archive.adopt)

    @property
    def path(self) -> Path:
        """The file that is written now, or was last."""
        return self.paths[-1]

    def files(self) -> list[Path]:
        """Every file of this recording that is still there, in order, compressed or not."""
        compressed = (path.with_name(path.name + ".gz") for path in self.paths)
        pairs = zip(self.paths, compressed, strict=True)
        return [found for plain, packed in pairs for found in (plain, packed) if found.exists()]

    def write(self, sample: Sample) -> bool:
        """Append one sample; False if the disk took it not, which is logged once and counted.

        Times in the file follow `sample.monotonic`, so samples that were held back may be written later.
        """
        now = sample.monotonic
        self._started = now if self._started is None else self._started
        if self._last_written is not None and self._full:
            sample = replace(sample, gap_seconds=max(sample.gap_seconds, now - self._last_written))
        common = {
            "elapsed_seconds": round(sample.monotonic - self._started, 3),
            "recording": self.recording,
            "job": self._job,
        }
        text = rows.lines(self._form, sample, common)
        try:
            self._rotate_if_due()
            self._append(text)
        except OSError as error:
            self._refused(error)
            return False
        if self._full:
            log.warning("recording again into %s after %d lost samples", self.path, self.dropped_samples)
        self._full = False
        self._last_written = now
        return True

    def close(self) -> None:
        """End the recording; the last file stays uncompressed, as it is most likely to be looked at."""
        self._end_file()
        for worker in self._workers:
            worker.join()

    def _facts(self) -> dict[str, Any]:
        return {
            "recording": self.recording,
            "part": self._part,
            "job": self._job,
            "host": socket.gethostname(),
            "interval_seconds": self._interval_seconds,
            "opened": rows.utc(time.time()),
        }

    def _open(self) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"gpu-telemetry_{stamp}_{self.recording}_{self._part + 1:04d}.{self._form}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        # The lock says that the file is alive: another recorder must not compress or delete it.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file, self._size, self._opened = file, 0, self._clock()
        self._part += 1
        try:
            self._append(rows.header(self._form, self._facts()))
        except OSError:
            # A file without its first line would be no recording; the next sample tries again.
            path.unlink()
            os.close(file)
            self._file = None
            self._part -= 1
            raise
        self.paths.append(path)

    def _append(self, text: str) -> None:
        """Write all or nothing.

        Raises:
            OSError: The disk did not take it; the file is as it was before.
        """
        if self._file is None:
            self._open()
        file = self._file
        if file is None:  # pragma: no cover - `_open` sets it or raises.
            return
        data = text.encode(errors="backslashreplace")  # A tag of the command line may be no UTF-8.
        written = 0
        try:
            while written < len(data):
                written += os.write(file, data[written:])
        except OSError:
            os.ftruncate(file, self._size)
            raise
        self._size += len(data)

    def _refused(self, error: OSError) -> None:
        self.dropped_samples += 1
        if not self._full:
            what = "the disk is full" if error.errno in _DISK_FULL else error.strerror
            log.warning(
                "cannot write to %s: %s; readings are lost until it takes them again", self.folder, what
            )
        self._full = True

    def _rotate_if_due(self) -> None:
        if self._file is None:
            return
        removed = os.fstat(self._file).st_nlink == 0
        too_old = self._clock() - self._opened >= self._limits.rotate_seconds
        if removed or too_old or self._size >= self._limits.rotate_bytes:
            self._end_file()
            if not removed:
                self._aside(self._archive.put_away, self.path)

    def _end_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fsync(file)
            except OSError as error:
                log.warning("%s may not be whole on the disk: %s", self.path, error.strerror)
            os.close(file)

    def _aside(self, work: Callable[..., None], *arguments: Path) -> None:
        """In a thread of its own: compressing a large file takes longer than a sample's interval."""
        self._workers = [worker for worker in self._workers if worker.is_alive()]
        worker = threading.Thread(target=work, args=arguments, name="gpu-telemetry-archive")
        worker.start()
        self._workers.append(worker)
