"""What Andon can say about a GPU: the four kinds of alert, their wording, and their severities as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

CRITICAL = 80
"""From this severity on an alert counts as critical."""

Steps = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Severities:
    """The severity of each kind of alert, 0 to 100.

    Steps are (value, severity), highest value first; the first step that is reached decides.
    The figures are those of entrenar's GPU monitor (src/monitor/gpu/alert/types.rs).

    Attributes:
        thermal_base: At the threshold; one more for each °C above it ...
        thermal_span: ... up to this many more.
        memory: From so many percent of the memory.
        power: From so many percent of the power limit.
        idle: Above so many seconds.
    """

    thermal_base: int = 50
    thermal_span: int = 50
    memory: Steps = ((99, 100), (95, 80), (0, 60))
    power: Steps = ((100, 70), (0, 50))
    idle: Steps = ((60, 90), (30, 70), (0, 40))


SEVERITIES = Severities()


@dataclass(frozen=True)
class GpuAlert:
    """One condition of one GPU; the kinds are its subclasses.

    Attributes:
        device: Index of the GPU.
        slot: "0" for a whole GPU, "0.1" for a MIG device; None for an alert made by hand.
        uuid: UUID of the GPU or MIG device, where known.
        started_at: When the condition was first seen, UTC; None for an alert made by hand.
        resolved_at: When it was seen to be over, UTC; None while it lasts.
        simulated: True where the readings are simulated.
        severities: The table that `severity()` reads.
    """

    device: int
    slot: str | None = field(default=None, kw_only=True)
    uuid: str | None = field(default=None, kw_only=True)
    started_at: datetime | None = field(default=None, kw_only=True)
    resolved_at: datetime | None = field(default=None, kw_only=True)
    simulated: bool = field(default=False, kw_only=True)
    severities: Severities = field(default=SEVERITIES, kw_only=True, repr=False)

    kind: ClassVar[str] = "GpuAlert"

    @property
    def resolved(self) -> bool:
        """Whether the condition is over."""
        return self.resolved_at is not None

    @property
    def where(self) -> str:
        """The GPU or MIG device in words."""
        return f"GPU {self.device if self.slot is None else self.slot}"

    def severity(self) -> int:
        """How bad it is, 0 to 100; from 80 on it is critical."""
        raise NotImplementedError

    def message(self) -> str:
        """One line for a person."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The alert as JSON values, tagged by its kind: `{"PowerLimit": {"device": 0, …}}`."""
        values = {
            key: value for key, value in asdict(self).items() if key != "severities" and value is not None
        }
        for key in ("started_at", "resolved_at"):
            if key in values:
                values[key] = values[key].isoformat().replace("+00:00", "Z")
        return {self.kind: values | {"severity": self.severity()}}


@dataclass(frozen=True)
class ThermalThrottling(GpuAlert):
    """The GPU slows itself down for its temperature or, where that cannot be read, is too hot.

    Attributes:
        temp: Temperature in °C; None where it cannot be read.
        threshold: In °C.
        reasons: The driver's thermal throttle reasons that are active; empty if temperature decided.
    """

    temp: float | None
    threshold: float
    reasons: tuple[str, ...] = ()

    kind: ClassVar[str] = "ThermalThrottling"

    def severity(self) -> int:
        """50, and one more per °C above the threshold, at most 100."""
        above = max(math.floor((self.temp or 0) - self.threshold), 0)
        return self.severities.thermal_base + min(above, self.severities.thermal_span)

    def message(self) -> str:
        """Why it is said to throttle."""
        if not self.reasons:
            return f"{self.where} thermal throttling: {self.temp:g}°C exceeds {self.threshold:g}°C threshold"
        at = "" if self.temp is None else f" at {self.temp:g}°C"
        return f"{self.where} thermal throttling{at}: the driver reports {', '.join(self.reasons)}"


@dataclass(frozen=True)
class MemoryPressure(GpuAlert):
    """The GPU's memory is nearly full; both figures are percent, 0 to 100."""

    used_percent: float
    threshold: float

    kind: ClassVar[str] = "MemoryPressure"

    def severity(self) -> int:
        """100 from 99 %, 80 from 95 %, else 60."""
        return _reached(self.severities.memory, self.used_percent)

    def message(self) -> str:
        """How full it is, rounded down."""
        used = math.floor(self.used_percent)
        return f"{self.where} memory pressure: {used}% exceeds {self.threshold:g}% threshold"


@dataclass(frozen=True)
class PowerLimit(GpuAlert):
    """The GPU draws nearly as much as it may; both figures are percent of its power limit."""

    power_percent: float
    threshold: float

    kind: ClassVar[str] = "PowerLimit"

    def severity(self) -> int:
        """70 from 100 %, else 50."""
        return _reached(self.severities.power, self.power_percent)

    def message(self) -> str:
        """How near the limit it is, rounded down."""
        drawn = math.floor(self.power_percent)
        return f"{self.where} power limit: {drawn}% exceeds {self.threshold:g}% threshold"


@dataclass(frozen=True)
class GpuIdle(GpuAlert):
    """Somebody holds the GPU and nothing runs on it, for `duration_secs` seconds."""

    duration_secs: float

    kind: ClassVar[str] = "GpuIdle"

    def severity(self) -> int:
        """90 above a minute, 70 above half a minute, else 40."""
        # Steps are inclusive; a duration must be past its step, by however little.
        return _reached(self.severities.idle, math.nextafter(self.duration_secs, -math.inf))

    def message(self) -> str:
        """For how long, in whole seconds."""
        return f"{self.where} idle for {math.floor(self.duration_secs)} seconds (possible hang)"


def _reached(steps: Sequence[tuple[float, int]], value: float) -> int:
    """The severity of the first step reached; of the last one below them all."""
    return next((severity for least, severity in steps if value >= least), steps[-1][1])
