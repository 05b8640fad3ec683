"""The series about allocations, containers and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_exporter.metrics import family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from ds01_exporter.allocations import View


def allocation_families(view: View) -> Iterator[Metric]:
    """Yield what `view` says; what it cannot say is absent."""
    yield family("ds01_gpu_allocated", ((holder.labels, 1.0) for holder in view.holders))
    yield family(
        "ds01_gpu_allocated_since_timestamp_seconds",
        ((holder.labels, holder.since) for holder in view.holders if holder.since is not None),
    )
    yield family(
        "ds01_allocation_conflicts", (((kind,), float(count)) for kind, count in view.conflicts.items())
    )
    yield family(
        "ds01_containers_total", ((key, float(count)) for key, count in (view.containers or {}).items())
    )
    yield family(
        "ds01_user_mig_allocated", (((user,), total) for user, total in view.mig_equivalents.items())
    )
    yield family(
        "ds01_user_containers_count",
        (((user,), float(count)) for user, count in (view.running_by_user or {}).items()),
    )
    yield family(
        "ds01_unmanaged_gpu_container",
        (((one.container, one.user, "true" if one.running else "false"), 1.0) for one in view.unmanaged),
    )
