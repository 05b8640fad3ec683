"""A stack on the machine's Engine, started once."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import engine

from . import images
from .engine_site import EngineSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def docker_config() -> Path:
    """A folder with `docker compose`; skipped, with the reason, where no Engine answers or no package can be had."""
    try:
        engine.docker("version", "--format", "{{.Server.Version}}")
        return images.compose_plugin()
    except UserError as error:
        pytest.skip(f"no Docker Engine, or no docker compose: {error}")


@pytest.fixture(scope="session")
def running(docker_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSite]:
    """The stack, started once; its names are fixed, so one at a time on an Engine."""
    if os.geteuid() != 0:
        pytest.skip("needs root: to own files as another user, to mount, to kill a server's process")
    with (images.TOOLS / ".engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        left = command.run(["docker", "ps", "-aq", "--filter", "name=^ds01-prometheus$"], timeout=30).stdout
        if left:
            pytest.skip("a stack of ours runs on this Engine, and the tests leave it alone")
        root = tmp_path_factory.mktemp("compose")
        site = EngineSite.make(root, images.build_all(), docker_config)
        volume = site.state.data / "prometheus"
        volume.mkdir(parents=True)
        # A file system of its own for the series, so that a test can fill it.
        own = command.run(
            ["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(volume)], timeout=10, check=False
        )
        try:
            site.start()
            yield site
        finally:
            site.manage("stop", check=False)
            if own.returncode == 0:
                command.run(["umount", str(volume)], timeout=10)


@pytest.fixture
def site(running: EngineSite) -> EngineSite:
    """The stack, everything up; what an earlier test left broken is mended first."""
    bad = [key for key, state in running.checks().items() if state == "failed" and key[0] != "disk"]
    if bad or not running.checks():
        running.start()
    return running
