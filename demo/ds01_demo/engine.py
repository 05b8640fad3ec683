"""A Docker Engine's answers about the simulated containers: list, inspect, events, version, info, ping.

Field names, kinds and the error bodies are those of API 1.47 (docs.docker.com/reference/api/engine). What is
not simulated is answered as an Engine answers it: 404 for an unknown path, 400 for an unknown filter.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .cgroups import parent_slice
from .docker_labels import labels
from .happenings import Transition, transitions
from .hardware import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clock import Clock
    from .jobs import Job
    from .world import World

API_VERSION = "1.47"
_OLDEST_API_VERSION = "1.24"
_ENGINE_VERSION = "27.3.1"
_ACTIONS = {"created": "create", "started": "start", "stopped": "die", "removed": "destroy"}
_NEVER = "0001-01-01T00:00:00Z"


class EngineError(Exception):
    """A request that an Engine refuses with `status` and a JSON body of one message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Query:
    """The parameters of a request, each once."""

    values: Mapping[str, str]

    def flag(self, name: str) -> bool:
        """Whether a boolean parameter is set, as an Engine reads it."""
        return self.values.get(name, "").lower() not in {"", "0", "no", "false", "none"}

    def filters(self, known: set[str]) -> dict[str, set[str]]:
        """The `filters` parameter in either of its forms: lists, or maps of value to true."""
        try:
            raw = json.loads(self.values.get("filters") or "{}")
            found = {
                key: {one for one in values if not isinstance(values, dict) or values[one]}
                for key, values in raw.items()
            }
        except (ValueError, AttributeError, TypeError) as error:
            raise EngineError(400, "invalid filter") from error
        for key in found.keys() - known:
            raise EngineError(400, f"invalid filter '{key}'")
        return found


class Engine:
    """Answers for one world. `answer` takes a path without its version prefix."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def answer(self, path: str, query: Query, time: float) -> object:
        """The JSON body for a GET of `path` at `time` (world time). Raises EngineError."""
        fixed: dict[str, Callable[[], object]] = {
            "/containers/json": lambda: self._list(query, time),
            "/version": _version,
            "/info": lambda: self._info(time),
        }
        if path in fixed:
            return fixed[path]()
        if inspected := re.fullmatch(r"/containers/([^/]+)/json", path):
            return self._inspect(self._find(inspected[1], time), time)
        raise EngineError(404, "page not found")

    def events(self, query: Query, start: float, end: float) -> list[dict[str, object]]:
        """The container events of (start, end] in world time that pass the query's filters."""
        filters = query.filters({"type", "event", "container", "label"})
        if "container" not in filters.get("type", {"container"}):
            return []
        found = [(one, self._event(one)) for one in transitions(self._world.profile, start, end)]
        return [event for one, event in found if self._event_passes(one, filters)]

    def _event_passes(self, one: Transition, filters: dict[str, set[str]]) -> bool:
        if _ACTIONS[one.what] not in filters.get("event", {_ACTIONS[one.what]}):
            return False
        wanted = filters.get("container")
        if (
            wanted
            and one.job.seat.container not in wanted
            and not any(one.job.id.startswith(x) for x in wanted)
        ):
            return False
        return _labelled(labels(self._world, one.job, self._clock), filters.get("label", set()))

    def _event(self, one: Transition) -> dict[str, object]:
        wall = self._clock.to_wall(one.time)
        attributes = labels(self._world, one.job, self._clock) | {
            "image": one.job.seat.image,
            "name": one.job.seat.container,
        }
        if one.what == "stopped":
            attributes["exitCode"] = "0"
        return {
            "status": _ACTIONS[one.what],
            "id": one.job.id,
            "from": one.job.seat.image,
            "Type": "container",
            "Action": _ACTIONS[one.what],
            "Actor": {"ID": one.job.id, "Attributes": attributes},
            "scope": "local",
            "time": int(wall),
            "timeNano": int(wall * 1_000_000_000),
        }

    def _find(self, name: str, time: float) -> Job:
        jobs = self._world.jobs(time)
        for job in jobs:
            if name in {job.id, job.seat.container}:
                return job
        by_prefix = [job for job in jobs if job.id.startswith(name)]
        if len(by_prefix) != 1:
            raise EngineError(404, f"No such container: {name}")
        return by_prefix[0]

    def _list(self, query: Query, time: float) -> list[dict[str, object]]:
        filters = query.filters({"id", "name", "label", "status"})
        show_all = query.flag("all") or "status" in filters
        newest_first = sorted(self._world.jobs(time), key=lambda job: -job.created)
        return [
            self._list_entry(job, time)
            for job in newest_first
            if (show_all or job.running(time)) and self._listed(job, time, filters)
        ]

    def _listed(self, job: Job, time: float, filters: dict[str, set[str]]) -> bool:
        state = _state(job, time)
        return (
            state in filters.get("status", {state})
            and any(job.id.startswith(wanted) for wanted in filters.get("id", {""}))
            and any(re.search(wanted, f"/{job.seat.container}") for wanted in filters.get("name", {""}))
            and _labelled(labels(self._world, job, self._clock), filters.get("label", set()))
        )

    def _list_entry(self, job: Job, time: float) -> dict[str, object]:
        return {
            "Id": job.id,
            "Names": [f"/{job.seat.container}"],
            "Image": job.seat.image,
            "ImageID": job.image_id,
            "Command": "/opt/entrypoint.sh",
            "Created": int(self._clock.to_wall(job.created)),
            "Ports": [],
            "Labels": labels(self._world, job, self._clock),
            "State": _state(job, time),
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

    def _inspect(self, job: Job, time: float) -> dict[str, object]:
        state = _state(job, time)
        return {
            "Id": job.id,
            "Created": self._moment(job.created),
            "Path": "/opt/entrypoint.sh",
            "Args": [],
            "State": {
                "Status": state,
                "Running": state == "running",
                "Paused": False,
                "Restarting": False,
                "OOMKilled": False,
                "Dead": False,
                "Pid": job.pid if state == "running" else 0,
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

    def _info(self, time: float) -> dict[str, object]:
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
            "NCPU": 64,
            "MemTotal": 512 * 1024 * MIB,
            "Name": "gpu-demo",
            "ServerVersion": _ENGINE_VERSION,
            "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
            "DefaultRuntime": "runc",
        }


def check_api_version(asked: str) -> None:
    """Refuse an API version outside what this Engine speaks. Raises EngineError."""
    number = tuple(int(part) for part in asked.split("."))
    if number > tuple(int(part) for part in API_VERSION.split(".")):
        raise EngineError(
            400, f"client version {asked} is too new. Maximum supported API version is {API_VERSION}"
        )
    if number < tuple(int(part) for part in _OLDEST_API_VERSION.split(".")):
        raise EngineError(
            400, f"client version {asked} is too old. Minimum supported API version is {_OLDEST_API_VERSION}"
        )


def _version() -> dict[str, object]:
    return {
        "Platform": {"Name": "Docker Engine - Community"},
        "Version": _ENGINE_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": _OLDEST_API_VERSION,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": "6.1.0-27-amd64",
        "Components": [{"Name": "Engine", "Version": _ENGINE_VERSION, "Details": {}}],
    }


def _state(job: Job, time: float) -> str:
    if time < job.started:
        return "created"
    return "running" if job.running(time) else "exited"


def _labelled(present: dict[str, str], wanted: set[str]) -> bool:
    """Whether all wanted labels ("name" or "name=value") are there."""
    return all(
        present.get(name) == value if equals else name in present
        for name, equals, value in (one.partition("=") for one in wanted)
    )


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
