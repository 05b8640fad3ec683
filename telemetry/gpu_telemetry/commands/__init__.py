"""The commands of `gpu-telemetry`, one module each, and the options that they share."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from gpu_telemetry import backends
from gpu_telemetry.patience import PatientMonitor
from gpu_telemetry.units import age

if TYPE_CHECKING:
    import argparse

    from gpu_telemetry.host import HostReader


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose where readings come from and of which devices."""
    parser.add_argument(
        "--backend",
        choices=backends.NAMES,
        default="auto",
        help="where readings come from (default: auto = NVML, else nvidia-smi); simulated readings are marked as such",
    )
    parser.add_argument(
        "--pcie-throughput",
        action="store_true",
        help="measure the PCIe rates of cards that do not count bytes, which takes 40 ms for each of them",
    )
    add_all_devices_option(parser)


def add_all_devices_option(parser: argparse.ArgumentParser) -> None:
    """The option that lifts the filter of CUDA_VISIBLE_DEVICES."""
    parser.add_argument(
        "--all-devices",
        action="store_true",
        help="every device of the machine, whatever CUDA_VISIBLE_DEVICES says",
    )


def monitor_of(options: argparse.Namespace, *, host: HostReader | None = None) -> PatientMonitor:
    """The monitor that the options of `add_backend_options` ask for."""
    backend = backends.create(options.backend, pcie_throughput=options.pcie_throughput)
    return PatientMonitor(backend, environ={} if options.all_devices else None, host=host)


def interval(text: str) -> float:
    """Seconds of an option such as "1s", "100ms", "0.5", "2m"; 10 ms to one hour.

    Raises:
        ArgumentTypeError: It is no such duration.
    """
    seconds = age(text)
    if not 0.01 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text} is not between 10ms and 1h")
    return seconds
