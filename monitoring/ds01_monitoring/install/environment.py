"""The copy of code and environment that the units run: root's, and independent of the folder it came from.

Each version lies in `versions/<digest>`, and the link `venv` says which one is in force, so that what runs
keeps its files until it is restarted.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import command, paths
from ds01_monitoring.errors import UserError
from ds01_monitoring.files import link_atomically
from ds01_monitoring.install.place import HOME, Place, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = HOME / "versions"
VENV = HOME / "venv"
COMPLETE = ".complete"
KEPT = 2
SECONDS = 1800
SOURCES = (
    "monitoring",
    "exporter",
    "telemetry",
    "demo",
    "prometheus",
    "alertmanager",
    "grafana",
    "config",
    "docs",
)
"""Folders of a clone that the program is made of; what else a clone has is not needed to run it."""

OLDEST = (3, 10)


def steps(place: Place) -> Iterator[Step]:
    """Make the environment of this code where it is not there yet, and put it in force."""
    source = _source(place)
    if source is None:
        return
    python = interpreter(place)
    name = _digest(source, python)
    folder = VERSIONS / name
    if not place.at(folder / COMPLETE).exists():
        text = f"copy the code and its environment to {folder} ({python}, packages from requirements.lock)"
        yield Step(text, partial(_build, place, source, python, folder))
    for link, target in ((VENV, f"versions/{name}"), (HOME / "docs", "venv/docs")):
        there = place.at(link)
        if not there.is_symlink() or str(there.readlink()) != target:
            yield Step(f"link {link} to {target}", partial(link_atomically, there, target))
    old = _superseded(place.at(VERSIONS), keep=name)
    if old:
        yield Step(f"remove {len(old)} older versions from {VERSIONS}", partial(_remove, old))


def interpreter(place: Place) -> Path:
    """The machine's own Python, never one that a user may change.

    Raises:
        UserError: There is none of version 3.10 or later.
    """
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for python in (Path("/usr/bin/python3"), base):
        if python.exists() and _version(python) >= OLDEST and (not place.this_machine or _roots(python)):
            return python.resolve()
    raise UserError(
        "no Python 3.10 or later that belongs to root",
        place="/usr/bin/python3",
        hint="apt-get install python3 python3-venv; a unit must not run an interpreter that a user can change",
    )


def _version(python: Path) -> tuple[int, ...]:
    done = command.run(
        [str(python), "-I", "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"],
        timeout=30,
        check=False,
    )
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else (0,)


def _roots(python: Path) -> bool:
    """Whether only root can change the interpreter's file and the folders above it."""
    file = python.resolve()
    return all(path.stat().st_uid == 0 and not path.stat().st_mode & 0o022 for path in (file, *file.parents))


def _source(place: Place) -> Path | None:
    """The clone that this code runs from; None where it is the installed copy itself."""
    if Path(sys.prefix).resolve().is_relative_to(place.at(VERSIONS).resolve()):
        return None
    root = paths.data_root()
    if (root / "pyproject.toml").is_file() and (root / "requirements.lock").is_file():
        return root
    raise UserError(
        "has no pyproject.toml and requirements.lock",
        place=str(root),
        hint="run install from a clone of the repository or an unpacked release",
    )


def _digest(source: Path, python: Path) -> str:
    found = hashlib.sha256(str(python).encode())
    files = [source / "requirements.lock", source / "pyproject.toml"]
    for room in SOURCES:
        files += [
            path for path in (source / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
    for path in sorted(files):
        found.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def _build(place: Place, source: Path, python: Path, folder: Path) -> None:
    target = place.at(folder)
    shutil.rmtree(target, ignore_errors=True)  # What an interrupted installation left.
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    command.run([str(python), "-I", "-m", "venv", str(target)], timeout=SECONDS)
    _pip(target, "--require-hashes", "-r", str(source / "requirements.lock"))
    _pip(target, "--no-deps", "--no-build-isolation", str(source))
    shutil.copytree(source / "docs", target / "docs")
    _settle(target, folder)
    done = [str(target / "bin" / "python"), "-I", "-m", "compileall", "-q", "-s", str(place.root), "-p", "/"]
    command.run([*done, str(target / "lib")], timeout=SECONDS)
    (target / COMPLETE).touch()


def _pip(target: Path, *arguments: str) -> None:
    pip = [str(target / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "--no-compile"]
    try:
        command.run([*pip, "--disable-pip-version-check", *arguments], timeout=SECONDS)
    except command.CommandFailed as error:
        raise UserError(
            f"the environment could not be made: {error.problem}\n{error.output.strip()}",
            place=str(target),
            hint="is PyPI, or the mirror in /etc/pip.conf, reachable from here?",
        ) from error


def _settle(target: Path, folder: Path) -> None:
    """Let the scripts name the place where they will run, and drop what only a shell in a venv needs."""
    for script in (target / "bin").iterdir():
        if script.is_symlink():
            continue
        if script.name.lower().startswith("activate"):
            script.unlink()
            continue
        text = script.read_bytes()
        script.write_bytes(text.replace(str(target).encode(), str(folder).encode()))
    settings = target / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace(str(target), str(folder)))


def _superseded(versions: Path, *, keep: str) -> list[Path]:
    """All but the version in force and the newest before it, which may still run."""
    if not versions.is_dir():
        return []
    others = sorted(
        (path for path in versions.iterdir() if path.name != keep), key=lambda path: path.stat().st_mtime
    )
    return others[: -(KEPT - 1)]


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)
