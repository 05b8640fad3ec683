"""What was installed, so that the next installation knows an edited file from an old one, and what to remove."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.files import write_atomically
from ds01_monitoring.install.place import HOME

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.install.place import Place

FILE = HOME / "manifest.json"


@dataclass
class Manifest:
    """The record of one installation.

    Attributes:
        files: SHA-256 of each file as it shipped, by its path on the installed machine; what was only
            offered as `.new` counts as shipped.
        links: Target of each link.
        folders: Folders that the installation made.
        telemetry: Whether gpu-telemetry was asked for.
    """

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    telemetry: bool = False

    def write(self, place: Place) -> None:
        """Put it where `read` finds it."""
        target = place.at(FILE)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", mode=0o644)


def read(place: Place) -> Manifest:
    """The record of the last installation; an empty one where there was none.

    Raises:
        UserError: The record is damaged.
    """
    file = place.at(FILE)
    try:
        return Manifest(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Manifest()
    except (ValueError, TypeError) as error:
        raise UserError(
            f"is not a record of an installation: {error}",
            place=str(file),
            hint="move it away and install again; edited files are then kept, with .new beside them",
        ) from error


def digest(data: bytes) -> str:
    """The checksum that the record keeps."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str | None:
    """The checksum of a file; None where there is none."""
    try:
        return digest(path.read_bytes())
    except FileNotFoundError:
        return None
