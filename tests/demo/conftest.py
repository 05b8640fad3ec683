"""A served demo that the tests of a session share: they only ask."""

from __future__ import annotations

import os
import re
import signal
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "the-demo-password"


@dataclass
class Served:
    """A running `ds01-demo serve`: its directory, its process and the ports that it took."""

    root: Path
    process: subprocess.Popen[str]
    dcgm_port: int
    smtp_port: int


def start(root: Path, *options: str) -> Served:
    """Start `ds01-demo serve` on free ports and wait until it says where it listens."""
    password = root.with_name("password")
    password.write_text(f"{PASSWORD}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ds01_demo",
        "serve",
        "--dir",
        str(root),
        "--dcgm-port",
        "0",
        "--smtp-port",
        "0",
    ]
    command += ["--password-file", str(password), *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TZ": "Europe/Berlin"}
    )
    assert process.stderr is not None
    said = ""
    ports: dict[str, int] = {}
    for line in process.stderr:
        said += line
        if match := re.search(r"(dcgm-exporter|mail sink) on 127\.0\.0\.1:(\d+)", line):
            ports[match[1]] = int(match[2])
        if len(ports) == 2:
            break
    else:
        pytest.fail(f"the demo did not start: {said}")
    return Served(root, process, ports["dcgm-exporter"], ports["mail sink"])


def stop(served: Served) -> int:
    """End the demo by SIGTERM; its exit status."""
    served.process.send_signal(signal.SIGTERM)
    served.process.communicate(timeout=30)
    return served.process.returncode


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """The lively demo in a short path, as unix sockets need."""
    with tempfile.TemporaryDirectory(prefix="ds01-demo-") as folder:
        running = start(Path(folder) / "demo")
        yield running
        stop(running)


def promtool(suite: str) -> Path:
    """The promtool of a Debian suite; skips where `make tools` has not fetched it."""
    found = Path(__file__).parents[2] / ".tools" / suite / "usr" / "bin" / "promtool"
    if not found.exists():
        pytest.skip(f"no promtool of {suite}: run `make tools`")
    return found
