"""Every metric that the exporter has: one row each, with its type, labels and help text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Row(NamedTuple):
    """The definition of one metric; `kind` is gauge, counter or info."""

    kind: str
    labels: tuple[str, ...]
    help: str


_HOLDER = ("gpu_slot", "container", "user", "interface")
_CONTAINER = ("container", "user", "interface")
_XID = ("gpu", "UUID", "xid")

# The encoders put these back: OpenMetrics wants families named without them.
_SUFFIXES = {"gauge": "", "counter": "_total", "info": "_info"}

METRICS = {
    "ds01_gpu_allocated": Row("gauge", _HOLDER, "1 for each container that holds the slot."),
    "ds01_gpu_allocated_since_timestamp_seconds": Row(
        "gauge", _HOLDER, "When the container was given the slot; absent where no source says."
    ),
    "ds01_gpu_slot_info": Row(
        "info",
        ("gpu_slot", "gpu", "UUID", "GPU_I_ID", "GPU_I_PROFILE"),
        "Every slot of the machine, held or free, with the names that the hardware exporters use.",
    ),
    "ds01_gpu_slot_fraction": Row(
        "gauge", ("gpu_slot", "GPU_I_PROFILE"), "Share of a whole GPU that the slot is (0 to 1)."
    ),
    "ds01_allocation_conflicts": Row(
        "gauge", ("kind",), "Allocations on which the sources contradict each other."
    ),
    "ds01_containers_total": Row(
        "gauge", ("status", "interface"), "Containers of the machine, those of the monitoring left out."
    ),
    "ds01_user_mig_allocated": Row(
        "gauge", ("user",), "MIG-equivalents that the user holds: a slice is 1, a whole GPU as configured."
    ),
    "ds01_user_containers_count": Row("gauge", ("user",), "Running containers of the user."),
    "ds01_container_cpu_seconds_total": Row("counter", _CONTAINER, "CPU time used by the container."),
    "ds01_container_cpu_limit_cores": Row(
        "gauge", _CONTAINER, "CPU cores that the container may use; absent where there is no quota."
    ),
    "ds01_container_memory_bytes": Row(
        "gauge", _CONTAINER, "Memory used by the container, its inactive file cache left out."
    ),
    "ds01_container_memory_limit_bytes": Row(
        "gauge", _CONTAINER, "Memory limit of the container; absent where there is none."
    ),
    "ds01_container_oom_kills_total": Row(
        "counter", _CONTAINER, "Processes of the container that were killed for want of memory."
    ),
    "ds01_unmanaged_gpu_container": Row(
        "gauge",
        ("container", "user", "running"),
        "1 for each container that was given GPUs past the allocator.",
    ),
    "ds01_gpu_xid_errors_total": Row(
        "counter", _XID, "XID errors that the driver reported since the exporter started."
    ),
    "ds01_gpu_xid_last_timestamp_seconds": Row(
        "gauge", _XID, "When the driver last reported this XID error."
    ),
    "ds01_events_24h_total": Row(
        "gauge", ("event_type",), "Events of the allocator's log in the last 24 hours."
    ),
    "ds01_event_lines_rejected_total": Row(
        "counter", (), "Lines of the event log that are not events, since the exporter started."
    ),
    "ds01_last_gpu_event_timestamp_seconds": Row(
        "gauge", (), "When a gpu.* event other than a rejection was last logged."
    ),
    "ds01_state_disk_bytes": Row(
        "gauge",
        ("type",),
        "Size of the file system that holds the state directory; free is what users may use.",
    ),
    "ds01_state_file_modified_timestamp_seconds": Row(
        "gauge", (), "When the state file was last modified; absent when there is none."
    ),
    "ds01_collector_success": Row("gauge", ("collector",), "Whether the collector's last run succeeded."),
    "ds01_collector_duration_seconds": Row(
        "gauge", ("collector",), "How long the collector's last run took."
    ),
    "ds01_collector_last_success_timestamp_seconds": Row(
        "gauge", ("collector",), "When the collector last succeeded."
    ),
    "ds01_exporter_info": Row("info", ("version", "type"), "The version of this exporter."),
}


def family(name: str, rows: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """Build the family `name` from pairs of label values, in the order of its row, and value.

    Two rows with the same labels would break the exposition; the first of them counts.

    Raises:
        ValueError: the label values of a row are not as many as the labels.
    """
    row = METRICS[name]
    metric = Metric(name.removesuffix(_SUFFIXES[row.kind]), row.help, row.kind)
    seen = set()
    for raw, value in rows:
        values = tuple(map(printable, raw))
        if values not in seen:
            seen.add(values)
            metric.add_sample(name, dict(zip(row.labels, values, strict=True)), value)
    return metric


def printable(text: str) -> str:
    """Return `text` with what UTF-8 cannot carry replaced: JSON may hold half a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
