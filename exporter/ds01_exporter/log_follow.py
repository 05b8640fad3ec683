"""Follows a log of lines through appending, rotation and truncation, and reads back its recent past."""

from __future__ import annotations

import gzip
import logging
import os
import stat
import time
import zlib
from typing import TYPE_CHECKING

from ds01_exporter.health import CollectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES = 256 << 10
STEP_BYTES = 1 << 20
"""How far apart the lines are that are looked at to find where the recent past begins."""

MAX_LINE_BYTES = 1 << 20
"""A longer line is given out cut, which makes it malformed, and its rest is skipped."""

LINGER_SECONDS = 60.0
"""How long a file that was rotated away is still read: a writer may have it open."""

MISSING_SECONDS = 10.0
"""How long the log may be missing: a rotation renames it before the next line makes it again."""

_HEAD_BYTES = 128

log = logging.getLogger("ds01_exporter")


class LineReader:
    """Reads whole lines from a file descriptor, which it owns, starting at `offset`."""

    def __init__(self, descriptor: int, offset: int = 0) -> None:
        self.descriptor = descriptor
        self.offset = offset
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self._partial = b""
        self._skipping = False
        self._head = os.pread(descriptor, min(_HEAD_BYTES, offset), 0)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that have become whole since the last call, without their ends."""
        if self._was_truncated():
            self.offset, self._partial, self._skipping, self._head = 0, b"", False, b""
        while chunk := os.pread(self.descriptor, CHUNK_BYTES, self.offset):
            if len(self._head) < _HEAD_BYTES:
                self._head = (self._head + chunk)[:_HEAD_BYTES]
            self.offset += len(chunk)
            *whole, self._partial = (self._partial + chunk).split(b"\n")
            if whole and self._skipping:
                del whole[0]
                self._skipping = False
            yield from whole
            if len(self._partial) > MAX_LINE_BYTES:
                if not self._skipping:
                    yield self._partial[:MAX_LINE_BYTES]
                self._partial, self._skipping = b"", True

    def unfinished(self) -> list[bytes]:
        """Return the line at the end that has no end yet, if there is one."""
        return [self._partial] if self._partial and not self._skipping else []

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def _was_truncated(self) -> bool:
        """Whether the file is shorter than what was read, or has another beginning (copytruncate, then refilled)."""
        size = os.fstat(self.descriptor).st_size
        if size == self.offset:
            return False
        return size < self.offset or os.pread(self.descriptor, len(self._head), 0) != self._head


class LogFollower:
    """Gives each line of the log at `path` to `accept`, once.

    `when` returns the time of a line in seconds since the epoch, None where it has none; it is used to find where
    the recent past begins.
    """

    def __init__(
        self, path: Path, accept: Callable[[bytes], object], when: Callable[[bytes], float | None]
    ) -> None:
        self.path = path
        self._accept = accept
        self._when = when
        self._current: LineReader | None = None
        self._previous: tuple[LineReader, float] | None = None
        self._missing_since: float | None = None

    def read_back(self, since: float) -> None:
        """Give out the lines from about `since` (seconds since the epoch) on, rotated files included.

        Raises:
            CollectorError: the log cannot be opened.
        """
        self.close()
        self._current = self._open()
        try:
            for path in rotated_files(self.path, since, self._current.identity):
                self._read_rotated(path, since)
            start = find_start(self._current.descriptor, since, self._when)
        except OSError as error:
            raise CollectorError(f"{self.path}: {error.strerror}") from error
        self._current = LineReader(self._current.descriptor, start)
        self._drain(self._current)

    def poll(self) -> None:
        """Give out what was written since the last call.

        Raises:
            CollectorError: the log cannot be opened, or is missing for longer than a rotation takes.
        """
        if self._current is None:
            self._current = self._open()
        self._drain(self._current)
        if self._previous is not None:
            self._drain(self._previous[0])
            if time.monotonic() > self._previous[1]:
                self._forget_previous()
        if self._exists() and _identity(self.path) != self._current.identity:
            following = self._open()
            self._forget_previous()
            self._previous = (self._current, time.monotonic() + LINGER_SECONDS)
            self._current = following
            self._drain(self._previous[0])
            self._drain(self._current)

    def close(self) -> None:
        """Let go of the files."""
        self._forget_previous()
        if self._current is not None:
            os.close(self._current.descriptor)
            self._current = None

    def _exists(self) -> bool:
        if self.path.exists():
            self._missing_since = None
            return True
        if self._missing_since is None:
            self._missing_since = time.monotonic()
        if time.monotonic() - self._missing_since > MISSING_SECONDS:
            raise CollectorError(f"{self.path}: No such file or directory")
        return False

    def _open(self) -> LineReader:
        try:
            descriptor = _open_to_read(self.path)
        except OSError as error:
            raise CollectorError(f"{self.path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CollectorError(f"{self.path}: not a regular file")
        return LineReader(descriptor)

    def _drain(self, reader: LineReader) -> None:
        try:
            for line in reader.lines():
                self._accept(line)
        except OSError as error:
            raise CollectorError(f"{self.path}: {error.strerror}") from error

    def _forget_previous(self) -> None:
        if self._previous is not None:
            reader, self._previous = self._previous[0], None
            reader.close()
            for line in reader.unfinished():  # nobody will end it any more
                self._accept(line)

    def _read_rotated(self, path: Path, since: float) -> None:
        try:
            if path.suffix == ".gz":
                self._read_compressed(path, since)
            else:
                self._read_plain(path, since)
        except (
            OSError,
            EOFError,
            zlib.error,
        ) as error:  # rotated on, or a damaged archive: the rest still counts
            log.warning("events: %s cannot be read back: %s", path, error)

    def _read_compressed(self, path: Path, since: float) -> None:
        with gzip.open(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                when = self._when(line)
                if when is None or when > since:
                    self._accept(line.rstrip(b"\n"))

    def _read_plain(self, path: Path, since: float) -> None:
        descriptor = _open_to_read(path)
        try:
            reader = LineReader(descriptor, find_start(descriptor, since, self._when))
            self._drain(reader)
        finally:
            os.close(descriptor)
        for line in reader.unfinished():
            self._accept(line)


def find_start(descriptor: int, since: float, when: Callable[[bytes], float | None]) -> int:
    """Return the offset of a line at or before the first one that is newer than `since`.

    Looks at one line every MiB from the end back, and needs two older ones in a row: a clock that jumped may have
    left a few lines out of order.
    """
    position = os.fstat(descriptor).st_size
    start, older = 0, 0
    while position > 0 and older < 2:
        position = max(position - STEP_BYTES, 0)
        start = 0
        stamp = None
        for offset, line in _lines_from(descriptor, position):
            start = start or offset
            stamp = when(line)
            if stamp is not None:
                break
        older = older + 1 if stamp is not None and stamp <= since else 0
    return start if position > 0 else 0


def _lines_from(descriptor: int, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and content of the whole lines that begin in the first 64 KiB after `position`."""
    *lines, _ = os.pread(descriptor, 64 << 10, position).split(b"\n")
    offset = position
    for number, line in enumerate(lines):
        if number > 0 or position == 0:
            yield offset, line
        offset += len(line) + 1


def rotated_files(path: Path, since: float, current: tuple[int, int]) -> list[Path]:
    """Return the rotated files of a log that may hold lines newer than `since`, the oldest first.

    Names as logrotate and its `dateext`, `extension` and `compress` make them: events.jsonl.1,
    events.jsonl-20260131, events-20260131.jsonl, each perhaps with .gz.
    """
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            following = entry.name.removeprefix(path.stem)[:1]
            if entry.name == path.name or not entry.name.startswith(path.stem) or following not in {".", "-"}:
                continue
            if path.suffix not in entry.name or not entry.is_file():
                continue
            status = entry.stat()
            if status.st_mtime > since and (status.st_dev, status.st_ino) != current:
                found.append((status.st_mtime, path.parent / entry.name))
    plain = {name for _, name in found}
    return [name for _, name in sorted(found) if name.suffix != ".gz" or name.with_suffix("") not in plain]


def _open_to_read(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
