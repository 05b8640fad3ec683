"""The JSON bodies of a Docker Engine's answers: field names and kinds of API 1.47."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .cgroups import parent_slice
from .docker_labels import labels
from .hardware import MIB

if TYPE_CHECKING:
    from .clock import Clock
    from .happenings import Transition
    from .jobs import Job
    from .world import World

API_VERSION = "1.47"
OLDEST_API_VERSION = "1.24"
ACTIONS = {"created": "create", "started": "start", "stopped": "die", "removed": "destroy"}
"""A transition's name in the Engine's events."""

_ENGINE_VERSION = "27.3.1"
_NEVER = "0001-01-01T00:00:00Z"


class Bodies:
    """The bodies about one world. Every `time` is world time; what they show is wall time."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def event(self, one: Transition) -> dict[str, object]:
        """One line of GET /events."""
        wall = self._clock.to_wall(one.time)
        attributes = labels(self._world, one.job, self._clock) | {
            "image": one.job.seat.image,
            "name": one.job.seat.container,
        }
        if one.what == "stopped":
            attributes["exitCode"] = "0"
        return {
            "status": ACTIONS[one.what],
            "id": one.job.id,
            "from": one.job.seat.image,
            "Type": "container",
            "Action": ACTIONS[one.what],
            "Actor": {"ID": one.job.id, "Attributes": attributes},
            "scope": "local",
            "time": int(wall),
            "timeNano": int(wall * 1_000_000_000),
        }

    def list_entry(self, job: Job, time: float) -> dict[str, object]:
        """One element of GET /containers/json."""
        return {
            "Id": job.id,
            "Names": [f"/{job.seat.container}"],
            "Image": job.seat.image,
            "ImageID": job.image_id,
            "Command": "/opt/entrypoint.sh",
            "Created": int(self._clock.to_wall(job.created)),
            "Ports": [],
            "Labels": labels(self._world, job, self._clock),
            "State": state(job, time),
            "Status": self._status(job, time),
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {}},
            "Mounts": [],
        }

    def _status(self, job: Job, time: float) -> str:
        if time < job.started:
            return "Created"
        since = self._clock.to_wall(job.started if job.running(time) else job.stopped)
        ago = _span(self._clock.to_wall(time) - since)
        return f"Up {ago}" if job.running(time) else f"Exited (0) {ago} ago"

    def inspect(self, job: Job, time: float) -> dict[str, object]:
        """The body of GET /containers/{id}/json."""
        now = state(job, time)
        return {
            "Id": job.id,
            "Created": self._moment(job.created),
            "Path": "/opt/entrypoint.sh",
            "Args": [],
            "State": {
                "Status": now,
                "Running": now == "running",
                "Paused": False,
                "Restarting": False,
                "OOMKilled": False,
                "Dead": False,
                "Pid": job.pid if now == "running" else 0,
                "ExitCode": 0,
                "Error": "",
                "StartedAt": self._moment(job.started) if time >= job.started else _NEVER,
                "FinishedAt": self._moment(job.stopped) if time >= job.stopped else _NEVER,
            },
            "Image": job.image_id,
            "Name": f"/{job.seat.container}",
            "RestartCount": 0,
            "Driver": "overlay2",
            "Platform": "linux",
            "HostConfig": self._host_config(job),
            "Mounts": [],
            "Config": {
                "Hostname": job.id[:12],
                "User": "" if job.seat.kind in {"plain", "monitoring"} else str(job.seat.uid),
                "Env": [],
                "Image": job.seat.image,
                "Labels": labels(self._world, job, self._clock),
            },
            "NetworkSettings": {"Networks": {}},
        }

    def _host_config(self, job: Job) -> dict[str, object]:
        devices = None
        if job.seat.slot:
            devices = [
                {
                    "Driver": "",
                    "Count": 0,
                    "DeviceIDs": [self._world.slots[job.seat.slot].uuid],
                    "Capabilities": [["gpu"]],
                    "Options": {},
                }
            ]
        return {
            "NetworkMode": "bridge",
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "Runtime": "runc",
            "Memory": job.seat.memory_limit_mib * MIB,
            "NanoCpus": int(job.seat.cpu_limit * 1_000_000_000),
            "CgroupParent": parent_slice(job),
            "CgroupnsMode": "private",
            "DeviceRequests": devices,
        }

    def _moment(self, world: float) -> str:
        moment = datetime.fromtimestamp(self._clock.to_wall(world), timezone.utc)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")

    def info(self, time: float) -> dict[str, object]:
        """The body of GET /info."""
        jobs = self._world.jobs(time)
        running = sum(job.running(time) for job in jobs)
        return {
            "ID": "ds01-demo",
            "Containers": len(jobs),
            "ContainersRunning": running,
            "ContainersPaused": 0,
            "ContainersStopped": len(jobs) - running,
            "Images": len({job.seat.image for job in jobs}),
            "Driver": "overlay2",
            "CgroupDriver": "systemd",
            "CgroupVersion": "2",
            "KernelVersion": "6.1.0-27-amd64",
            "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
            "OSType": "linux",
            "Architecture": "x86_64",
            "NCPU": 32,
            "MemTotal": 512 * 1024 * MIB,
            "Name": "gpu-demo",
            "ServerVersion": _ENGINE_VERSION,
            "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
            "DefaultRuntime": "runc",
        }


def version() -> dict[str, object]:
    """The body of GET /version."""
    return {
        "Platform": {"Name": "Docker Engine - Community"},
        "Version": _ENGINE_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_API_VERSION,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": "6.1.0-27-amd64",
        "Components": [{"Name": "Engine", "Version": _ENGINE_VERSION, "Details": {}}],
    }


def state(job: Job, time: float) -> str:
    """The container's state as the Engine names it: created, running or exited."""
    if time < job.started:
        return "created"
    return "running" if job.running(time) else "exited"


def _span(seconds: float) -> str:
    """A duration as `docker ps` words it (units.HumanDuration)."""
    if seconds < 1:
        return "Less than a second"
    for limit, size, unit in ((60, 1, "second"), (3600, 60, "minute"), (48 * 3600, 3600, "hour")):
        if seconds < limit:
            count = int(seconds / size)
            if count == 1:
                return {"second": "1 second", "minute": "About a minute", "hour": "About an hour"}[unit]
            return f"{count} {unit}s"
    return f"{int(seconds / 86400)} days"
