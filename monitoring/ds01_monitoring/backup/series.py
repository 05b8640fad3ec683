"""A consistent copy of Prometheus' storage, taken while it runs.

Prometheus has a snapshot call of its own, in an admin API that must be switched on by a flag: two restarts, two gaps in
the series, and in between everybody who has the password may delete them. It is not needed: a block never changes
once it has its name, and the write-ahead log, to which is only appended, holds all that is not in a block yet
(https://prometheus.io/docs/prometheus/latest/storage/). So the log is copied first and the blocks after it: a block that is
cut from the log in between is there twice, which Prometheus sorts out when it starts, and never missing.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
LOGS = ("wal", "wbl")
ATTEMPTS = 5


def copy(source: Path, target: Path) -> None:
    """Copy the storage in `source` to the new folder `target`; what is torn at the log's end, Prometheus cuts off.

    Raises:
        UserError: It changed under our hands again and again.
    """
    target.mkdir(parents=True)
    for name in LOGS:
        if (source / name).is_dir():
            _copy_log(source / name, target / name)
    _copy_blocks(source, target)


def _copy_log(source: Path, target: Path) -> None:
    """A head compaction replaces the oldest segments by a checkpoint: then once more."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        before = _oldest(source)
        try:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.tmp"))
        except (shutil.Error, FileNotFoundError):
            continue
        if _oldest(source) == before:
            return
    raise _restless(source)


def _oldest(log: Path) -> tuple[list[str], str]:
    names = sorted(path.name for path in log.iterdir())
    return [name for name in names if name.startswith("checkpoint.")], next(filter(str.isdigit, names), "")


def _copy_blocks(source: Path, target: Path) -> None:
    """Compaction replaces blocks by a larger one: until what was copied is what is there."""
    for _ in range(ATTEMPTS):
        there = _blocks(source)
        for name in _blocks(target) - there:
            shutil.rmtree(target / name)
        for name in there - _blocks(target):
            _copy_block(source / name, target / name)
        if _blocks(target) == _blocks(source):
            return
    raise _restless(source)


def _copy_block(source: Path, target: Path) -> None:
    try:
        shutil.copytree(source, target)
    except (shutil.Error, FileNotFoundError):  # It was merged into another one.
        shutil.rmtree(target, ignore_errors=True)


def _blocks(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if BLOCK.fullmatch(path.name)}


def _restless(source: Path) -> UserError:
    return UserError(
        "changed while it was copied, five times", place=str(source), hint="run the backup again in a minute"
    )
