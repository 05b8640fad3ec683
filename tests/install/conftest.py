"""A clone of its own, and roots to install it into."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ds01_monitoring import command
from ds01_monitoring.install.environment import SOURCES

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE")
PACKAGES = ("monitoring", "exporter", "telemetry", "demo")


@dataclass(frozen=True)
class Machine:
    """A clone, and a folder that stands for a machine's root."""

    clone: Path
    root: Path

    def manage(self, *args: str, code: int = 0) -> str:
        """Run monitoring-manage from the clone; what it printed."""
        done = command.run(
            [str(Path(sys.executable).parent / "monitoring-manage"), *args],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(str(self.clone / name) for name in PACKAGES)},
            timeout=600,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def install(self, *args: str) -> list[str]:
        """Install below the root; the lines that were printed."""
        return self.manage("install", "--root", str(self.root), *args).splitlines()

    def uninstall(self, *args: str) -> list[str]:
        """Take it off again; the lines that were printed."""
        return self.manage("uninstall", "--root", str(self.root), *args).splitlines()

    def at(self, path: str) -> Path:
        """A path of the installed machine."""
        return self.root / path.lstrip("/")

    def content(self) -> dict[str, str | bytes | None]:
        """Everything below the root but the code: links by target, files by content, folders by None."""
        found: dict[str, str | bytes | None] = {}
        for path in sorted(self.root.rglob("*")):
            name = f"/{path.relative_to(self.root)}"
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif not name.startswith("/opt/ds01-monitoring/versions/"):
                found[name] = path.read_bytes() if path.is_file() else None
        return found


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, which nobody edits while the tests run."""
    folder = tmp_path_factory.mktemp("install") / "clone"
    for room in SOURCES:
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A complete installation, environment included: the slow part, done once. Not to be changed."""
    machine = Machine(clone, tmp_path_factory.mktemp("built"))
    machine.install("--telemetry")
    return machine


@pytest.fixture
def machine(clone: Path, tmp_path: Path) -> Machine:
    """An empty root; the environment counts as made, so that installing into it is quick."""
    root = tmp_path / "root"
    made = Machine(clone, root)
    (text,) = (line for line in made.install("--dry-run") if line.startswith("copy the code"))
    version = made.at(text.split()[7])
    version.mkdir(parents=True)
    (version / ".complete").touch()
    return made
