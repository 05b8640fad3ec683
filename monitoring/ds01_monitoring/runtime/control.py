"""One command at a time changes what runs."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Say


@contextmanager
def alone(state: StateDir, say: Say) -> Iterator[None]:
    """Wait until no other command changes the stack: a second one would end what the first has just started."""
    state.run.mkdir(parents=True, exist_ok=True)
    with (state.run / "control.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another monitoring-manage to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
