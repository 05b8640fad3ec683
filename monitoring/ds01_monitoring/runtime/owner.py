"""As whom containers run: the owner of the state directory, and never root."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01_monitoring.paths import StateDir

USER = "ds01-monitoring"
"""The system user that `monitoring-manage install` makes."""

NOBODYS_ID = 61101
"""Where there is no such user: a number that neither distributions nor systemd give away (UIDS-GIDS in systemd's
documentation: 60706 to 61183 are unused), and that, unlike 65534, no other program runs as."""


def ids(state: StateDir) -> tuple[int, int]:
    """User and group of the containers: the state directory's owner, or an unprivileged one where that is root."""
    try:
        found = state.root.stat()
        uid, gid = found.st_uid, found.st_gid
    except FileNotFoundError:
        uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return uid, gid
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return NOBODYS_ID, NOBODYS_ID
    return user.pw_uid, user.pw_gid


def hand_over(state: StateDir, folders: tuple[Path, ...]) -> None:
    """Make the containers' user the owner of the state directory, its secrets and the servers' data.

    Only root can; anybody else's state directory is their own already. What the native runtime wrote as root
    before becomes readable for the containers by this.
    """
    if os.geteuid() != 0:
        return
    uid, gid = ids(state)
    give(state.root, state.secrets, *state.secrets.glob("*"), uid=uid, gid=gid)
    hand_over_data(folders, uid, gid)


def hand_over_data(folders: Iterable[Path], uid: int, gid: int) -> None:
    """Make a user the owner of folders and of all that is in them; only root can."""
    for folder in folders:
        for base, _names, files in os.walk(folder):
            give(Path(base), *(Path(base) / name for name in files), uid=uid, gid=gid)


def give(*paths: Path, uid: int, gid: int) -> None:
    """Make a user the owner of what is there; links are given themselves, never followed."""
    for path in paths:
        with suppress(
            FileNotFoundError
        ):  # A running server removes files of its own; secrets may not be made yet.
            found = path.lstat()
            if (found.st_uid, found.st_gid) != (uid, gid):
                os.chown(path, uid, gid, follow_symlinks=False)
