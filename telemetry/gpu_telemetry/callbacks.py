"""Watches the GPUs during a training run, without being able to break it."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_telemetry.alertmanager import AlertmanagerPoster
from gpu_telemetry.alerts import CRITICAL, PowerLimit, ThermalThrottling
from gpu_telemetry.andon import AlertConfig, AndonSystem
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.monitor import GpuMonitor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from typing_extensions import Self

    from gpu_telemetry.alerts import GpuAlert
    from gpu_telemetry.metrics import GpuMetrics

log = logging.getLogger(__name__)

DEFAULT_INTERVAL_SECS = 10.0

STOP_SECONDS = 5.0
"""How long the end of a training waits for a reading that hangs in the driver."""


class GpuMonitorCallback:
    """Samples the visible GPUs in a thread of its own while a training runs, and tells what Andon sees.

    A plain context manager (`with GpuMonitorCallback().on_alert(print): …`); `lightning()`,
    `transformers()` and `keras()` give the callback object of a framework. Each `with_…` returns the
    callback itself. Sampling and callbacks run outside the training's thread, so a hang is seen as well;
    what they raise is logged and ends there. May be entered again after it was left.

    Args:
        monitor: Where the readings come from; every GPU that CUDA_VISIBLE_DEVICES leaves, by default.
        config: When to raise an alert.
    """

    def __init__(self, monitor: GpuMonitor | None = None, *, config: AlertConfig | None = None) -> None:
        self._monitor = monitor or GpuMonitor()
        self._interval = DEFAULT_INTERVAL_SECS
        self._config = config or AlertConfig()
        self._on_alert: list[Callable[[GpuAlert], object]] = []
        self._on_resolved: list[Callable[[GpuAlert], object]] = []
        self._on_sample: list[Callable[[list[GpuMetrics]], object]] = []
        self._pause: tuple[int, frozenset[str], float] | None = None
        self._poster: AlertmanagerPoster | None = None
        self._andon: AndonSystem | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._released = threading.Event()
        self._released.set()
        self._paused_for: set[tuple[str, str | None]] = set()
        self._failing = ""

    def with_interval_secs(self, seconds: float) -> Self:
        """Takes a sample every so many seconds (default 10). Raises ValueError unless it is above zero."""
        if not seconds > 0:
            raise ValueError(f"the interval must be above zero, not {seconds} s")
        self._interval = seconds
        return self

    def with_thermal_threshold(self, celsius: float) -> Self:
        """Raises a thermal alert from this temperature on, also where the driver does not throttle yet."""
        self._config = replace(self._config, thermal_threshold=celsius, thermal_source="either")
        return self

    def with_config(self, config: AlertConfig) -> Self:
        """Takes all thresholds from here."""
        self._config = config
        return self

    def on_alert(self, callback: Callable[[GpuAlert], object]) -> Self:
        """Calls `callback` once for each alert that fires."""
        self._on_alert.append(callback)
        return self

    def on_resolved(self, callback: Callable[[GpuAlert], object]) -> Self:
        """Calls `callback` once for each alert that is over."""
        self._on_resolved.append(callback)
        return self

    def on_sample(self, callback: Callable[[list[GpuMetrics]], object]) -> Self:
        """Calls `callback` with each sample, for example to log it."""
        self._on_sample.append(callback)
        return self

    def with_pause_on_critical(
        self,
        severity: int = CRITICAL,
        *,
        kinds: Collection[str] = (ThermalThrottling.kind, PowerLimit.kind),
        max_secs: float = 300,
    ) -> Self:
        """Holds the training between two batches while an alert of at least this severity fires.

        Each alert holds it once, for at most `max_secs` seconds. Only heat and power by default: waiting
        gives back no memory, and an idle GPU would only idle longer. A thermal alert has severity 80 at 30 °C
        above its threshold, 50 at the threshold.
        """
        self._pause = severity, frozenset(kinds), max_secs
        return self

    def with_alertmanager(self, url: str, *, password_file: str | Path | None = None, **options: Any) -> Self:
        """Posts the alerts to an Alertmanager; options and errors are those of `AlertmanagerPoster`."""
        self._poster = AlertmanagerPoster(url, password_file=password_file, **options)
        return self

    @property
    def andon(self) -> AndonSystem | None:
        """The alerts of the current or last run; None before the first."""
        return self._andon

    def start(self) -> None:
        """Begins to sample; nothing happens when it has begun already.

        Of several processes of one training on this host only the first (LOCAL_RANK 0) samples, so that
        an alert is told once.
        """
        if self._thread is not None or os.environ.get("LOCAL_RANK", "0") != "0":
            return
        self._stop.clear()
        self._paused_for.clear()
        andon = self._andon = AndonSystem(self._config)
        for alerted in self._on_alert:
            andon.on_alert(alerted)
        for resolved in self._on_resolved:
            andon.on_resolved(resolved)
        if self._poster is not None:
            self._poster.attach(andon)
        self._thread = threading.Thread(target=self._run, args=(andon,), name="gpu-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends sampling, and a pause."""
        self._stop.set()
        self._released.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)
        if self._poster is not None:
            self._poster.close()

    def pause_if_critical(self) -> float:
        """Blocks while the training is to pause; returns for how many seconds it did.

        The framework callbacks call it after each batch; a loop of your own may too.
        """
        if self._pause is None or self._released.is_set():
            return 0.0
        begun = time.monotonic()
        log.warning("the training pauses for at most %g s: %s", self._pause[2], self._reasons())
        if not self._released.wait(self._pause[2]):
            log.warning("the training goes on, although it has not got better")
            self._released.set()
        return time.monotonic() - begun

    def lightning(self) -> Any:
        """The callback for `Trainer(callbacks=[…])` of PyTorch Lightning.

        Raises TelemetryError when neither `lightning` nor `pytorch_lightning` is installed.
        """
        from gpu_telemetry import frameworks  # noqa: PLC0415 - only where it is used.

        return frameworks.lightning(self)

    def transformers(self) -> Any:
        """The callback for `trainer.add_callback(…)` of Hugging Face's Trainer.

        Raises TelemetryError when `transformers` is not installed.
        """
        from gpu_telemetry import frameworks  # noqa: PLC0415 - only where it is used.

        return frameworks.transformers(self)

    def keras(self) -> Any:
        """The callback for `model.fit(callbacks=[…])` of Keras.

        Raises TelemetryError when `keras` is not installed.
        """
        from gpu_telemetry import frameworks  # noqa: PLC0415 - only where it is used.

        return frameworks.keras(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, andon: AndonSystem) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                self._look(andon)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the training goes on.
                self._complain(error)
            due = max(due + self._interval, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _look(self, andon: AndonSystem) -> None:
        metrics = self._monitor.collect_metrics()
        andon.check(metrics, held={gpu.uuid for gpu in metrics} if _are_ours() else ())
        self._hold_or_release(andon)
        for callback in self._on_sample:
            callback(metrics)
        self._failing = ""

    def _complain(self, error: Exception) -> None:
        """Says the same thing once, not at every interval."""
        if str(error) == self._failing:
            return
        self._failing = str(error)
        unexpected = None if isinstance(error, BackendUnavailable) else error
        log.warning("the GPUs are not watched now: %s", error, exc_info=unexpected)

    def _hold_or_release(self, andon: AndonSystem) -> None:
        if self._pause is None:
            return
        severity, kinds, _ = self._pause
        bad = {
            (alert.kind, alert.uuid)
            for alert in andon.active
            if alert.kind in kinds and alert.severity() >= severity
        }
        if not bad:
            self._paused_for.clear()
            self._released.set()
        elif bad - self._paused_for:
            self._released.clear()
        self._paused_for |= bad

    def _reasons(self) -> str:
        return "; ".join(alert.message() for alert in (self._andon.active if self._andon else ()))


def _are_ours() -> bool:
    """Whether the visible GPUs were given to this training, so that an idle one is its own.

    A container often cannot see its own processes on the GPU, so the processes alone do not tell.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return True
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "all") not in {"", "all", "none", "void"}
