"""A site of its own: a clone, a configuration with free ports, a state directory."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ds01_monitoring import command, deployment
from ds01_monitoring.config.model import Ports
from ds01_monitoring.http import Client
from ds01_monitoring.install.environment import SOURCES
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import processes

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of a condition; fails with what was waited for when the time is over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
    return value


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as open_sockets:
        found = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


@dataclass
class Site:
    """A clone, a configuration and a state directory of their own.

    Attributes:
        root: Where the three lie.
        settings: What monitoring.yaml says; `configure` writes it.
    """

    root: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        """The copied repository."""
        return self.root / "clone"

    @property
    def state(self) -> StateDir:
        """The demo's state directory."""
        return StateDir(self.root / "state").demo

    def configure(self, **changes: Any) -> None:
        """Change the configuration file."""
        self.settings.update(changes)
        (self.root / "monitoring.yaml").write_text(yaml.safe_dump(self.settings))

    def manage(self, *args: str, check: bool = True) -> tuple[int, str]:
        """Run monitoring-manage; its exit code and what it printed."""
        paths = [str(self.clone / room) for room in ("monitoring", "exporter", "telemetry", "demo")]
        tools = REPOSITORY / ".tools" / "bookworm" / "usr" / "bin"
        done = command.run(
            [
                str(Path(sys.executable).parent / "monitoring-manage"),
                f"--config={self.root / 'monitoring.yaml'}",
                f"--state-dir={self.root / 'state'}",
                *args,
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
                "PYTHONWARNINGS": "default",
            },
            timeout=240,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done.returncode, done.stdout

    def deployment(self) -> deployment.Deployment:
        """The record of what runs."""
        found = deployment.load(self.state)
        assert found is not None
        return found

    def client(self) -> Client:
        """Asks with the right password."""
        return Client(self.deployment().password(), timeout_seconds=10)

    def checks(self) -> dict[tuple[str, str], str]:
        """State of each check of `status --json`, by area and name."""
        _, output = self.manage("status", "--json", check=False)
        found = json.loads(output)["deployments"]
        return {(check["area"], check["name"]): check["state"] for each in found for check in each["checks"]}

    def query(self, expression: str, **more: str) -> list[dict[str, Any]]:
        """Series of an instant query."""
        address = self.deployment().addresses["prometheus"]
        reply = self.client().get(address, "/api/v1/query", query=expression, **more)
        result: list[dict[str, Any]] = reply.json()["data"]["result"]
        return result

    def pids(self) -> dict[str, int]:
        """The living process of each service, supervisord included."""
        return {found.name: found.pid for found in processes.read_all(self.state.run) if found.alive()}


def belonging_to(state: StateDir) -> list[int]:
    """Every living process that was started for a state directory."""
    mark = f"DS01_STATE={state.root}\0".encode()
    folders = [folder for folder in Path("/proc").glob("[0-9]*") if mark in _environment(folder)]
    return [int(folder.name) for folder in folders if processes.start_ticks(int(folder.name)) is not None]


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


def make_site(root: Path) -> Site:
    """A site whose ports are free."""
    site = Site(root)
    for room in SOURCES:
        shutil.copytree(REPOSITORY / room, site.clone / room, ignore=shutil.ignore_patterns("__pycache__"))
    names = list(Ports.model_fields)
    *ports, exporter = free_ports(len(names) + 1)
    site.configure(ports=dict(zip(names, ports, strict=True)), exporter={"port": exporter})
    return site
