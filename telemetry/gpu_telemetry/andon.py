"""Andon: turns readings into alerts that fire once, last as long as their cause, and resolve once."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from gpu_telemetry.alerts import (
    CRITICAL,
    SEVERITIES,
    GpuAlert,
    GpuIdle,
    MemoryPressure,
    PowerLimit,
    Severities,
    ThermalThrottling,
)
from gpu_telemetry.hold import Hold
from gpu_telemetry.metrics import THERMAL_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gpu_telemetry.metrics import GpuMetrics

__all__ = [
    "AlertConfig",
    "AndonSystem",
    "GpuAlert",
    "GpuIdle",
    "MemoryPressure",
    "PowerLimit",
    "Severities",
    "ThermalThrottling",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlertConfig:
    """When to raise an alert and when to take it back.

    Attributes:
        thermal_threshold: °C, from which a GPU is too hot.
        memory_threshold: Percent of the memory in use, 0 to 100.
        power_threshold: Percent of the power limit drawn.
        idle_timeout_secs: Seconds without any work on a GPU that somebody holds.
        thermal_source: `auto` takes the driver's throttle reasons, and the temperature only where these
            cannot be read; `either` raises the alert on each of the two.
        idle_utilization: Percent up to which a GPU does nothing.
        thermal_hysteresis, memory_hysteresis, power_hysteresis: An alert is taken back only this far
            below its threshold (°C or percentage points).
        thermal_for_secs, memory_for_secs, power_for_secs: Seconds for which the condition must have been
            seen before it is an alert; 0 is at once.
        throttle_clear_secs: Seconds without a thermal throttle reason before such an alert is taken back:
            the driver sets and clears them many times a minute.
        severities: The table of severities.
    """

    thermal_threshold: float = 80
    memory_threshold: float = 90
    power_threshold: float = 95
    idle_timeout_secs: float = 300
    thermal_source: Literal["auto", "either"] = "auto"
    idle_utilization: float = 0
    thermal_hysteresis: float = 5
    memory_hysteresis: float = 5
    power_hysteresis: float = 5
    thermal_for_secs: float = 0
    memory_for_secs: float = 0
    power_for_secs: float = 0
    throttle_clear_secs: float = 30
    severities: Severities = field(default=SEVERITIES)


@dataclass(frozen=True)
class _Seen:
    """What one reading says of one kind of alert.

    `breach` and `clear` are None where the reading is unknown; both are False between the threshold and
    its hysteresis.
    """

    breach: bool | None = None
    clear: bool | None = None
    alert: GpuAlert | None = None
    for_secs: float = 0
    clear_secs: float = 0


class _Lamp:
    """The state of one kind of alert on one GPU."""

    def __init__(self) -> None:
        self.breach = Hold()
        self.clear = Hold()
        self.first_seen: datetime | None = None
        self.firing: GpuAlert | None = None

    def update(self, seen: _Seen, now: float, at: datetime) -> GpuAlert | None:
        """Takes one reading; returns the alert when it has just fired or just been resolved."""
        held = self.breach.update(seen.breach, now)
        cleared = self.clear.update(seen.clear, now)
        if seen.breach and seen.alert is not None:
            self.first_seen = self.first_seen or at
            if self.firing is None and held < seen.for_secs:
                return None
            return self._light(replace(seen.alert, started_at=self.first_seen), held)
        if seen.breach is False and self.firing is None:
            self.first_seen = None
        if seen.clear and self.firing is not None and cleared >= seen.clear_secs:
            over = replace(self.firing, resolved_at=at)
            self.firing = self.first_seen = None
            return over
        return None

    def _light(self, alert: GpuAlert, held: float) -> GpuAlert | None:
        fresh = self.firing is None
        self.firing = replace(alert, duration_secs=held) if isinstance(alert, GpuIdle) else alert
        return self.firing if fresh else None


class AndonSystem:
    """Watches readings and lights a lamp for what is wrong.

    A reading that is unknown neither raises an alert nor takes one back, and neither does a GPU that is
    missing from the readings. May be used from several threads.
    """

    def __init__(
        self, config: AlertConfig | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or AlertConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._lamps: dict[tuple[str, str], _Lamp] = {}
        self._on_alert: list[Callable[[GpuAlert], object]] = []
        self._on_resolved: list[Callable[[GpuAlert], object]] = []

    def on_alert(self, callback: Callable[[GpuAlert], object]) -> AndonSystem:
        """Calls `callback` once when an alert fires; what it raises is logged and goes no further."""
        self._on_alert.append(callback)
        return self

    def on_resolved(self, callback: Callable[[GpuAlert], object]) -> AndonSystem:
        """Calls `callback` once when an alert is over (`resolved_at` is set)."""
        self._on_resolved.append(callback)
        return self

    def check(self, metrics: Iterable[GpuMetrics], *, held: Collection[str] = ()) -> list[GpuAlert]:
        """Takes one sample; returns the alerts that have just fired.

        An alert that goes on is not returned again (see `active`), so that each can be sent where it is
        returned. `held` names the UUIDs of GPUs that an allocation holds; a GPU with a process is held anyway.
        """
        now, at = self._clock(), datetime.now(tz=timezone.utc)
        with self._lock:
            changed = [alert for gpu in metrics for alert in self._look(gpu, held, now, at)]
        fired = [alert for alert in changed if not alert.resolved]
        for alert in changed:
            for callback in self._on_resolved if alert.resolved else self._on_alert:
                _call(callback, alert)
        return fired

    @property
    def active(self) -> list[GpuAlert]:
        """The alerts that are firing, with their latest readings, by GPU and kind."""
        with self._lock:
            firing = [lamp.firing for lamp in self._lamps.values() if lamp.firing is not None]
        kinds = tuple(_RULES)
        return sorted(firing, key=lambda alert: (alert.device, alert.slot or "", kinds.index(type(alert))))

    def has_critical_alerts(self, severity: int = CRITICAL) -> bool:
        """Whether an alert of at least this severity is firing."""
        return any(alert.severity() >= severity for alert in self.active)

    def _look(self, gpu: GpuMetrics, held: Collection[str], now: float, at: datetime) -> list[GpuAlert]:
        config = self.config
        changed = []
        for kind, rule in _RULES.items():
            seen = rule(gpu, config, held)
            if seen.alert is not None:
                seen = replace(seen, alert=_of(gpu, seen.alert, config))
            lamp = self._lamps.setdefault((gpu.uuid, kind.kind), _Lamp())
            alert = lamp.update(seen, now, at)
            if alert is not None:
                changed.append(alert)
        return changed


def _of(gpu: GpuMetrics, alert: GpuAlert, config: AlertConfig) -> GpuAlert:
    return replace(alert, uuid=gpu.uuid, slot=gpu.slot, simulated=gpu.simulated, severities=config.severities)


def _thermal(gpu: GpuMetrics, config: AlertConfig, _held: Collection[str]) -> _Seen:
    temp, reasons = gpu.temperature_celsius, _thermal_reasons(gpu)
    by_reason = (None, None) if reasons is None else (bool(reasons), not reasons)
    by_temperature = _beyond(temp, config.thermal_threshold, config.thermal_hysteresis)
    breach, clear = by_temperature if reasons is None else by_reason
    # A card that never tells its reasons is judged by temperature; one that does not tell them now is unknown.
    if config.thermal_source == "either" and gpu.missing.get("throttle_mask") != "not_supported":
        breach = _either(by_reason[0], by_temperature[0])
        clear = _both(by_reason[1], by_temperature[1])
    return _Seen(
        breach,
        clear,
        ThermalThrottling(gpu.device_id, temp, config.thermal_threshold, reasons or ()),
        config.thermal_for_secs,
        0 if reasons is None else config.throttle_clear_secs,
    )


def _memory(gpu: GpuMetrics, config: AlertConfig, _held: Collection[str]) -> _Seen:
    percent = gpu.memory_percent()
    if percent is None:
        return _Seen()
    breach, clear = _beyond(percent, config.memory_threshold, config.memory_hysteresis)
    alert = MemoryPressure(gpu.device_id, percent, config.memory_threshold)
    return _Seen(breach, clear, alert, config.memory_for_secs)


def _power(gpu: GpuMetrics, config: AlertConfig, _held: Collection[str]) -> _Seen:
    percent = gpu.power_percent()
    if percent is None:
        return _Seen()
    breach, clear = _beyond(percent, config.power_threshold, config.power_hysteresis)
    alert = PowerLimit(gpu.device_id, percent, config.power_threshold)
    return _Seen(breach, clear, alert, config.power_for_secs)


def _idle(gpu: GpuMetrics, config: AlertConfig, held: Collection[str]) -> _Seen:
    load = gpu.utilization_percent
    rests = None if load is None else load <= config.idle_utilization
    in_use = True if gpu.uuid in held else None if gpu.processes is None else bool(gpu.processes)
    breach = _both(rests, in_use)
    return _Seen(
        breach, None if breach is None else not breach, GpuIdle(gpu.device_id, 0), config.idle_timeout_secs
    )


_RULES: Mapping[type[GpuAlert], Callable[[GpuMetrics, AlertConfig, Collection[str]], _Seen]] = {
    ThermalThrottling: _thermal,
    MemoryPressure: _memory,
    PowerLimit: _power,
    GpuIdle: _idle,
}


def _thermal_reasons(gpu: GpuMetrics) -> tuple[str, ...] | None:
    """The thermal throttle reasons that are active now; None where reasons cannot be read."""
    if gpu.throttle_reasons is None:
        return None
    return tuple(sorted(THERMAL_REASONS.intersection(gpu.throttle_reasons)))


def _beyond(value: float | None, threshold: float, hysteresis: float) -> tuple[bool | None, bool | None]:
    """Whether a value is at or above its threshold, and whether it is clearly below it."""
    if value is None:
        return None, None
    return value >= threshold, value < threshold - hysteresis


def _either(one: bool | None, other: bool | None) -> bool | None:
    """Three-valued or: an unknown does not hide what is known to hold."""
    if one or other:
        return True
    return None if one is None or other is None else False


def _both(one: bool | None, other: bool | None) -> bool | None:
    """Three-valued and: one that is known not to hold decides."""
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _call(callback: Callable[[GpuAlert], object], alert: GpuAlert) -> None:
    try:
        callback(alert)
    except Exception:
        log.exception("a callback of Andon failed on: %s", alert.message())
