"""The files that a real server has: the allocator's books, its event log, the topology and the cgroup tree.

Below the demo's directory:
  state/gpu-state.json, state/container-metadata/<container>.json   the allocator's directory (DS01_STATE_DIR)
  log/events.jsonl                                                  DS01_EVENTS_FILE
  topology.json                                                     DS01_TOPOLOGY
  cgroup/                                                           DS01_CGROUP_ROOT (version 2, systemd driver)
  docker.sock                                                       DOCKER_HOST=unix://...
  mailbox/                                                          where the mail sink stores what it gets
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from .cgroups import CgroupTree
from .errors import DemoError
from .happenings import LOG_REACHES_BACK, local, log_lines
from .hardware import topology

if TYPE_CHECKING:
    from pathlib import Path

    from .clock import Clock
    from .jobs import Job
    from .world import World

_MARKER = ".ds01-demo"


class Layout:
    """Where everything lies below one directory. `claim` makes the directory ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.state_file = self.state / "gpu-state.json"
        self.metadata = self.state / "container-metadata"
        self.events = root / "log" / "events.jsonl"
        self.topology = root / "topology.json"
        self.cgroup = root / "cgroup"
        self.socket = root / "docker.sock"
        self.mailbox = root / "mailbox"

    def claim(self) -> None:
        """Make the directory and clear what an earlier demo left; mail is kept.

        Raises DemoError for a directory that holds something else.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        marker = self.root / _MARKER
        if not marker.exists() and any(self.root.iterdir()):
            raise DemoError(
                f"{self.root}: not empty, and not made by ds01-demo", hint="give an empty directory to --dir"
            )
        marker.touch()
        for tree in (self.state, self.events.parent, self.cgroup):
            shutil.rmtree(tree, ignore_errors=True)
        for folder in (self.metadata, self.events.parent, self.cgroup, self.mailbox):
            folder.mkdir(parents=True, exist_ok=True)


class Files:
    """Keeps the files of one world up to date: `begin` once, then `follow` from time to time."""

    def __init__(self, layout: Layout, world: World, clock: Clock) -> None:
        self._layout = layout
        self._world = world
        self._clock = clock
        self._cgroups = CgroupTree(layout.cgroup, world, clock)
        self._seen = 0.0

    def begin(self, time: float) -> None:
        """Write everything as it stands at `time` (world time), with the log of the past day."""
        replace(self._layout.topology, json.dumps(topology(self._world.gpus), indent=2) + "\n")
        lines = log_lines(self._world.profile, time - LOG_REACHES_BACK, time, self._clock)
        replace(self._layout.events, "".join(f"{line.text}\n" for line in lines))
        self._seen = time
        self._write_books(time)
        # The books were last written when something last happened to a GPU, not when the demo began.
        last = max(line.time for line in lines if line.gpu)
        os.utime(self._layout.state_file, (last, last))
        self._cgroups.update(time)

    def follow(self, time: float) -> None:
        """Bring everything from the last call to `time` (world time)."""
        lines = log_lines(self._world.profile, self._seen, time, self._clock)
        self._seen = max(self._seen, time)
        if any(line.gpu for line in lines):
            self._write_books(time)
        self._write_metadata(time)
        if lines:
            with self._layout.events.open("a", encoding="utf-8") as log:
                log.writelines(f"{line.text}\n" for line in lines)
        self._cgroups.update(time)

    def _write_books(self, time: float) -> None:
        replace(self._layout.state_file, json.dumps(books(self._world, time), indent=2))
        self._write_metadata(time)

    def _write_metadata(self, time: float) -> None:
        wanted = {
            f"{job.seat.container}.json": json.dumps(metadata(job, time, self._clock), indent=2)
            for job in self._world.jobs(time)
            if job.seat.holds_slot
        }
        for path in self._layout.metadata.glob("*.json"):
            if path.name not in wanted:
                path.unlink()
        for name, text in wanted.items():
            path = self._layout.metadata / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                replace(path, text)


def books(world: World, time: float) -> dict[str, object]:
    """gpu-state.json at `time`, in the form that the real allocator wrote: names of containers, counts of users."""
    gpus = {name: _entry(world, name, jobs) for name, jobs in world.holders(time).items()}
    return {
        "gpus": gpus,
        "mig_enabled": any(gpu.instances for gpu in world.gpus),
        "allocation_strategy": "least_allocated",
    }


def _entry(world: World, name: str, jobs: list[Job]) -> dict[str, object]:
    slot = world.slots[name]
    users = [job.seat.user for job in jobs]
    identity: dict[str, object] = {"type": "physical_gpu"}
    if not slot.whole:
        identity = {
            "type": "mig_instance",
            "physical_gpu": str(slot.gpu),
            "device_id": str(slot.device_index),
            "uuid": slot.uuid,
            "profile": slot.profile,
            "docker_id": slot.uuid,
        }
    return identity | {
        "containers": [job.seat.container for job in jobs],
        "users": {user: users.count(user) for user in users},
        "reserved_until": None,
        "reserved_for": None,
    }


def metadata(job: Job, time: float, clock: Clock) -> dict[str, object]:
    """container-metadata/<container>.json; `stopped_at` appears when the container stops."""
    entry: dict[str, object] = {
        "container": job.seat.container,
        "user": job.seat.user,
        "gpu_id": job.seat.slot,
        "priority": 50,
        "allocated_at": local(clock.to_wall(job.created)),
    }
    if time >= job.stopped:
        entry["stopped_at"] = local(clock.to_wall(job.stopped))
    return entry


def replace(path: Path, text: str) -> None:
    """Write `path` so that a reader sees the old or the new content, never half of it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
