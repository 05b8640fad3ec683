"""The labels of the simulated containers, in the spellings that real launchers use.

The allocator's own command writes `ds01.gpu.slots` and `ds01.gpu.uuids`; the wrapper around `docker run` writes
`ds01.gpu_slot`, which holds a UUID in spite of its name; what was started past both has only its own labels.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from .happenings import utc

if TYPE_CHECKING:
    from .clock import Clock
    from .jobs import Job
    from .world import World

_WRAPPED = {"docker", "devcontainer", "jupyter"}


def labels(world: World, job: Job, clock: Clock) -> dict[str, str]:
    """The container's labels."""
    kind = job.seat.kind
    if kind in {"orchestration", "atomic"}:
        return _allocator(world, job, clock)
    if kind in _WRAPPED:
        return _wrapper(world, job, clock)
    return {
        "unmanaged": {
            "com.docker.compose.project": job.seat.container,
            "com.docker.compose.project.working_dir": f"/home/{job.seat.user}/{job.seat.container}",
            "com.docker.compose.service": "app",
        },
        "plain": {"maintainer": "web team"},
        "monitoring": {
            "ds01.monitoring": "true",
            "ds01.component": job.seat.container,
            "ds01.owner": "system",
            "ds01.container_type": "infrastructure",
            "ds01.protected": "true",
        },
    }[kind]


def _allocator(world: World, job: Job, clock: Clock) -> dict[str, str]:
    slot = world.slots[job.seat.slot]
    created = utc(clock.to_wall(job.created))
    found = {
        "ds01.managed": "true",
        "ds01.user": job.seat.user,
        "ds01.user.sanitized": job.seat.user,
        "ds01.created_at": created,
        "ds01.gpu.allocated": slot.name,
        "ds01.gpu.allocated_at": created,
        "ds01.gpu.slots": slot.name,
        "ds01.gpu.uuids": slot.uuid,
        "ds01.gpu.mig_equiv": "4" if slot.whole else "1",
        "ds01.gpu.priority": "50",
        "aime.mlc.USER": job.seat.user,
        "aime.mlc.NAME": job.seat.container,
        "aime.mlc.DS01_MANAGED": "true",
    }
    if job.seat.kind == "orchestration":
        found["ds01.interface"] = "orchestration"
    return found


def _wrapper(world: World, job: Job, clock: Clock) -> dict[str, str]:
    found = {
        "ds01.user": job.seat.user,
        "ds01.managed": "true",
        "ds01.container_type": job.seat.kind,
        "ds01.created_at": _local_with_offset(clock.to_wall(job.created)),
    }
    if job.seat.slot:
        found |= {"ds01.gpu_slot": world.slots[job.seat.slot].uuid, "ds01.gpu_ephemeral": "true"}
    if job.seat.kind == "devcontainer":
        found["devcontainer.local_folder"] = f"/home/{job.seat.user}/thesis"
    return found


def _local_with_offset(wall: float) -> str:
    return datetime.fromtimestamp(wall).astimezone().isoformat(timespec="seconds")
