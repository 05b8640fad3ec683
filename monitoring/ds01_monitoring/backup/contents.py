"""What a backup folder holds, and the description in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.config import Settings

FILE = "backup.json"
SCHEMA = "ds01-monitoring/backup/1"
CONFIGURATION = "monitoring.yaml"
SECRETS = "secrets"
SITE = "site"
SECRET_NAMES = ("password_file", "url_file", "ca_file")


@dataclass(frozen=True)
class Contents:
    """The description of a backup.

    Attributes:
        schema: Which form it has.
        created: When, UTC, RFC 3339.
        version: Of this program.
        host: The label on the series.
        demo: Whether it is the demo's.
        site_files: Path of each file that the configuration names, by its place in the backup.
        parts: What was there to be saved: `prometheus`, `alertmanager`, `grafana`, ….
    """

    schema: str
    created: str
    version: str
    host: str
    demo: bool
    site_files: dict[str, str]
    parts: list[str]

    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read(folder: Path) -> Contents:
    """The description of the backup in a folder.

    Raises:
        UserError: There is none, or it is of a form that this version does not know.
    """
    file = folder / FILE
    try:
        found = Contents(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            "is not a backup", place=str(folder), hint="name a folder that `monitoring-manage backup` wrote"
        ) from error
    if found.schema != SCHEMA:
        raise UserError(
            f"was written as {found.schema}, and this version reads {SCHEMA}",
            place=str(file),
            hint=f"restore it with version {found.version}",
        )
    return found


def secret_files(settings: Settings) -> list[Path]:
    """Files of the site's own that the configuration names: passwords, addresses of webhooks, certificates."""
    return sorted(set(_walk(settings)))


def _walk(value: object) -> Iterator[Path]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if isinstance(inner, Path):
                if name.endswith(SECRET_NAMES):
                    yield inner
            else:
                yield from _walk(inner)
    elif isinstance(value, (list, tuple, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _walk(inner)
