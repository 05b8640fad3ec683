"""`backup`: everything that cannot be made again, into one folder that only its owner can read."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from ds01_monitoring import api, inventory
from ds01_monitoring.backup import contents, series, silences
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Say

ALERTMANAGER = ("silences", "nflog")
GRAFANA = "grafana.db"


@dataclass(frozen=True)
class Source:
    """What is saved.

    Attributes:
        settings: The configuration.
        configuration: Its file.
        state: Its state directory.
        running: What runs from there; None where nothing does.
    """

    settings: Settings
    configuration: Path
    state: StateDir
    running: Deployment | None


def save(source: Source, folder: Path, say: Say) -> contents.Contents:
    """Write a backup to `folder`, which must be new or empty; it is complete or not there.

    Args:
        source: What is saved.
        folder: Where to.
        say: Told each step.

    Raises:
        UserError: The folder is in use, there is nothing to save, or Alertmanager does not answer.
        OSError: Something cannot be read or written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("is not empty", place=str(folder), hint="name a new folder for each backup")
    if not source.state.secrets.is_dir():
        raise UserError("nothing to save", place=str(source.state.root), hint="name the right --state-dir")
    draft = folder.with_name(f".{folder.name}.partial")
    before = os.umask(0o077)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        found = _fill(draft, source, say)
        for path in draft.rglob("*"):  # Copied folders bring their modes along.
            path.chmod(0o700 if path.is_dir() else 0o600)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        os.umask(before)
    return found


def _fill(draft: Path, source: Source, say: Say) -> contents.Contents:
    state, running = source.state, source.running
    parts = ["configuration", "secrets"]
    say("configuration and secrets")
    _private(source.configuration, draft / contents.CONFIGURATION)
    for secret in sorted(path for path in state.secrets.iterdir() if path.is_file()):
        _private(secret, draft / contents.SECRETS / secret.name)
    site_files = _site_files(source.settings, draft)
    if inventory.file(state).is_file():
        _private(inventory.file(state), draft / inventory.file(state).name)
        parts.append("inventory")
    if (state.data / "alertmanager").is_dir():
        say("silences")
        _alertmanager(state, running, draft / "alertmanager")
        parts.append("alertmanager")
    if (state.data / "grafana" / GRAFANA).is_file():
        say("Grafana's database")
        _database(state.data / "grafana" / GRAFANA, draft / "grafana" / GRAFANA)
        parts.append("grafana")
    if (state.data / "prometheus").is_dir():
        say("series")
        series.copy(state.data / "prometheus", draft / "prometheus")
        parts.append("prometheus")
    found = contents.Contents(
        schema=contents.SCHEMA,
        created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        version=version("ds01-monitoring"),
        host=running.host if running else source.settings.site.host,
        demo=running.demo if running else False,
        site_files=site_files,
        parts=sorted(parts),
    )
    (draft / contents.FILE).write_text(found.text(), encoding="utf-8")
    return found


def _site_files(settings: Settings, draft: Path) -> dict[str, str]:
    saved = {}
    for number, path in enumerate(contents.secret_files(settings)):
        if path.is_file():
            saved[f"{contents.SITE}/{number}"] = str(path)
            _private(path, draft / contents.SITE / str(number))
    return saved


def _alertmanager(state: StateDir, running: Deployment | None, target: Path) -> None:
    """Its files; where it runs, the silences of this moment instead of those that it wrote last."""
    for name in ALERTMANAGER:
        if (state.data / "alertmanager" / name).is_file():
            _private(state.data / "alertmanager" / name, target / name)
    if running is not None:
        target.mkdir(exist_ok=True)
        (target / "silences").write_bytes(silences.encode(api.alertmanager(running).silences()))


def _database(source: Path, target: Path) -> None:
    """SQLite's own online copy: consistent while Grafana writes."""
    target.parent.mkdir(parents=True)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)


def _private(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)
