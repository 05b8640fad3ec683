"""A monitor that a hanging driver cannot hold up: it is asked in a thread of its own, for a limited time."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.metrics import Sample
from gpu_telemetry.monitor import GpuMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_telemetry.backends import Backend
    from gpu_telemetry.host import HostReader

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long a sample may take; cards without persistence mode take seconds to wake up."""

CLOSE_SECONDS = 2.0


class PatientMonitor(GpuMonitor):
    """A `GpuMonitor` for programs that must hear signals and end, whatever the driver does.

    Python runs no signal handler while its main thread is inside the driver's library. So that thread only waits
    here, and a sample that takes too long has the error `timeout`; so have all after it, at once, until the call comes
    back. A call that never does is left behind when the program ends.

    Args:
        backend: See `GpuMonitor`.
        environ: See `GpuMonitor`.
        host: See `GpuMonitor`.
        patience_seconds: How long a sample may take.
    """

    def __init__(
        self,
        backend: Backend | str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        host: HostReader | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(backend, environ=environ, host=host)
        self._patience_seconds = patience_seconds
        self._asked: SimpleQueue[Callable[[], Sample | None]] = SimpleQueue()
        self._answers: SimpleQueue[Sample | Exception | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._owed_since: float | None = None

    def sample(self) -> Sample:
        """See `GpuMonitor.sample`; `error` is `timeout` where the driver has not answered in time."""
        answer = self._ask(super().sample, self._patience_seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer or self._late()

    def close(self) -> None:
        """Let go of the driver, unless it hangs."""
        self._ask(super().close, CLOSE_SECONDS)
        if self._owed_since is not None:
            log.warning("the driver does not answer; it is left as it is")

    def _ask(self, question: Callable[[], Sample | None], seconds: float) -> Sample | Exception | None:
        if self._owed_since is not None:
            try:
                self._answers.get_nowait()  # Too late to be shown as the present.
            except Empty:
                return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="gpu-telemetry-driver", daemon=True)
            self._thread.start()
        self._owed_since = time.monotonic()
        self._asked.put(question)
        try:
            answer = self._answers.get(timeout=seconds)
        except Empty:
            return None
        self._owed_since = None
        return answer

    def _work(self) -> None:
        while True:
            question = self._asked.get()
            try:
                self._answers.put(question())
            except Exception as error:  # noqa: BLE001 - it is raised where the question was asked.
                self._answers.put(error)

    def _late(self) -> Sample:
        waited = time.monotonic() - (self._owed_since or time.monotonic())
        return Sample(
            timestamp=time.time(),
            monotonic=time.monotonic(),
            gpus=(),
            host=None,
            backend=self.backend_name,
            simulated=self.simulated,
            driver_version=None,
            error=BackendUnavailable(
                f"the driver has not answered for {waited:.0f} s",
                reason="timeout",
                hint="look for XID errors in the kernel log: dmesg | grep NVRM",
            ),
        )
