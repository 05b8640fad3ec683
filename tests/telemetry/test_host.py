"""Host readings on a sysfs of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_telemetry.host import HostReader
from gpu_telemetry.metrics import HostTemperature


class Clock:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def write(root: Path, values: dict[str, str]) -> None:
    """Files of a sysfs."""
    for name, text in values.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def package(number: int, energy: int, most: int = 262_143_328_850) -> dict[str, str]:
    """One RAPL package, with a part of it that must not be taken for a package."""
    zone = f"class/powercap/intel-rapl:{number}"
    return {
        f"{zone}/name": f"package-{number}",
        f"{zone}/energy_uj": str(energy),
        f"{zone}/max_energy_range_uj": str(most),
        f"class/powercap/intel-rapl:{number}:0/name": "dram",
        f"class/powercap/intel-rapl:{number}:0/energy_uj": "1",
    }


def test_power_of_every_package_is_energy_over_time(tmp_path: Path) -> None:
    """Two sockets, each from its own counter, from the second reading on."""
    clock = Clock()
    reader = HostReader(tmp_path, clock=clock)
    write(tmp_path, package(0, 1_000_000) | package(1, 5_000_000))
    first = reader.read()
    assert first.cpu_power_watts == {"package-0": None, "package-1": None}
    assert first.missing["package-0"] == "no_data"
    clock.now = 2.0
    write(tmp_path, package(0, 101_000_000) | package(1, 15_000_000))
    second = reader.read()
    assert second.cpu_power_watts == {"package-0": 50.0, "package-1": 5.0}
    assert second.cpu_energy_joules == {"package-0": 100.0, "package-1": 10.0}


def test_a_counter_that_wraps_gives_no_negative_power(tmp_path: Path) -> None:
    """The counter starts again at 0 after its range; the joules in between count."""
    clock = Clock()
    reader = HostReader(tmp_path, clock=clock)
    write(tmp_path, package(0, 262_143_000_000))
    reader.read()
    clock.now = 1.0
    write(tmp_path, package(0, 99_671_150))
    assert reader.read().cpu_power_watts["package-0"] == pytest.approx(100.0)


def test_a_gap_in_which_it_may_have_wrapped_twice_is_no_reading(tmp_path: Path) -> None:
    """After hours the counter says nothing about the energy in between."""
    clock = Clock()
    reader = HostReader(tmp_path, clock=clock)
    write(tmp_path, package(0, 1_000_000))
    reader.read()
    clock.now = 3600.0
    write(tmp_path, package(0, 101_000_000))
    reading = reader.read()
    assert reading.cpu_power_watts["package-0"] is None
    assert reading.missing["package-0"] == "no_data"
    clock.now = 3601.0
    write(tmp_path, package(0, 151_000_000))
    assert reader.read().cpu_power_watts["package-0"] == pytest.approx(50.0)


def test_permission_denied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EACCES on the counter becomes the reason `no_permission`, and the other package is read."""
    write(tmp_path, package(0, 1) | package(1, 1))
    real = Path.read_text

    def read_text(self: Path, *arguments: str, **options: str) -> str:
        if self.name == "energy_uj" and self.parent.name == "intel-rapl:0":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert HostReader(tmp_path).read().missing["package-0"] == "no_permission"


def test_temperatures_are_by_chip_and_label(tmp_path: Path) -> None:
    """A sensor without label keeps its number, a sensor that fails is left out, fans are no temperatures."""
    write(
        tmp_path,
        {
            "class/hwmon/hwmon0/name": "nvme",
            "class/hwmon/hwmon0/temp1_input": "38850",
            "class/hwmon/hwmon1/name": "coretemp",
            "class/hwmon/hwmon1/temp1_input": "61000",
            "class/hwmon/hwmon1/temp1_label": "Package id 0",
            "class/hwmon/hwmon1/temp2_input": "not a number",
            "class/hwmon/hwmon1/fan1_input": "1200",
        },
    )
    reading = HostReader(tmp_path).read()
    assert reading.temperatures == (
        HostTemperature(chip="nvme", label="temp1", celsius=38.85),
        HostTemperature(chip="coretemp", label="Package id 0", celsius=61.0),
    )
    assert reading.missing == {"rapl": "not_supported"}


def test_a_machine_without_sensors_says_so(tmp_path: Path) -> None:
    """Nothing is 0: both kinds are missing by name."""
    reading = HostReader(tmp_path).read()
    assert (reading.cpu_power_watts, reading.temperatures) == ({}, ())
    assert reading.missing == {"rapl": "not_supported", "hwmon": "not_supported"}


def test_sensors_are_asked_at_most_once_a_second(tmp_path: Path) -> None:
    """At ten samples a second the disks are left in peace; a second later the reading is new."""
    clock = Clock()
    reader = HostReader(tmp_path, clock=clock)
    write(tmp_path, {"class/hwmon/hwmon0/name": "nvme", "class/hwmon/hwmon0/temp1_input": "40000"})
    assert reader.read().temperatures[0].celsius == 40
    write(tmp_path, {"class/hwmon/hwmon0/temp1_input": "41000"})
    clock.now = 0.9
    assert reader.read().temperatures[0].celsius == 40
    clock.now = 1.0
    assert reader.read().temperatures[0].celsius == 41
