"""Files that containers are given: secrets of the site that only their copies may be read, and marks of what changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ds01_monitoring.paths import StateDir

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C reads the file ten times faster, and `status` reads it each time."""


@dataclass(frozen=True)
class Plan:
    """What the rendered docker-compose.yaml says, as far as the runtime needs it.

    Attributes:
        services: Image by service.
        left_out: Services that this machine cannot run, with the reason.
        copies: Copy of each secret of the site's own, by its path.
        files: By service, what it reads: `secrets`, and `rendered` paths that it reads only when it starts.
        subnet: Of the bridge.
    """

    services: Mapping[str, str]
    left_out: Mapping[str, str]
    copies: Mapping[str, str]
    files: Mapping[str, Mapping[str, Sequence[str]]]
    subnet: str


def read_plan(file: Path) -> Plan:
    """Read the rendered file.

    Raises:
        UserError: It is missing or not ours.
    """
    try:
        # Dollars stand twice in the file, for compose.
        data = yaml.load(file.read_text().replace("$$", "$"), Loader=LOADER)  # noqa: S506 - a safe one.
        return Plan(
            services={name: service["image"] for name, service in data["services"].items()},
            subnet=data["networks"]["ds01-monitoring"]["ipam"]["config"][0]["subnet"],
            **data["x-ds01"],
        )
    except FileNotFoundError as error:
        raise UserError("is missing", place=str(file), hint="monitoring-manage start") from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"is not what was rendered: {error}", place=str(file), hint="monitoring-manage restart"
        ) from error


def copy(state: StateDir, plan: Plan) -> None:
    """Bring the copies up to date, in place: a container sees the new content of a file, but not a new file.

    The copies belong to the containers' user with mode 0600, as the site's own files may belong to root.

    Raises:
        UserError: One of the site's files cannot be read.
    """
    folder = state.secrets / "site"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    uid, gid = owner.ids(state)
    for origin, target in plan.copies.items():
        try:
            content = Path(origin).read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot be read: {error.strerror}", place=origin, hint="correct its path or permissions"
            ) from error
        handle = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as stream:
            if stream.read() != content:
                stream.seek(0)
                stream.write(content)
                stream.truncate()
            if os.geteuid() == 0:
                os.fchown(stream.fileno(), uid, gid)
    if os.geteuid() == 0:
        os.chown(folder, uid, gid)
    for old in set(map(str, folder.iterdir())) - set(plan.copies.values()):
        Path(old).unlink()


def marks(state: StateDir, plan: Plan) -> dict[str, str]:
    """A variable for each service that changes when a file changes that it would not notice by itself.

    Of secrets only which file it is counts, not what it holds: a mounted file is noticed when it is written
    again, and not when another takes its place; and a digest of a password is for nobody's eyes.
    """
    return {
        f"DS01_FILES_{service.upper().replace('-', '_')}": _digest(
            [
                *(_which(plan.copies.get(path, path)) for path in files["secrets"]),
                *_contents(state.current, files["rendered"]),
            ]
        )
        for service, files in plan.files.items()
    }


def _which(path: str) -> str:
    try:
        found = Path(path).stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {found.st_dev} {found.st_ino}"


def _contents(root: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        for file in sorted((root / name).rglob("*")):
            if file.is_file():
                yield f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
