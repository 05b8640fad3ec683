"""Reading files that others write: bounded, never blocking, and only when they have changed."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from ds01_exporter.health import CollectorError

if TYPE_CHECKING:
    from pathlib import Path

Signature = tuple[int, int, int, int, int]

_SETTLED_SECONDS = 1.0
"""A file modified more recently may change again without a new timestamp: the kernel's clock ticks in 4 ms."""


def signature(status: os.stat_result) -> Signature | None:
    """Return what changes when the file's content does; None while that cannot be relied on yet."""
    if abs(time.time() - status.st_mtime) < _SETTLED_SECONDS:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_bounded(path: Path, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return the content and the status of a regular file.

    Raises:
        CollectorError: the file is missing, unreadable, not a regular file, or longer than `limit_bytes`.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CollectorError(f"{path}: not a regular file")
            content = file.read(limit_bytes + 1) if status.st_size <= limit_bytes else b""
    except OSError as error:
        raise CollectorError(f"{path}: {error.strerror or error}") from error
    if max(status.st_size, len(content)) > limit_bytes:
        raise CollectorError(f"{path}: larger than {limit_bytes >> 20} MiB", f"{status.st_size} bytes")
    return content, status


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for ever
