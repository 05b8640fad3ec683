"""Reads the services' log files: their last lines, and what is added, through rotation."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

POLL_SECONDS = 0.3


def last(files: Mapping[str, Path], count: int) -> Iterator[tuple[str, str]]:
    """The last `count` lines of each file, with the file's name; a file that is missing has none."""
    for name, file in files.items():
        if file.is_file():
            with file.open(errors="replace") as stream:
                yield from ((name, line.rstrip("\n")) for line in deque(stream, count))


def follow(
    files: Mapping[str, Path], count: int, *, until: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, str]]:
    """The last `count` lines of each file, and then every further line, until `until` says so."""
    followed = [_Followed(name, file) for name, file in files.items()]
    try:
        # Opened before the old lines are read: a line that comes meanwhile is seen once, by `_Followed`.
        for one in followed:
            yield from one.last(count)
        while not until():
            lines = [pair for one in followed for pair in one.fresh()]
            yield from lines
            if not lines:
                time.sleep(POLL_SECONDS)
    finally:
        for one in followed:
            one.close()


class _Followed:
    """One file, found again under its name after it was rotated away."""

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self.stream: IO[str] | None = None
        self.half = ""
        self._open()

    def last(self, count: int) -> list[tuple[str, str]]:
        if self.stream is None:
            return []
        return [(self.name, line) for line in deque(self._lines(), count)]

    def fresh(self) -> list[tuple[str, str]]:
        found = [(self.name, line) for line in self._lines()]
        if not found and self._rotated():
            self._open()
            found = [(self.name, line) for line in self._lines()]
        return found

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()

    def _lines(self) -> Iterator[str]:
        """Whole lines that are new; the half of a line waits for its other half."""
        if self.stream is None:
            return
        for part in self.stream:
            if not part.endswith("\n"):
                self.half += part
                return
            yield self.half + part.rstrip("\n")
            self.half = ""

    def _rotated(self) -> bool:
        try:
            now = self.file.stat()
        except FileNotFoundError:
            return False
        if self.stream is None:
            return True
        held = os.fstat(self.stream.fileno())
        return (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino) or now.st_size < self.stream.tell()

    def _open(self) -> None:
        self.close()
        self.half = ""
        try:
            self.stream = self.file.open(errors="replace")
        except FileNotFoundError:
            self.stream = None
