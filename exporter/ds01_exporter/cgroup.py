"""CPU and memory of one container from the files of its cgroup, version 2 or 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNLIMITED_FROM = 1 << 62  # version 1 has no word for it, but the largest number of whole pages
_NANOSECONDS, _MICROSECONDS = 1e9, 1e6


@dataclass(frozen=True)
class Use:
    """What a container uses; None is what its cgroup does not tell.

    Attributes:
        cpu_seconds: CPU time since the cgroup was made.
        cpu_limit_cores: quota by period of the CFS bandwidth controller, what `docker run --cpus` sets; None without.
        memory_bytes: usage without the inactive file cache, as `docker stats` shows it: a large file read once
            fills the cache, and is no need of the container.
        memory_limit_bytes: None without limit.
        oom_kills: processes killed for want of memory since the cgroup was made.
    """

    cpu_seconds: float | None
    cpu_limit_cores: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    oom_kills: int | None


def candidate_paths(container_id: str, parent: str) -> Iterator[str]:
    """Yield where the cgroup of a container may be, relative to a hierarchy's root.

    The systemd driver makes `<slice>/docker-<id>.scope`, where `a-b.slice` lies in `a.slice`; cgroupfs makes
    `<parent>/<id>`. The defaults of dockerd are system.slice and /docker.
    """
    parent = parent.strip("/")
    if parent.endswith(".slice"):
        yield f"{expand_slice(parent)}/docker-{container_id}.scope"
    if parent:
        yield f"{parent}/{container_id}"
        yield f"{parent}/docker-{container_id}.scope"
    else:
        yield f"system.slice/docker-{container_id}.scope"
        yield f"docker/{container_id}"


def expand_slice(name: str) -> str:
    """Return the path of a slice: `a-b.slice` is `a.slice/a-b.slice` (systemd.slice(5))."""
    if "/" in name:
        return name
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: count + 1]) + ".slice" for count in range(len(parts)))


class CgroupTree:
    """The hierarchies below `root`: one for version 2, one per controller for version 1."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def version(self) -> int | None:
        """2, 1, or None where `root` is no cgroup file system."""
        if (self.root / "cgroup.controllers").exists():
            return 2
        return 1 if (self.root / "memory").is_dir() else None

    def read(self, version: int, container_id: str, parent: str) -> Use | None:
        """Return what a container uses; None where it has no cgroup, because it has just ended."""
        base = self.root if version == 2 else self.root / "memory"
        for path in candidate_paths(container_id, parent):
            if (base / path).is_dir():
                return self._read_v2(path) if version == 2 else self._read_v1(path)
        return None

    def _read_v2(self, path: str) -> Use:
        folder = self.root / path
        cpu = _fields(folder / "cpu.stat").get("usage_usec")
        return Use(
            cpu_seconds=None if cpu is None else cpu / _MICROSECONDS,
            cpu_limit_cores=_cores(_text(folder / "cpu.max")),
            memory_bytes=_working_set(
                _number(folder / "memory.current"), _fields(folder / "memory.stat").get("inactive_file")
            ),
            memory_limit_bytes=_number(folder / "memory.max"),
            oom_kills=_fields(folder / "memory.events").get("oom_kill"),
        )

    def _read_v1(self, path: str) -> Use:
        folder = self.root / "memory" / path
        cpu = next(
            (
                number
                for controller in ("cpuacct", "cpu,cpuacct")
                if (number := _number(self.root / controller / path / "cpuacct.usage")) is not None
            ),
            None,
        )
        quotas = (_quota(self.root / controller / path) for controller in ("cpu", "cpu,cpuacct"))
        limit = _number(folder / "memory.limit_in_bytes")
        return Use(
            cpu_seconds=None if cpu is None else cpu / _NANOSECONDS,
            cpu_limit_cores=next((cores for cores in quotas if cores is not None), None),
            memory_bytes=_working_set(
                _number(folder / "memory.usage_in_bytes"),
                _fields(folder / "memory.stat").get("total_inactive_file"),
            ),
            memory_limit_bytes=None if limit is None or limit >= _UNLIMITED_FROM else limit,
            oom_kills=_fields(folder / "memory.oom_control").get("oom_kill"),
        )


def _working_set(usage: int | None, inactive_file: int | None) -> int | None:
    if usage is None or inactive_file is None:
        return None
    return max(usage - inactive_file, 0)  # the two files are not read at the same instant


def _quota(folder: Path) -> float | None:
    return _cores(f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}")


def _cores(quota_and_period: str) -> float | None:
    numbers = [
        int(word) for word in quota_and_period.split() if word.isdecimal()
    ]  # "max" and -1 are no quota
    return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # "max" is no number


def _fields(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # the container has ended, or the controller is not there
        return ""
