"""Who does what on the simulated server: the cast of each profile, as a timetable of containers.

Six people. Alice trains on a whole card (its cooling fails now and then in the lively profile), Bea and
Carlos share another one, Dmitri parks a notebook on a slice, Elif holds one that does next to nothing,
Fatima started a container past the allocator. In the healthy profile the same people all work.

Every cycle divides a day, so that a day's readings repeat while containers get new identities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .hardware import MIXED, WHOLE, Gpu
from .load import DAY, Load

HOUR = 3600
MINUTE = 60


@dataclass(frozen=True)
class Seat:
    """A container that comes back every `cycle` seconds (a divisor of a day), `offset` after midnight UTC.

    It runs for `run` seconds, then stays stopped for `hold` seconds in which it keeps its slot, then is removed.
    `kind` is orchestration, atomic, docker, devcontainer, jupyter, unmanaged, plain or monitoring.
    `slot` is the slot that it uses, empty for none; an unmanaged container uses it without holding it.
    Limits of 0 mean unlimited.
    """

    container: str
    user: str
    uid: int
    kind: str
    slot: str
    image: str
    load: Load
    cycle: int
    offset: int
    run: int
    hold: int = 0
    memory_limit_mib: int = 0
    cpu_limit: float = 0.0

    @property
    def managed(self) -> bool:
        """Whether the allocator knows the container."""
        return self.kind not in {"unmanaged", "plain", "monitoring"}

    @property
    def holds_slot(self) -> bool:
        """Whether the container holds its slot in the allocator's books."""
        return self.managed and bool(self.slot)


@dataclass(frozen=True)
class Profile:
    """A server and what happens on it.

    `hot` are (GPU, first second of the day, length, factor of thermal resistance);
    `xids` are (GPU, second of the day, XID code).
    """

    name: str
    gpus: tuple[Gpu, ...]
    seats: tuple[Seat, ...]
    hot: tuple[tuple[int, int, int, float], ...] = ()
    xids: tuple[tuple[int, int, int], ...] = ()


_TORCH = "registry.demo.example/pytorch:2.5-cuda12.4"
_JUPYTER = "registry.demo.example/jupyter-gpu:2024.11"

_TRAIN_BIG = Load("train", 0.96, 35200, tensor=0.55, dram=0.6, cores=7, host_mib=42000, cache_mib=14000)
_TRAIN_HALF = Load("train", 0.55, 17400, tensor=0.4, dram=0.45, cores=4, host_mib=21000, cache_mib=6000)
_SERVE = Load("serve", 0.22, 9800, tensor=0.35, dram=0.4, cores=2, host_mib=9000)
_FINETUNE = Load("train", 0.82, 16900, tensor=0.5, dram=0.55, cores=3, host_mib=18000, cache_mib=5000)
_SMALL = Load("train", 0.7, 3900, tensor=0.3, dram=0.35, cores=2, host_mib=6000)
_NOTEBOOK = Load("notebook", 0.5, 6100, tensor=0.2, dram=0.3, cores=1.5, host_mib=5200)
_PREPARE = Load("none", cores=6, host_mib=7000, cache_mib=21000)
_IDLE_SERVICE = Load("none", cores=0.05, host_mib=260, cache_mib=90)

