"""The series about allocations, containers and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_exporter.metrics import family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from ds01_exporter.allocations import View

Rows = tuple[tuple[tuple[str, ...], float], ...]

ALLOCATION_METRICS = (
    "ds01_gpu_allocated",
    "ds01_gpu_allocated_since_timestamp_seconds",
    "ds01_allocation_conflicts",
    "ds01_containers_total",
    "ds01_user_mig_allocated",
    "ds01_user_containers_count",
    "ds01_unmanaged_gpu_container",
)


def allocation_rows(view: View) -> Mapping[str, Rows]:
    """Return what `view` says, by metric; what it cannot say is absent.

    Rows are compared with those of the scrape before, so that a change encodes only the metrics that it touches.
    """
    unmanaged = ((one.container, one.user, "true" if one.running else "false") for one in view.unmanaged)
    return {
        "ds01_gpu_allocated": tuple((holder.labels, 1.0) for holder in view.holders),
        "ds01_gpu_allocated_since_timestamp_seconds": tuple(
            (holder.labels, holder.since) for holder in view.holders if holder.since is not None
        ),
        "ds01_allocation_conflicts": _by_name(view.conflicts),
        "ds01_containers_total": tuple((key, float(count)) for key, count in (view.containers or {}).items()),
        "ds01_user_mig_allocated": _by_name(view.mig_equivalents),
        "ds01_user_containers_count": _by_name(view.running_by_user or {}),
        "ds01_unmanaged_gpu_container": tuple((labels, 1.0) for labels in unmanaged),
    }


def allocation_families(view: View) -> Iterator[Metric]:
    """Yield all families about allocations."""
    rows = allocation_rows(view)
    for name in ALLOCATION_METRICS:
        yield family(name, rows[name])


def _by_name(values: Mapping[str, float]) -> Rows:
    return tuple(((name,), float(value)) for name, value in values.items())
