"""Readings by the program nvidia-smi, where NVML cannot be loaded; slower, with a time limit, cell by cell."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_telemetry import command
from gpu_telemetry.backends import smi_parse
from gpu_telemetry.backends.smi_parse import MIB, Missing
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.inventory import card_slices_by_name
from gpu_telemetry.metrics import READINGS, GpuMetrics, GpuProcess
from gpu_telemetry.processes import ProcessTable
from gpu_telemetry.topology import Gpu, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_telemetry.backends.smi_parse import MigReading

_PROGRAM = "nvidia-smi"
_INVALID_FIELD = re.compile(r'Field "([^"]+)" is not a valid field to query')

_IDENTITY = ("index", "uuid", "name", "pci.bus_id", "driver_version", "mig.mode.current")
# nvidia-smi's property: our field, factor to our unit.
_READINGS: Mapping[str, tuple[str, float]] = {
    "utilization.gpu": ("utilization_percent", 1),
    "utilization.memory": ("memory_utilization_percent", 1),
    "utilization.encoder": ("encoder_utilization_percent", 1),
    "utilization.decoder": ("decoder_utilization_percent", 1),
    "memory.used": ("memory_used_bytes", MIB),
    "memory.total": ("memory_total_bytes", MIB),
    "memory.free": ("memory_free_bytes", MIB),
    "memory.reserved": ("memory_reserved_bytes", MIB),
    "temperature.gpu": ("temperature_celsius", 1),
    "temperature.memory": ("memory_temperature_celsius", 1),
    "power.draw": ("power_watts", 1),
    "enforced.power.limit": ("power_limit_watts", 1),
    "clocks.current.graphics": ("graphics_clock_mhz", 1),
    "clocks.current.sm": ("sm_clock_mhz", 1),
    "clocks.current.memory": ("memory_clock_mhz", 1),
    "pstate": ("performance_state", 1),
    "fan.speed": ("fan_percent", 1),
    "pcie.link.gen.current": ("pcie_link_generation", 1),
    "pcie.link.width.current": ("pcie_link_width", 1),
    "clocks_throttle_reasons.active": ("throttle_mask", 1),
    "ecc.errors.corrected.volatile.total": ("ecc_corrected_total", 1),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected_total", 1),
    "ecc.errors.corrected.aggregate.total": ("ecc_corrected_lifetime_total", 1),
    "ecc.errors.uncorrected.aggregate.total": ("ecc_uncorrected_lifetime_total", 1),
    "remapped_rows.correctable": ("remapped_rows_corrected", 1),
    "remapped_rows.uncorrectable": ("remapped_rows_uncorrected", 1),
    "remapped_rows.pending": ("remapped_rows_pending", 1),
    "remapped_rows.failure": ("remapped_rows_failed", 1),
}
# A newer driver's name for a property that it no longer knows by the old one.
_RENAMED = {"clocks_throttle_reasons.active": "clocks_event_reasons.active"}
_READING_OF_RENAMED = {new: _READINGS[old] for old, new in _RENAMED.items()}
_INTEGER = frozenset(
    {"performance_state", "throttle_mask", "pcie_link_generation", "pcie_link_width"}
    | {field for field in READINGS if field.endswith(("_bytes", "_total", "_corrected", "_uncorrected"))},
)
_YES = {"yes": True, "no": False, "1": True, "0": False}

# What nvidia-smi says instead of an answer, on standard output as often as on standard error.
_REFUSALS = (
    ("insufficient permissions", "no_permission", "let this user open /dev/nvidiactl and /dev/nvidia*"),
    (
        "couldn't communicate with the nvidia driver",
        "no_driver",
        "load the NVIDIA kernel module: modprobe nvidia",
    ),
    ("driver not loaded", "no_driver", "load the NVIDIA kernel module: modprobe nvidia"),
    ("driver/library version mismatch", "version_mismatch", "the driver was updated while loaded: reboot"),
    ("gpu is lost", "lost", "look for XID errors in the kernel log: dmesg | grep NVRM"),
    ("no devices were found", "lost", "look for XID errors in the kernel log: dmesg | grep NVRM"),
)


class SmiBackend:
    """All GPUs and MIG devices by nvidia-smi; MIG utilisation, energy and XID errors it does not tell.

    Args:
        program: nvidia-smi, by path or looked up in PATH.
        timeout_seconds: Time for each call, after which it is killed.
    """

    name = "smi"
    simulated = False

    def __init__(self, program: str = _PROGRAM, *, timeout_seconds: float = 10.0) -> None:
        self.driver_version: str | None = None
        self._program = program
        self._timeout_seconds = timeout_seconds
        self._properties = [*_IDENTITY, *_READINGS]
        self._table = ProcessTable()

    def collect(self) -> list[GpuMetrics]:
        """See `Backend.collect`."""
        now = time.time()
        cards = self.query()
        processes = self._processes()
        migs = self._migs() if any(_mig_enabled(cells) for cells in cards) else {}
        metrics: list[GpuMetrics] = []
        for cells in cards:
            card = self._metrics(cells, processes, now)
            metrics.append(card)
            metrics += [self._mig_metrics(card, mig) for mig in migs.get(card.uuid, [])]
        return metrics

    def topology(self) -> Topology:
        """See `Backend.topology`."""
        cards = self.query()
        migs = self._migs() if any(_mig_enabled(cells) for cells in cards) else {}
        return Topology(
            gpus=tuple(_gpu(cells, migs.get(cells["uuid"], [])) for cells in cards),
            driver_version=self.driver_version,
        )

    def close(self) -> None:
        """See `Backend.close`."""

    def ask(self, *arguments: str) -> command.Answer:
        """What nvidia-smi prints for these arguments.

        Raises:
            BackendUnavailable: It is missing, or took too long.
        """
        try:
            answer = command.run([self._program, *arguments], timeout_seconds=self._timeout_seconds)
        except command.ProgramMissing as error:
            raise BackendUnavailable(
                error.problem,
                reason="no_driver",
                hint="install the NVIDIA driver; it brings nvidia-smi",
            ) from error
        if answer.code is None:
            raise BackendUnavailable(
                f"nvidia-smi did not answer within {self._timeout_seconds:g} s",
                reason="timeout",
                hint="look for XID errors in the kernel log: dmesg | grep NVRM",
            )
        return answer

    def query(self) -> list[dict[str, str]]:
        """One call of `--query-gpu`: the cells of every card by property, without those this driver does not know.

        Raises:
            BackendUnavailable: nvidia-smi is missing, took too long, or gave a refusal instead.
        """
        while True:
            answer = self.ask(f"--query-gpu={','.join(self._properties)}", "--format=csv,noheader,nounits")
            invalid = _INVALID_FIELD.search(answer.output + answer.errors)
            if invalid is None or invalid[1] not in self._properties:
                break
            self._forget(invalid[1])
        found = [
            dict(zip(self._properties, cells, strict=True))
            for cells in smi_parse.rows(answer.output, len(self._properties))
            if cells[0].isdigit()
        ]
        if not found:
            raise _refusal(answer)
        self.driver_version = found[0]["driver_version"]
        return found

    def _forget(self, invalid: str) -> None:
        at = self._properties.index(invalid)
        self._properties[at : at + 1] = [_RENAMED[invalid]] if invalid in _RENAMED else []

    def _metrics(
        self, cells: dict[str, str], processes: Mapping[str, tuple[GpuProcess, ...]] | Missing, now: float
    ) -> GpuMetrics:
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for name, cell in cells.items():
            field, factor = _READINGS.get(name) or _READING_OF_RENAMED.get(name) or ("", 1)
            if not field:
                continue
            value = _value(field, cell, factor)
            if isinstance(value, Missing):
                missing[field] = str(value)
            else:
                values[field] = value
        if isinstance(processes, Missing):
            missing["processes"] = str(processes)
        else:
            values["processes"] = processes.get(cells["uuid"], ())
        for field in READINGS:
            if field not in values:
                missing.setdefault(field, "not_supported")
        return GpuMetrics(
            device_id=int(cells["index"]),
            uuid=cells["uuid"],
            name=cells["name"],
            pci_bus_id=_text(cells["pci.bus_id"]),
            mig_enabled=_mig_enabled(cells),
            timestamp=now,
            missing=missing,
            **values,
        )

    def _mig_metrics(self, card: GpuMetrics, mig: MigReading) -> GpuMetrics:
        values: dict[str, Any] = {f"memory_{name}_bytes": size for name, size in mig.memory_bytes.items()}
        if card.processes is not None and mig.pids is not None:
            instance = mig.device.gpu_instance_id
            mine = [each for each in card.processes if each.pid in mig.pids]
            values["processes"] = tuple(replace(each, gpu_instance_id=instance) for each in mine)
        return GpuMetrics(
            device_id=card.device_id,
            uuid=mig.device.uuid,
            name=card.name,
            parent_uuid=card.uuid,
            mig_index=mig.device.index,
            gpu_instance_id=mig.device.gpu_instance_id,
            compute_instance_id=mig.device.compute_instance_id,
            mig_profile=mig.device.profile,
            mig_enabled=True,
            pci_bus_id=card.pci_bus_id,
            timestamp=card.timestamp,
            missing={field: "not_supported" for field in READINGS if field not in values},
            **values,
        )

    def _migs(self) -> dict[str, list[MigReading]]:
        listed = smi_parse.parse_list(self.ask("-L").output)
        return smi_parse.mig_readings(smi_parse.parse_query(self.ask("-q").output), listed)

    def _processes(self) -> Mapping[str, tuple[GpuProcess, ...]] | Missing:
        properties = "gpu_uuid,pid,used_gpu_memory,process_name"
        answer = self.ask(f"--query-compute-apps={properties}", "--format=csv,noheader,nounits")
        if answer.code != 0:
            return smi_parse.reason(answer.output or answer.errors)
        found: dict[str, tuple[GpuProcess, ...]] = {}
        for uuid, pid, memory, name in smi_parse.rows(answer.output, properties.count(",") + 1):
            if pid.isdigit():
                found[uuid] = (*found.get(uuid, ()), self._process(int(pid), memory, name))
        return found

    def _process(self, pid: int, memory: str, name: str) -> GpuProcess:
        owner = self._table.owner(pid)
        used = smi_parse.number(memory)
        return GpuProcess(
            pid=pid,
            name=owner.name or _text(name.rpartition("/")[2]),
            user=owner.user,
            container=owner.container,
            memory_used_bytes=None if isinstance(used, Missing) else int(used * MIB),
        )


def _value(field: str, cell: str, factor: float) -> float | bool | Missing:
    if field in {"remapped_rows_pending", "remapped_rows_failed"}:
        return _YES[cell.lower()] if cell.lower() in _YES else smi_parse.reason(cell)
    value = smi_parse.number(cell.removeprefix("P") if field == "performance_state" else cell)
    if isinstance(value, Missing):
        return value
    return int(value * factor) if field in _INTEGER else value * factor


def _text(cell: str) -> str | None:
    return None if cell.startswith("[") or cell in {"", "N/A"} else cell


def _mig_enabled(cells: dict[str, str]) -> bool | None:
    words = cells.get("mig.mode.current", "N/A").strip("[]").lower()
    if words in {"enabled", "disabled"}:
        return words == "enabled"
    # Cards and drivers without MIG say N/A, which is a no.
    return False if words in {"n/a", "not supported"} else None


def _gpu(cells: dict[str, str], migs: Sequence[MigReading]) -> Gpu:
    total = smi_parse.number(cells.get("memory.total", "N/A"))
    mode = cells.get("mig.mode.current", "N/A")
    return Gpu(
        index=int(cells["index"]),
        uuid=cells["uuid"],
        name=cells["name"],
        pci_bus_id=_text(cells["pci.bus_id"]),
        memory_total_bytes=None if isinstance(total, Missing) else int(total * MIB),
        compute_slices=card_slices_by_name(cells["name"]) if mode in {"Enabled", "Disabled"} else None,
        mig_enabled=_mig_enabled(cells),
        mig_devices=tuple(mig.device for mig in migs),
    )


def _refusal(answer: command.Answer) -> BackendUnavailable:
    """Why there is no card in the answer, from nvidia-smi's own words."""
    words = (answer.output + answer.errors).strip()
    first = words.splitlines()[0] if words else f"it printed nothing and ended with {answer.code}"
    for part, reason, hint in _REFUSALS:
        if part in words.lower():
            return BackendUnavailable(f"nvidia-smi: {first}", reason=reason, hint=hint)
    return BackendUnavailable(
        f"nvidia-smi: {first}", reason="error", hint="run it by hand to see all it says"
    )
