"""Keeps a GPU busy to a chosen degree, so that dashboards and alerts can be seen to work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_telemetry.sampling import Stop

NOT_INSTALLED = 3
"""Exit code where neither PyTorch nor CuPy can be used."""

PERIOD_SECONDS = 0.1
"""Work and rest alternate within this time: shorter than the driver's window (1/6 to 1 s), so that it sees the mean."""

MATRIX_SIDE = 2048


class Engine(Protocol):
    """What can keep the one visible GPU busy.

    Attributes:
        name: The library and its version.
    """

    name: str

    def memory(self) -> tuple[int, int]:
        """Free and total memory of the GPU, in bytes."""

    def allocate(self, size: int) -> None:
        """Takes so many bytes until the process ends."""

    def work(self) -> None:
        """Keeps the GPU busy for some milliseconds, and returns when it is done."""


class TorchEngine:
    """Matrix products by PyTorch."""

    def __init__(self, torch: Any) -> None:
        self.name = f"PyTorch {torch.__version__}"
        self._torch = torch
        self._matrix = torch.rand((MATRIX_SIDE, MATRIX_SIDE), device="cuda")
        self._held: list[object] = []

    def memory(self) -> tuple[int, int]:
        """See `Engine.memory`."""
        free, total = self._torch.cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, size: int) -> None:
        """See `Engine.allocate`."""
        self._held.append(self._torch.empty(size, dtype=self._torch.uint8, device="cuda"))

    def work(self) -> None:
        """See `Engine.work`."""
        self._matrix @ self._matrix
        self._torch.cuda.synchronize()


class CupyEngine:
    """Matrix products by CuPy."""

    def __init__(self, cupy: Any) -> None:
        self.name = f"CuPy {cupy.__version__}"
        self._cupy = cupy
        self._matrix = cupy.random.random((MATRIX_SIDE, MATRIX_SIDE), dtype=cupy.float32)
        self._held: list[object] = []

    def memory(self) -> tuple[int, int]:
        """See `Engine.memory`."""
        free, total = self._cupy.cuda.runtime.memGetInfo()
        return int(free), int(total)

    def allocate(self, size: int) -> None:
        """See `Engine.allocate`."""
        self._held.append(self._cupy.empty(size, dtype=self._cupy.uint8))

    def work(self) -> None:
        """See `Engine.work`."""
        self._matrix @ self._matrix
        self._cupy.cuda.runtime.deviceSynchronize()


@dataclass(frozen=True)
class Outcome:
    """What was really done.

    Attributes:
        seconds: How long.
        busy_percent: Share of that time in which the GPU worked for us, 0 to 100.
        memory_bytes: Memory that was held for it, besides the matrices.
    """

    seconds: float
    busy_percent: float
    memory_bytes: int


def find_engine() -> Engine:
    """PyTorch where it sees a GPU, else CuPy.

    Whatever CUDA_VISIBLE_DEVICES is to say must be set before: both libraries read it once.

    Raises TelemetryError with exit code 3 when neither can be used, and says why of each.
    """
    tried = [_try("torch", _torch), _try("cupy", _cupy)]
    for found in tried:
        if not isinstance(found, str):
            return found
    raise TelemetryError(
        f"neither PyTorch nor CuPy can use this GPU: {'; '.join(map(str, tried))}",
        hint="install one into the environment of gpu-telemetry, for example: pip install torch, or pip install cupy-cuda12x",
        exit_code=NOT_INSTALLED,
    )


def stress(
    engine: Engine,
    *,
    seconds: float,
    load_percent: float,
    memory_share: float | None,
    stop: Stop,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Works for `load_percent` of every tenth of a second until the time is over or `stop` is requested.

    Args:
        engine: What works.
        seconds: For how long.
        load_percent: 1 to 100.
        memory_share: Share of the GPU's memory that is to be in use, 0 to 1, with what others use; None takes none.
        stop: Ends it early.
        clock: Monotonic seconds.

    Raises TelemetryError when that much memory is not free.
    """
    held = 0 if memory_share is None else _hold(engine, memory_share)
    begun = clock()
    busy = 0.0
    while (now := clock()) - begun < seconds and not stop.requested:
        until = min(now + PERIOD_SECONDS * load_percent / 100, begun + seconds)
        while clock() < until and not stop.requested:
            engine.work()
        busy += clock() - now
        stop.wait(min(now + PERIOD_SECONDS, begun + seconds) - clock())
    taken = clock() - begun
    return Outcome(taken, 100 * busy / taken if taken else 0.0, held)


def _hold(engine: Engine, share: float) -> int:
    free, total = engine.memory()
    wanted = int(total * share) - (total - free)
    if wanted <= 0:
        return 0
    try:
        engine.allocate(wanted)
    except Exception as error:
        raise TelemetryError(
            f"{wanted / 2**20:.0f} MiB are not to be had: {error}", hint="ask for less with --memory"
        ) from error
    return wanted


def _try(module: str, engine: Callable[[Any], Engine]) -> Engine | str:
    """The engine, or why it cannot be had."""
    try:
        return engine(import_module(module))
    except ImportError as error:
        return f"{module}: {error}"
    except Exception as error:  # noqa: BLE001 - a library that cannot reach the GPU fails in many ways.
        return f"{module}: {type(error).__name__}: {error}"


def _torch(torch: Any) -> Engine:
    if not torch.cuda.is_available():
        raise ImportError("it is installed, but sees no CUDA device")
    return TorchEngine(torch)


def _cupy(cupy: Any) -> Engine:
    return CupyEngine(cupy)
