"""A site whose servers run on the machine's real Engine, with stand-ins for the official images."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ds01_monitoring import command, deployment
from ds01_monitoring.health import examine
from ds01_monitoring.http import Client
from ds01_monitoring.paths import StateDir

from ..e2e.site import free_ports  # noqa: TID252 - tests are no package with a name of its own.

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUBNET = "172.30.117.0/24"
PATIENCE_SECONDS = 120
CONTAINERS = ("ds01-prometheus", "ds01-alertmanager", "ds01-node-exporter", "ds01-grafana")


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of a condition; fails with what was waited for when the time is over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)
    return value


@dataclass
class EngineSite:
    """One configuration, one state directory, one allocator's folder.

    Attributes:
        root: Where they lie.
        images: Stand-in by service.
        docker_config: The folder that has `docker compose`.
        settings: What monitoring.yaml says; `configure` writes it.
    """

    root: Path
    images: Mapping[str, str]
    docker_config: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, images: Mapping[str, str], docker_config: Path) -> EngineSite:
        """A site with free ports and an allocator without allocations."""
        site = cls(root, images, docker_config)
        names = ("prometheus", "alertmanager", "grafana", "node_exporter", "dcgm_exporter", "gpu_telemetry")
        *ports, exporter = free_ports(len(names) + 1)
        for folder in ("allocator", "events"):
            (root / folder).mkdir()
        (root / "allocator" / "gpu-state.json").write_text('{"gpus": {}}')
        (root / "events" / "events.jsonl").write_text("")
        site.configure(
            site={"host": "gpu01"},
            runtime="compose",
            hardware="none",
            network={"subnet": SUBNET},
            ports=dict(zip(names, ports, strict=True)),
            exporter={"port": exporter, "deployment": "process"},
            allocations={
                "state_file": str(root / "allocator" / "gpu-state.json"),
                "events_file": str(root / "events" / "events.jsonl"),
                "state_dir": str(root / "allocator"),
            },
            images={
                "prometheus": images["prometheus"],
                "alertmanager": images["alertmanager"],
                "node_exporter": images["node-exporter"],
                "grafana": images["grafana"],
            },
        )
        return site

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return str(ipaddress.IPv4Network(self.settings["network"]["subnet"])[1])

    @property
    def state(self) -> StateDir:
        """The state directory."""
        return StateDir(self.root / "state")

    def configure(self, **changes: Any) -> None:
        """Change the configuration file; None takes a key away."""
        self.settings.update(changes)
        self.settings = {key: value for key, value in self.settings.items() if value is not None}
        (self.root / "monitoring.yaml").write_text(yaml.safe_dump(self.settings))

    def words(self, *args: str) -> list[str]:
        """The command line of monitoring-manage for this site."""
        program = Path(sys.executable).parent / "monitoring-manage"
        options = (f"--config={self.root / 'monitoring.yaml'}", f"--state-dir={self.state.root}")
        return [str(program), *options, *args]

    def manage(self, *args: str, check: bool = True, **environment: str) -> tuple[int, str]:
        """Run monitoring-manage; its exit code and what it printed."""
        done = command.run(
            self.words(*args),
            env={**os.environ, "DOCKER_CONFIG": str(self.docker_config), **environment},
            timeout=240,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done.returncode, done.stdout

    def start(self) -> None:
        """Bring everything up, as it is configured."""
        self.manage("start", "--timeout", "120")

    def deployment(self) -> deployment.Deployment:
        """The record of what runs."""
        found = deployment.load(self.state)
        assert found is not None
        return found

    def get(self, job: str, path: str, **query: str) -> Any:
        """What a server of the stack answers."""
        found = self.deployment()
        return Client(found.password(), timeout_seconds=10).get(found.addresses[job], path, **query)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series of an instant query."""
        result: list[dict[str, Any]] = self.get("prometheus", "/api/v1/query", query=expression).json()[
            "data"
        ]["result"]
        return result

    def checks(self) -> dict[tuple[str, str], str]:
        """State of each check of `status`, by area and name; empty where nothing was started."""
        found = deployment.load(self.state)
        return {} if found is None else {(one.area, one.name): one.state for one in examine(found).checks}


def inspect(*names: str) -> list[dict[str, Any]]:
    """What the Engine says about containers."""
    found: list[dict[str, Any]] = json.loads(command.run(["docker", "inspect", *names], timeout=30).stdout)
    return found


def ids() -> dict[str, str]:
    """The id of each container of the stack."""
    return {name: found["Id"] for name, found in zip(CONTAINERS, inspect(*CONTAINERS), strict=True)}


def a_silence() -> dict[str, Any]:
    """A silence for three days, as Alertmanager wants it."""
    now = dt.datetime.now(dt.timezone.utc)
    matcher = {"name": "alertname", "value": "DS01GPUWaste", "isRegex": False, "isEqual": True}
    ends = now + dt.timedelta(days=3)
    words = {"createdBy": "ann", "comment": "holidays"}
    return {"matchers": [matcher], "startsAt": now.isoformat(), "endsAt": ends.isoformat(), **words}
