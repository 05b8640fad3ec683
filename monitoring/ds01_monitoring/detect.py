"""What this machine has: a Docker Engine, an NVIDIA driver, a Grafana. Each answer comes with its reason."""

from __future__ import annotations

import ctypes
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir

ENGINE_SECONDS = 5
ENGINE_SOCKET = Path("/run/docker.sock")
DRIVER_VERSION = Path("/proc/driver/nvidia/version")
NVML_MISMATCH = 18
"""NVML_ERROR_LIB_RM_VERSION_MISMATCH in nvml.h."""

MISMATCH = (
    "the NVIDIA driver's kernel module and its library do not match, as after an upgrade; "
    "reboot, or unload and load the nvidia modules, then run monitoring-manage restart"
)
NO_NVIDIA_RUNTIME = "the Docker Engine has no NVIDIA runtime (nvidia-container-toolkit) for dcgm-exporter"


@dataclass(frozen=True)
class Found:
    """A choice and why it was made, for people to read."""

    value: str
    reason: str


def runtime(settings: Settings) -> Found:
    """`compose` or `native`: what the configuration says, else what this machine can do."""
    if settings.runtime != "auto":
        return Found(settings.runtime, f"the configuration says runtime: {settings.runtime}")
    from ds01_monitoring.runtime import engine  # noqa: PLC0415 - only where it is asked for.

    try:
        return Found("compose", f"Docker Engine {engine.check(ENGINE_SECONDS)} answers")
    except UserError as error:
        return Found("native", error.problem.splitlines()[0])


def hardware(settings: Settings, runtime: str) -> Found:
    """`dcgm`, `nvml` or `none`: what the configuration says, else what fits the driver that is here."""
    if settings.hardware != "auto":
        return Found(settings.hardware, f"the configuration says hardware: {settings.hardware}")
    if settings.dcgm.address:
        return Found("dcgm", f"the configuration names a dcgm-exporter at {settings.dcgm.address}")
    driver = driver_found()
    if driver is None:
        return Found("none", "no NVIDIA driver is loaded on this machine")
    if nvml_says() == NVML_MISMATCH:
        return Found("none", MISMATCH)
    return _reader(driver, runtime)


def _reader(driver: str, runtime: str) -> Found:
    """Who reads a driver that works."""
    if runtime == "compose":
        if gives_gpus():
            return Found("dcgm", f"{driver}; dcgm-exporter reads it")
        return Found("nvml", f"{driver}; gpu-telemetry reads it, as {NO_NVIDIA_RUNTIME}")
    if shutil.which("dcgm-exporter"):
        return Found("dcgm", f"{driver}; dcgm-exporter is installed")
    return Found("nvml", f"{driver}; gpu-telemetry reads it, as dcgm-exporter is not installed")


def driver_found() -> str | None:
    """What shows that an NVIDIA driver is here, or None."""
    if DRIVER_VERSION.exists():
        return f"an NVIDIA driver is loaded ({DRIVER_VERSION} exists)"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return "the NVIDIA driver's library libnvidia-ml.so.1 is here"


def nvml_says() -> int | None:
    """What the driver's library answers when it is asked to begin, nvmlReturn_t: 0 is well; None without a library."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    answer = int(library.nvmlInit_v2())
    if answer == 0:
        library.nvmlShutdown()
    return answer


def gives_gpus() -> bool:
    """Whether the Docker Engine can give GPUs to containers."""
    from ds01_monitoring.runtime import engine  # noqa: PLC0415 - only where there is a GPU.

    try:
        return engine.nvidia()
    except UserError:
        return False


def engine_installed() -> bool:
    """Whether this machine has a Docker Engine, running or not."""
    return ENGINE_SOCKET.exists() or shutil.which("dockerd") is not None


def grafana_binary(state: StateDir) -> Path | None:
    """A Grafana server for the native runtime: from PATH, else from the state directory, else None."""
    for name in ("grafana", "grafana-server"):
        found = shutil.which(name) or shutil.which(name, path=str(state.bin))
        if found:
            return Path(found)
    return None