_TRAINER = Seat(
    "vit-large._.1001",
    "alice",
    1001,
    "orchestration",
    "0",
    _TORCH,
    _TRAIN_BIG,
    6 * HOUR,
    0,
    345 * MINUTE,
    2 * MINUTE,
    65536,
    16,
)
_CAST = (
    _TRAINER,
    Seat("llm-eval._.1002", "bea", 1002, "atomic", "1", _TORCH, _TRAIN_HALF, 12 * HOUR, 2 * HOUR, 11 * HOUR + 40 * MINUTE, 8 * MINUTE, 49152, 12),
    Seat("asr-api", "carlos", 1003, "docker", "1", "registry.demo.example/asr-api:1.8", _SERVE, 8 * HOUR, 5 * HOUR, 7 * HOUR + 48 * MINUTE, 5 * MINUTE, 16384, 4),
    Seat("rag-bench._.1002", "bea", 1002, "atomic", "2.2", _TORCH, _SMALL, HOUR, 5 * MINUTE, 42 * MINUTE, 7 * MINUTE, 16384, 4),
    Seat("debug._.1001", "alice", 1001, "atomic", "2.3", _TORCH, replace(_SMALL, level=0.45, memory_mib=2600), 30 * MINUTE, 0, 17 * MINUTE, 4 * MINUTE, 16384, 4),
    Seat("finetune._.1003", "carlos", 1003, "atomic", "3.0", _TORCH, _FINETUNE, 4 * HOUR, HOUR, 225 * MINUTE, 9 * MINUTE, 32768, 8),
    Seat("vscode-elif-thesis", "elif", 1005, "devcontainer", "3.1", _TORCH, _NOTEBOOK, 8 * HOUR, 6 * HOUR, 450 * MINUTE, 15 * MINUTE, 16384, 4),
    Seat("prepare-corpus", "bea", 1002, "docker", "", "python:3.12-slim", _PREPARE, 2 * HOUR, 20 * MINUTE, 96 * MINUTE, 3 * MINUTE, 32768, 8),
    Seat("project-wiki", "carlos", 1003, "plain", "", "nginx:1.27", _IDLE_SERVICE, DAY, 3 * HOUR, DAY - MINUTE),
    Seat("ds01-log-shipper", "root", 0, "monitoring", "", "registry.demo.example/log-shipper:2", _IDLE_SERVICE, DAY, 4 * HOUR, DAY - MINUTE),
)  # fmt: skip

_NOTEBOOK_SEAT = Seat("jupyter-dmitri", "dmitri", 1004, "jupyter", "2.1", _JUPYTER, replace(_NOTEBOOK, memory_mib=4100), DAY, 4 * HOUR, 23 * HOUR + 30 * MINUTE, 10 * MINUTE, 16384, 4)  # fmt: skip
_SWEEP_SEAT = Seat("sweep._.1005", "elif", 1005, "atomic", "2.0", _TORCH, replace(_SMALL, memory_mib=7600), 12 * HOUR, 9 * HOUR, 690 * MINUTE, 10 * MINUTE, 24576, 6)  # fmt: skip
_OUTSIDER_SEAT = Seat("sd-webui", "fatima", 1006, "atomic", "3.2", "registry.demo.example/sd-webui:1.10", replace(_SMALL, level=0.6), 3 * HOUR, 40 * MINUTE, 155 * MINUTE, 5 * MINUTE, 16384, 4)  # fmt: skip

HEALTHY = Profile("healthy", MIXED, (*_CAST, _NOTEBOOK_SEAT, _SWEEP_SEAT, _OUTSIDER_SEAT))
LIVELY = Profile(
    "lively",
    MIXED,
    (
        *_CAST,
        replace(_NOTEBOOK_SEAT, load=Load("parked", memory_mib=4100, cores=0.5, host_mib=3800)),
        replace(_SWEEP_SEAT, load=Load("blip", 0.08, 480, cores=0.5, host_mib=2100)),
        replace(_OUTSIDER_SEAT, kind="unmanaged", hold=0, memory_limit_mib=0, cpu_limit=0),
    ),
    # Every hour and a half the fans of card 0 slow down, and every third time they almost stand still.
    hot=tuple(
        (0, n * 90 * MINUTE + 30 * MINUTE, 24 * MINUTE, 1.40 if n % 3 == 1 else 1.27) for n in range(16)
    ),
    xids=tuple((3, n * 4 * HOUR + 83 * MINUTE, 43 if n % 2 else 31) for n in range(6)),
)


def _without_mig(seat: Seat) -> Seat:
    cards = {"2.1": "2", "2.2": "2", "2.0": "3", "3.0": "3"}
    return replace(seat, slot=cards[seat.slot] if "." in seat.slot else seat.slot)


WHOLE_CARDS = Profile(
    "whole", WHOLE, tuple(_without_mig(seat) for seat in LIVELY.seats if seat.slot not in {"2.2", "2.3", "3.0", "3.1", "3.2"}), LIVELY.hot
)  # fmt: skip

PROFILES = {profile.name: profile for profile in (LIVELY, HEALTHY, WHOLE_CARDS)}
