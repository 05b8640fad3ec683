"""The machine around the GPUs: CPU package power by RAPL, temperatures by hwmon, read from sysfs without root tricks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry.metrics import HostMetrics, HostTemperature

if TYPE_CHECKING:
    from collections.abc import Callable

_SYSFS = Path("/sys")
_MOST_WATTS = 1000.0  # More than any CPU package draws.
_PER_JOULE = 1e6  # powercap: energy_uj, max_energy_range_uj.
_PER_DEGREE = 1000  # hwmon: temp*_input is in millidegrees.


def reason_of(error: OSError) -> str:
    """Why a file of sysfs could not be read."""
    if isinstance(error, PermissionError):
        return "no_permission"
    return "not_supported" if isinstance(error, FileNotFoundError) else "error"


@dataclass
class _Package:
    """One RAPL package: its counter as last seen, and the joules since the first sample."""

    counter_microjoules: int
    at_seconds: float
    total_joules: float = 0.0


class HostReader:
    """Reads RAPL and hwmon; power is over the time between two calls of `read`.

    Args:
        sysfs: Where sysfs is mounted.
        at_most_every_seconds: A reading younger than this is handed out again: asking a disk for its temperature
            is a command to the disk, and takes milliseconds.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        sysfs: Path = _SYSFS,
        *,
        at_most_every_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sysfs = sysfs
        self._at_most_every_seconds = at_most_every_seconds
        self._clock = clock
        self._last: tuple[float, HostMetrics] | None = None
        self._packages: dict[str, _Package] = {}

    def read(self) -> HostMetrics:
        """Everything that can be read now; the rest is named in `missing`."""
        now = self._clock()
        if self._last is None or now - self._last[0] >= self._at_most_every_seconds:
            self._last = (now, self._read())
        return self._last[1]

    def _read(self) -> HostMetrics:
        missing: dict[str, str] = {}
        power, energy = self._rapl(missing)
        return HostMetrics(
            cpu_power_watts=power,
            cpu_energy_joules=energy,
            temperatures=self._temperatures(missing),
            missing=missing,
        )

    def _rapl(self, missing: dict[str, str]) -> tuple[dict[str, float | None], dict[str, float | None]]:
        power: dict[str, float | None] = {}
        energy: dict[str, float | None] = {}
        # intel-rapl:0 and intel-rapl:1 are packages, intel-rapl:0:0 a part of one; AMD's are named the same.
        zones = sorted(self._sysfs.glob("class/powercap/intel-rapl:[0-9]*"))
        for zone in (each for each in zones if each.name.count(":") == 1):
            try:
                name = (zone / "name").read_text().strip()
            except OSError:
                name = zone.name
            # Two packages of one name (some platforms) must not hide each other.
            name = name if name not in power else f"{name} ({zone.name})"
            try:
                power[name], energy[name] = self._package(zone)
            except (OSError, ValueError) as error:
                power[name] = energy[name] = None
                missing[name] = reason_of(error) if isinstance(error, OSError) else "error"
                self._packages.pop(zone.name, None)
                continue
            if power[name] is None:
                missing[name] = "no_data"
        if not power:
            missing["rapl"] = "not_supported"
        return power, energy

    def _package(self, zone: Path) -> tuple[float | None, float | None]:
        counter = int((zone / "energy_uj").read_text())
        now = self._clock()
        last = self._packages.get(zone.name)
        if last is None:
            self._packages[zone.name] = _Package(counter, now)
            return None, 0.0
        elapsed = now - last.at_seconds
        span = int((zone / "max_energy_range_uj").read_text()) / _PER_JOULE
        if elapsed <= 0 or elapsed * _MOST_WATTS > span:
            # It may have wrapped more than once meanwhile: what was used is unknown, and we begin anew.
            self._packages[zone.name] = _Package(counter, now)
            return None, None
        gained = (counter - last.counter_microjoules) / _PER_JOULE
        if gained < 0:
            gained += span
        last.counter_microjoules, last.at_seconds = counter, now
        last.total_joules += gained
        return gained / elapsed, last.total_joules

    def _temperatures(self, missing: dict[str, str]) -> tuple[HostTemperature, ...]:
        found: list[HostTemperature] = []
        for chip in sorted(self._sysfs.glob("class/hwmon/hwmon*")):
            try:
                name = (chip / "name").read_text().strip()
            except OSError:
                continue
            found += [
                reading
                for path in sorted(chip.glob("temp*_input"))
                if (reading := _temperature(path, name)) is not None
            ]
        if not found:
            missing["hwmon"] = "not_supported"
        return tuple(found)


def _temperature(path: Path, chip: str) -> HostTemperature | None:
    """One sensor; None where it answers an error, as sleeping disks and absent diodes do."""
    sensor = path.name.removesuffix("_input")
    try:
        celsius = int(path.read_text()) / _PER_DEGREE
    except (OSError, ValueError):
        return None
    try:
        label = path.with_name(f"{sensor}_label").read_text().strip()
    except OSError:
        label = sensor
    return HostTemperature(chip=chip, label=label, celsius=celsius)
