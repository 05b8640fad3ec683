"""How a job loads its GPU over its life: batches and epochs, bursts of requests, a person who thinks.

Every figure is a function of the job's age and of smooth noise that repeats after a day, so that the
same moment always gives the same value.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

DAY = 86_400

_WARM_UP = 90  # s until the first batch: imports, data loading, compilation.
_EPOCH = 540
_VALIDATION = 60
_CHECKPOINT = 24
_THINKING = 840  # s of one round of work and reflection in a notebook.
_BLIP_EVERY = 1500
_BLIP = 30


class Noise:
    """A smooth random line between -1 and 1 that repeats after a day; `scale` seconds from knot to knot."""

    def __init__(self, seed: str, scale: int) -> None:
        self._scale = scale
        generator = random.Random(seed)
        self._knots = [generator.uniform(-1, 1) for _ in range(DAY // scale)]

    def at(self, time: int) -> float:
        """The value at `time` (s since the epoch)."""
        knot, rest = divmod(time % DAY, self._scale)
        left, right = self._knots[knot], self._knots[(knot + 1) % len(self._knots)]
        return left + (right - left) * rest / self._scale


@dataclass(frozen=True)
class Load:
    """What a job does with its GPU and its host.

    `shape` is train, serve, notebook, parked, blip or none; `level` the utilisation while it works (0 to 1);
    `memory_mib` the GPU memory it settles at; `tensor` and `dram` are shares of the utilisation;
    `cores` are host cores at full work, `host_mib` resident memory, `cache_mib` file cache that it ends up with.
    """

    shape: str
    level: float = 0.0
    memory_mib: int = 0
    tensor: float = 0.45
    dram: float = 0.5
    cores: float = 2.0
    host_mib: int = 4096
    cache_mib: int = 1024

    def utilization(self, age: float, jitter: float, drift: float) -> float:
        """Demand for the slot at `age` seconds, 0 to 1; `jitter` (per batch) and `drift` (slow) are -1 to 1."""
        if self.shape == "train":
            return _train(age, self.level) * (1 + 0.05 * jitter)
        if self.shape == "serve":
            return max(0.02, self.level * (1 + 0.5 * drift + 0.25 * jitter))
        if self.shape == "notebook":
            return _notebook(age, self.level) * (1 + 0.2 * jitter)
        if self.shape == "blip":
            return self.level if age % _BLIP_EVERY >= _BLIP_EVERY - _BLIP else 0.0
        return 0.0

    def memory(self, age: float, drift: float) -> float:
        """GPU memory at `age` seconds, in MiB: allocated while warming up, then almost still."""
        still = self.shape in {"parked", "blip"}
        return self.memory_mib * min(1.0, age / 120) * (1 if still else 1 + 0.02 * drift)

    def cpu(self, utilization: float) -> float:
        """Host cores in use while the slot is used at `utilization`."""
        if self.shape == "none":
            return self.cores
        return 0.02 + self.cores * utilization

    def resident_mib(self, age: float) -> float:
        """Resident host memory at `age` seconds, in MiB."""
        return 180 + (self.host_mib - 180) * min(1.0, age / 300)

    def cached_mib(self, age: float) -> float:
        """Inactive file cache at `age` seconds, in MiB: what was read once and not again."""
        return self.cache_mib * min(1.0, age / 1800)


def _train(age: float, level: float) -> float:
    if age < _WARM_UP:
        return min(level, 0.02 + 0.04 * age / _WARM_UP)
    left = _EPOCH - (age - _WARM_UP) % _EPOCH
    if left <= _CHECKPOINT:
        return 0.1 * level
    return level * (0.6 if left <= _CHECKPOINT + _VALIDATION else 1.0)


def _notebook(age: float, level: float) -> float:
    return level if 60 <= age % _THINKING < 60 + _THINKING // 2 else 0.0
