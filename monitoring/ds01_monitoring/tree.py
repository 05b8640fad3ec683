"""The rendered configuration on disk: versions named by their content, and the link that says which is in force."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.files import link_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ds01_monitoring.context import Context

KEPT_VERSIONS = 5


@dataclass(frozen=True)
class RenderedTree:
    """One version of the generated configuration.

    Attributes:
        path: Its folder.
        context: What it was made from.
        sources: Template of each file that came from one, by path below the folder.
    """

    path: Path
    context: Context
    sources: Mapping[str, Path] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The folder's name; the same content has the same one."""
        return self.path.name

    @property
    def in_force(self) -> bool:
        """Whether `rendered/current` points here."""
        current = self.context.state.current
        return current.is_symlink() and str(current.readlink()) == self.version

    def activate(self) -> bool:
        """Let `rendered/current` point here, from one instant to the next; False when it did already.

        Raises:
            OSError: It cannot be written; the old version stays in force.
        """
        if self.in_force:
            return False
        rendered = self.context.state.rendered
        with _alone(rendered):
            link_atomically(self.context.state.current, self.version)
            _prune(rendered, keep=self.version)
        return True


def store(files: Mapping[str, str], rendered: Path) -> Path:
    """Write the files as a version below `rendered` and return its folder.

    The same files give the same folder. Modes are 0755 and 0644 whatever the umask, so that the
    servers can read them whoever they run as.
    """
    rendered.mkdir(parents=True, exist_ok=True)
    rendered.chmod(0o755)
    name = _digest(files)
    with _alone(rendered):
        folder = rendered / name
        attempt = 1
        while folder.exists() and not _holds(folder, files):  # Somebody edited it: leave that alone.
            attempt += 1
            folder = rendered / f"{name}-{attempt}"
        if not folder.exists():
            temporary = Path(tempfile.mkdtemp(dir=rendered, prefix=".new-"))
            try:
                write_files(files, temporary)
                temporary.rename(folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
    return folder


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write each file below `folder` with its folders, readable for everybody."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        for parent in path.relative_to(folder).parents:
            (folder / parent).chmod(0o755)


def _digest(files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0{files[name]}\0".encode())
    return digest.hexdigest()[:12]


def _holds(folder: Path, files: Mapping[str, str]) -> bool:
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return there == set(files) and all(
        (folder / name).read_text(encoding="utf-8") == files[name] for name in files
    )


def _prune(rendered: Path, *, keep: str) -> None:
    """Remove all but the newest versions, the one in force never, and what a killed process left."""
    versions = sorted(
        (
            path
            for path in rendered.iterdir()
            if path.is_dir() and not path.is_symlink() and path.name != keep
        ),
        key=lambda path: (not path.name.startswith("."), path.stat().st_mtime),
        reverse=True,
    )
    for path in versions[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(rendered: Path) -> Iterator[None]:
    """One process at a time changes the versions."""
    with (rendered / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
