"""Installed for good, started on a real Engine, and taken off again: what stays and what goes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from ds01_monitoring import command, deployment
from ds01_monitoring.http import Client
from ds01_monitoring.install.place import CONFIG, HOME, STATE, USER
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import engine, processes

from .engine_site import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .engine_site import EngineSite

pytestmark = pytest.mark.engine

OURS = ("etc", "opt", "usr/local/bin", "var/log")
"""What an installation writes to, but for the state: each command sees copies of these folders of this machine."""

ALONE = """\
set -e
for folder in {folders}; do
    work={root}/$folder
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$work/upper,workdir=$work/work" "/$folder"
done
[ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd
exec "$@"
"""
"""In a mount namespace of its own. A systemd that runs here hears nothing of it."""


@dataclass(frozen=True)
class Machine:
    """The tests' own machine, with what an installation writes kept below `root`; only the state directory is the real one."""

    root: Path
    docker_config: Path

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program; what it printed."""
        script = ALONE.format(folders=" ".join(OURS), root=self.root)
        done = command.run(
            ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh", *words],
            env={**os.environ, "DOCKER_CONFIG": str(self.docker_config)},
            timeout=240,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run monitoring-manage without any option: it finds its own places."""
        return self.run(str(Path(sys.executable).parent / "monitoring-manage"), *arguments)

    def written(self) -> set[str]:
        """Files and links that were made or changed."""
        found = set()
        for folder in OURS:
            upper = self.root / folder / "upper"
            found |= {
                f"/{folder}/{path.relative_to(upper)}"
                for path in upper.rglob("*")
                if path.is_symlink() or path.is_file()
            }
        return found

    def install(self) -> None:
        """Install, with the environment, which takes a minute, counted as made; the clone's own runs the commands."""
        (text,) = (
            line
            for line in self.manage("install", "--dry-run").splitlines()
            if line.startswith("copy the code")
        )
        folder = text.split()[7]
        self.run("/bin/sh", "-c", f"mkdir -p {folder} && touch {folder}/.complete")
        self.manage("install")


@pytest.fixture
def machine(running: EngineSite, tmp_path: Path) -> Iterator[Machine]:
    """A machine without an installation, whose Engine has no stack."""
    for place in (STATE, CONFIG, HOME):
        if place.exists():
            pytest.skip(f"{place} is somebody's")
    made = Machine(tmp_path, running.docker_config)
    for folder in OURS:
        for part in ("upper", "work"):
            (tmp_path / folder / part).mkdir(parents=True)
    if "ok" not in made.run("echo", "ok", check=False):
        pytest.skip("may not mount an overlay in a namespace of its own")
    running.manage("stop", check=False)
    try:
        yield made
    finally:
        if (state := StateDir(STATE)).run.exists():
            made.run(str(Path(sys.executable).parent / "monitoring-manage"), "stop", check=False)
            for process in processes.read_all(state.run):
                processes.end([process], grace_seconds=10)
        shutil.rmtree(STATE, ignore_errors=True)


def traces() -> dict[str, set[str]]:
    """What the Engine has: containers, networks and volumes."""
    asked = {"container": ("ps", "--all"), "network": ("network", "ls"), "volume": ("volume", "ls")}
    return {kind: set(engine.docker(*words, "--quiet").split()) for kind, words in asked.items()}


def configure(machine: Machine, site: EngineSite) -> None:
    """Write the configuration of the tests' stack where the installation looks for it."""
    file = machine.root / "etc" / "upper" / "ds01-monitoring" / "monitoring.yaml"
    file.write_text(
        yaml.safe_dump({**site.settings, "exporter": {**site.settings["exporter"], "deployment": "process"}})
    )


def ask(expression: str, **more: str) -> list[dict[str, object]]:
    """What Prometheus of the installed stack knows."""
    found = deployment.load(StateDir(STATE))
    assert found is not None
    client = Client(found.password())
    reply = client.get(found.addresses["prometheus"], "/api/v1/query", query=expression, **more)
    result: list[dict[str, object]] = reply.json()["data"]["result"]
    return result


def test_uninstall_keeps_what_cannot_be_made_again_and_with_data_leaves_nothing(
    machine: Machine, running: EngineSite
) -> None:
    """Series, secrets and configuration are there for the next installation; `--data` ends them too."""
    before = traces()
    machine.install()
    configure(machine, running)
    machine.manage("start", "--timeout", "120")
    wait_until(lambda: ask('up{job="prometheus"}'), "a sample")
    seen = time.time()
    password = (STATE / "secrets" / "http_password").read_bytes()

    told = machine.manage("uninstall")

    assert "kept: " in told
    assert traces() == before
    left = {
        name for name in machine.written() if USER in name or "ds01-exporter" in name or "monitoring-" in name
    }
    assert left == {"/etc/ds01-monitoring/monitoring.yaml"}
    assert (STATE / "secrets" / "http_password").read_bytes() == password
    machine.install()
    machine.manage("start", "--timeout", "120")
    assert ask('up{job="prometheus"}', time=str(seen))
    (STATE / "run" / "deployment.json").unlink()  # Lost: what runs is found without it.
    ran = [process for process in processes.read_all(STATE / "run") if process.alive()]

    machine.manage("uninstall", "--data")

    assert traces() == before
    assert not STATE.exists()
    assert not [name for name in machine.written() if name.startswith((str(HOME), "/usr", "/var/log/ds01"))]
    assert not [name for name in machine.written() if "ds01" in name]
    assert USER not in (machine.root / "etc" / "upper" / "passwd").read_text()
    assert ran
    assert not [process for process in ran if process.alive()]
