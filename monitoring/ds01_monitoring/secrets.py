"""The stack's own passwords: generated once, files with mode 0600, owned by whom the servers run as."""

from __future__ import annotations

import os
import secrets as randomness
from typing import TYPE_CHECKING

from ds01_monitoring.files import write_atomically
from ds01_monitoring.runtime import owner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir

USER = "ds01"
BCRYPT_ROUNDS = 10
"""exporter-toolkit remembers a verified password, so this is paid once per process, not per scrape."""


def ensure(state: StateDir, env: Mapping[str, str] = os.environ) -> None:
    """Create what is missing in `secrets/`; change nothing that is there and fits.

    $GRAFANA_ADMIN_PASSWORD, where set, becomes Grafana's password.
    """
    folder = state.secrets
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _adopt(folder, state)
    password = _keep_or_make(folder / "http_password", state)
    _web_config(folder / "web-config.yml", password, state)
    netrc = "".join(
        f"machine {host} login {USER} password {password}\n" for host in ("127.0.0.1", "localhost")
    )
    _put(folder / "netrc", netrc, state)
    given = env.get("GRAFANA_ADMIN_PASSWORD")
    if given:
        _put(folder / "grafana_admin_password", given, state)
    else:
        _keep_or_make(folder / "grafana_admin_password", state)


def http_password(state: StateDir) -> str:
    """The password of user `ds01` on every port of the stack.

    Raises:
        OSError: It cannot be read, or nothing was rendered yet.
    """
    return (state.secrets / "http_password").read_text(encoding="utf-8").strip()


def grafana_password_file(settings: Settings, state: StateDir, env: Mapping[str, str] = os.environ) -> Path:
    """The file that holds Grafana's admin password: the environment's, the site's, or the generated one."""
    if settings.grafana.admin_password_file and not env.get("GRAFANA_ADMIN_PASSWORD"):
        return settings.grafana.admin_password_file
    return state.secrets / "grafana_admin_password"


def _keep_or_make(path: Path, state: StateDir) -> str:
    kept = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if not kept:
        kept = randomness.token_urlsafe(24)
        _put(path, kept + "\n", state)
    elif path.stat().st_mode & 0o177:
        path.chmod(0o600)
    return kept


def _web_config(path: Path, password: str, state: StateDir) -> None:
    """Exporter-toolkit's file; made anew only when it does not fit the password, so that its bytes stay."""
    import bcrypt  # noqa: PLC0415 - 30 ms that only this needs.

    if path.exists() and any(
        bcrypt.checkpw(password.encode(), line.partition('"')[2].rstrip('"').encode())
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"  {USER}: ")
    ):
        return
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(BCRYPT_ROUNDS)).decode()
    _put(path, f'basic_auth_users:\n  {USER}: "{digest}"\n', state)


def _put(path: Path, text: str, state: StateDir) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text and not path.stat().st_mode & 0o177:
        return
    write_atomically(path, text, mode=0o600)
    _adopt(path, state)


def _adopt(path: Path, state: StateDir) -> None:
    """Give the file to whom the servers run as, when root writes it."""
    if os.geteuid() == 0:
        os.chown(path, *owner.ids(state))
