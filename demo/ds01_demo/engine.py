"""A Docker Engine's answers about the simulated containers: list, inspect, events, version, info, ping.

Field names, kinds and the error bodies are those of API 1.47 (docs.docker.com/reference/api/engine). What is
not simulated is answered as an Engine answers it: 404 for an unknown path, 400 for an unknown filter.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .bodies import ACTIONS, API_VERSION, OLDEST_API_VERSION, Bodies, state, version
from .docker_labels import labels
from .happenings import Transition, transitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clock import Clock
    from .jobs import Job
    from .world import World


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
        self._bodies = Bodies(world, clock)

    def answer(self, path: str, query: Query, time: float) -> object:
        """The JSON body for a GET of `path` at `time` (world time). Raises EngineError."""
        fixed: dict[str, Callable[[], object]] = {
            "/containers/json": lambda: self._list(query, time),
            "/version": version,
            "/info": lambda: self._bodies.info(time),
        }
        if path in fixed:
            return fixed[path]()
        if inspected := re.fullmatch(r"/containers/([^/]+)/json", path):
            return self._bodies.inspect(self._find(inspected[1], time), time)
        raise EngineError(404, "page not found")

    def events(self, query: Query, start: float, end: float) -> list[dict[str, object]]:
        """The container events of (start, end] in world time that pass the query's filters."""
        filters = query.filters({"type", "event", "container", "label"})
        if "container" not in filters.get("type", {"container"}):
            return []
        found = [(one, self._bodies.event(one)) for one in transitions(self._world.profile, start, end)]
        return [event for one, event in found if self._event_passes(one, filters)]

    def _event_passes(self, one: Transition, filters: dict[str, set[str]]) -> bool:
        if ACTIONS[one.what] not in filters.get("event", {ACTIONS[one.what]}):
            return False
        wanted = filters.get("container")
        if (
            wanted
            and one.job.seat.container not in wanted
            and not any(one.job.id.startswith(x) for x in wanted)
        ):
            return False
        return _labelled(labels(self._world, one.job, self._clock), filters.get("label", set()))

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
            self._bodies.list_entry(job, time)
            for job in newest_first
            if (show_all or job.running(time)) and self._listed(job, time, filters)
        ]

    def _listed(self, job: Job, time: float, filters: dict[str, set[str]]) -> bool:
        now = state(job, time)
        return (
            now in filters.get("status", {now})
            and any(job.id.startswith(wanted) for wanted in filters.get("id", {""}))
            and any(re.search(wanted, f"/{job.seat.container}") for wanted in filters.get("name", {""}))
            and _labelled(labels(self._world, job, self._clock), filters.get("label", set()))
        )


def check_api_version(asked: str) -> None:
    """Refuse an API version outside what this Engine speaks. Raises EngineError."""
    number = tuple(int(part) for part in asked.split("."))
    if number > tuple(int(part) for part in API_VERSION.split(".")):
        raise EngineError(
            400, f"client version {asked} is too new. Maximum supported API version is {API_VERSION}"
        )
    if number < tuple(int(part) for part in OLDEST_API_VERSION.split(".")):
        raise EngineError(
            400, f"client version {asked} is too old. Minimum supported API version is {OLDEST_API_VERSION}"
        )


def _labelled(present: dict[str, str], wanted: set[str]) -> bool:
    """Whether all wanted labels ("name" or "name=value") are there."""
    return all(
        present.get(name) == value if equals else name in present
        for name, equals, value in (one.partition("=") for one in wanted)
    )
