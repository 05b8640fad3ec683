"""The finished files of a recording folder: compressed one by one, deleted when too old or too many."""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import re
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_OURS = re.compile(r"gpu-telemetry_\d{8}T\d{6}Z_[0-9a-f]{8}_\d{4}\.(csv|jsonl)(\.gz)?$")


class Archive:
    """Finished files of one folder; several recorders may share it, a lock on each file keeps them apart.

    Args:
        folder: Where the files are.
        keep_bytes: Size of all files together, above which the oldest go.
        keep_seconds: Age above which a file goes.
        now: Unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        keep_bytes: int,
        keep_seconds: float,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._keep_seconds = keep_seconds
        self._now = now

    def files(self) -> list[Path]:
        """Every file of a recording, oldest first; foreign files are left alone."""
        found = [path for path in self._folder.iterdir() if _OURS.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name)

    def adopt(self) -> None:
        """Take over what a recorder that was killed has left: its files are compressed, old ones deleted; a failure is logged."""
        try:
            for path in self.files():
                # A file that was made this second may be about to be locked by its recorder.
                stat = _stat(path)
                if path.suffix != ".gz" and stat is not None and self._now() - stat.st_mtime > 1:
                    self._compress(path)
            self._forget()
        except OSError as error:
            log.warning("cannot tidy %s: %s", self._folder, error.strerror)

    def put_away(self, path: Path) -> None:
        """Compress a file that is finished, and delete what is too much; a failure is logged, nothing is lost."""
        try:
            self._compress(path)
            self._forget()
        except OSError as error:
            log.warning("cannot compress %s: %s; it stays as it is", path, error.strerror)

    def _compress(self, path: Path) -> None:
        with _locked(path) as mine:
            if not mine:
                return
            draft = path.with_name(path.name + ".gz.tmp")
            try:
                with path.open("rb") as source, gzip.open(draft, "wb", compresslevel=6) as target:
                    shutil.copyfileobj(source, target, 256 * 1024)
                stat = path.stat()
                os.utime(draft, (stat.st_atime, stat.st_mtime))
                draft.chmod(stat.st_mode & 0o777)
                draft.replace(path.with_name(path.name + ".gz"))
            except OSError:
                draft.unlink(missing_ok=True)
                raise
            path.unlink()

    def _forget(self) -> None:
        found = {path: stat for path in self.files() if (stat := _stat(path)) is not None}
        total = sum(stat.st_size for stat in found.values())
        for path, stat in found.items():
            too_old = self._now() - stat.st_mtime > self._keep_seconds
            if not too_old and total <= self._keep_bytes:
                continue
            with _locked(path) as mine:
                if mine:
                    path.unlink()
                    total -= stat.st_size
                    log.info("deleted %s", path)


def _stat(path: Path) -> os.stat_result | None:
    """None where another recorder has just compressed or deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the file is nobody's now; it is ours while the block runs."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False  # Another recorder was faster.
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(file)
