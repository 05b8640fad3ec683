"""The one door to NVML: an initialised session, error codes as reasons, text in whatever form it comes.

nvidia-ml-py is imported on first use, so this module loads on a machine without it and without a driver.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import NvmlUnavailable

if TYPE_CHECKING:
    from types import ModuleType

    from typing_extensions import Self

# nvml.h, enum nvmlReturn_t.
UNINITIALIZED, INVALID_ARGUMENT, NOT_FOUND, TIMEOUT = 1, 2, 6, 10
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_IS_LOST, VERSION_MISMATCH = 9, 12, 15, 18

_REASONS = {
    UNINITIALIZED: "lost",
    3: "not_supported",
    4: "no_permission",
    DRIVER_NOT_LOADED: "lost",
    TIMEOUT: "timeout",
    LIBRARY_NOT_FOUND: "lost",
    13: "not_supported",  # The installed libnvidia-ml is older than the function.
    GPU_IS_LOST: "lost",
    16: "lost",  # The GPU answers nothing until it is reset.
    VERSION_MISMATCH: "lost",
    21: "no_data",
    22: "not_supported",
    25: "not_supported",
    26: "not_supported",
    27: "no_data",
    28: "lost",
}

# After these the whole session is dead: only a new nvmlInit can bring readings back.
DRIVER_LOST = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, VERSION_MISMATCH})

_UNAVAILABLE = {
    4: ("no_permission", "let this user open /dev/nvidiactl and /dev/nvidia*"),
    DRIVER_NOT_LOADED: ("no_driver", "load the NVIDIA kernel module: modprobe nvidia"),
    LIBRARY_NOT_FOUND: ("no_driver", "install the NVIDIA driver; it brings libnvidia-ml.so.1"),
    VERSION_MISMATCH: (
        "version_mismatch",
        "the driver was updated while loaded: reboot or reload its module",
    ),
    TIMEOUT: ("timeout", "look for XID errors in the kernel log: dmesg | grep NVRM"),
    GPU_IS_LOST: ("lost", "look for XID errors in the kernel log: dmesg | grep NVRM"),
}


class NvmlError(Exception):
    """One NVML call failed.

    Attributes:
        code: NVML's return code, nvmlReturn_t.
        reason: `not_supported`, `no_permission`, `lost`, `timeout`, `no_data` or `error`.
    """

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function} returned {code}")
        self.code = code
        self.reason = reason_of(code)


def reason_of(code: int) -> str:
    """Why a reading is missing, from NVML's return code."""
    return _REASONS.get(code, "error")


@cache
def library() -> ModuleType:
    """nvidia-ml-py itself, for its constants and structures.

    Raises:
        NvmlUnavailable: The package is not installed.
    """
    try:
        pynvml = import_module("pynvml")
    except ImportError as error:
        raise NvmlUnavailable(
            "the Python package nvidia-ml-py is not installed",
            reason="not_installed",
            hint="pip install nvidia-ml-py",
        ) from error
    return pynvml


def as_text(value: str | bytes) -> str:
    """A name or UUID as text: nvidia-ml-py returns bytes or str depending on its version."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.split("\0", 1)[0].strip()


class Nvml:
    """NVML, initialised; `close` releases it.

    Raises:
        NvmlUnavailable: It cannot be initialised now.
    """

    def __init__(self) -> None:
        self.library = library()
        try:
            self.library.nvmlInit()
        except self.library.NVMLError as error:
            raise unavailable(int(error.value), str(error)) from error

    def call(self, function: str, *arguments: Any) -> Any:
        """What the NVML function of that name returns; bytes come back as text.

        Raises:
            NvmlError: NVML refused, or the installed nvidia-ml-py does not know the function.
        """
        found = getattr(self.library, function, None)
        if found is None:
            raise NvmlError(function, 13)
        try:
            result = found(*arguments)
        except self.library.NVMLError as error:
            raise NvmlError(function, int(error.value)) from error
        except getattr(self.library, "NVMLLibraryMismatchError", ()) as error:
            # nvidia-ml-py's newest form of the function is newer than the driver; the older has a name of its own.
            if function.endswith("_v2"):
                raise NvmlError(function, 13) from error
            return self.call(f"{function}_v2", *arguments)
        except UnicodeDecodeError as error:
            # nvidia-ml-py decodes names strictly; WSL2 hands out names that are not UTF-8.
            result = error.object
        return as_text(result) if isinstance(result, (bytes, str)) else result

    def optional(self, function: str, *arguments: Any) -> Any:
        """Like `call`, but None where this reading cannot be had while the driver is there.

        Raises:
            NvmlError: The whole driver is lost.
        """
        try:
            return self.call(function, *arguments)
        except NvmlError as error:
            if error.code in DRIVER_LOST:
                raise
            return None

    def release(self, function: str, *arguments: Any) -> None:
        """Give something back to NVML; a driver that is gone has taken it already."""
        with suppress(NvmlError):
            self.call(function, *arguments)

    def close(self) -> None:
        """Release NVML; a driver that is already gone is no error."""
        try:
            self.library.nvmlShutdown()
        except self.library.NVMLError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unavailable(code: int, words: str) -> NvmlUnavailable:
    """The error for a session that cannot be used, from the code that NVML gave."""
    reason, hint = _UNAVAILABLE.get(code, ("error", "run nvidia-smi, it asks the same library"))
    return NvmlUnavailable(f"NVML is not available: {words}", reason=reason, hint=hint)
