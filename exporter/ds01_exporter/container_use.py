"""CPU and memory of the running managed containers, sampled in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_exporter.background import Ticker
from ds01_exporter.cgroup import CgroupTree, Use
from ds01_exporter.health import CollectorError, Health
from ds01_exporter.metrics import family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric

    from ds01_exporter.allocations import Identity
    from ds01_exporter.containers import Container

SAMPLE_SECONDS = 15.0


class ContainerUse(Ticker):
    """Publishes `uses` by container id, and changes `version` with each sample.

    `containers` returns those that run and are to be sampled, or None where Docker does not answer.
    """

    def __init__(self, root: Path, containers: Callable[[], tuple[Container, ...] | None]) -> None:
        super().__init__("container use", SAMPLE_SECONDS)
        self.health = Health("container_use")
        self.uses: Mapping[str, Use] = {}
        self.version = 0
        self._tree = CgroupTree(root)
        self._containers = containers

    def tick(self) -> None:
        """Take one sample of each container."""
        with self.health.watch():
            uses: Mapping[str, Use] = {}
            try:
                uses = self._sample()
            finally:
                if uses != self.uses:
                    self.uses = uses
                    self.version += 1

    def _sample(self) -> dict[str, Use]:
        version = self._tree.version
        if version is None:
            raise CollectorError(f"{self._tree.root}: no cgroup file system")
        containers = self._containers()
        if containers is None:
            raise CollectorError("Docker has not said which containers there are")
        uses = {}
        for one in containers:
            if one.details is not None and (
                use := self._tree.read(version, one.id, one.details.cgroup_parent)
            ):
                uses[one.id] = use
        if containers and not uses:
            raise CollectorError(f"{self._tree.root}: none of the running containers has its cgroup there")
        return uses


def use_families(uses: Mapping[str, Use], names: Mapping[str, Identity]) -> Iterator[Metric]:
    """Yield what each container uses; `names` is by container id, and one without a name is left out."""
    known = [
        ((name.container, name.user, name.interface), use)
        for container_id, use in uses.items()
        if (name := names.get(container_id)) is not None
    ]
    for metric, attribute in (
        ("ds01_container_cpu_seconds_total", "cpu_seconds"),
        ("ds01_container_cpu_limit_cores", "cpu_limit_cores"),
        ("ds01_container_memory_bytes", "memory_bytes"),
        ("ds01_container_memory_limit_bytes", "memory_limit_bytes"),
        ("ds01_container_oom_kills_total", "oom_kills"),
    ):
        readings = ((labels, getattr(use, attribute)) for labels, use in known)
        yield family(metric, ((labels, float(value)) for labels, value in readings if value is not None))
