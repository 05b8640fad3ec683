"""Our programs that systemd runs on this machine instead of the stack: their journal, and a restart."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.install.place import UNITS
from ds01_monitoring.runtime.streams import Printed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ds01_monitoring.deployment import Deployment


NAMES = ("ds01-exporter", "gpu-telemetry")
SCREENFUL = 20
SECONDS = 60


def beside(running: Deployment, services: Collection[str]) -> list[str]:
    """What belongs to a stack and is a unit here; `services` are those that the stack runs itself."""
    if running.demo:  # It simulates them.
        return []
    return [name for name in NAMES if name in running.addresses and name not in services and installed(name)]


def installed(name: str) -> bool:
    """Whether this machine has a unit of that name."""
    return (UNITS / f"{name}.service").exists()


def state(name: str) -> str:
    """What systemd says of a unit in one word: `active`, `failed`, `inactive`, …."""
    said = command.run(["systemctl", "is-active", f"{name}.service"], timeout=SECONDS, check=False).stdout
    return (said.split() or ["unknown"])[0]


def lines(name: str, *, tail: int | None, prefix: str = "") -> Iterator[str]:
    """The last lines of a unit's journal, and no more.

    Raises:
        UserError: It cannot be read; says why.
    """
    done = command.run(_words(name, tail), timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise _unreadable(name, done.stdout)
    yield from (prefix + line for line in done.stdout.splitlines())


def follow(name: str, *, prefix: str = "") -> Printed:
    """The last lines of a unit's journal and every further one; the caller ends it.

    Raises:
        UserError: journalctl is missing.
    """
    return Printed([*_words(name, None), "--follow"], prefix=prefix)


def restart(name: str) -> None:
    """Restart a unit.

    Raises:
        UserError: This is not root, or systemd refuses.
    """
    if os.geteuid() != 0:
        raise UserError(f"only root can restart {name}.service", hint=f"sudo systemctl restart {name}")
    command.run(["systemctl", "restart", f"{name}.service"], timeout=SECONDS)


def _words(name: str, tail: int | None) -> list[str]:
    if shutil.which("journalctl") is None:
        raise _unreadable(name, "the program journalctl is not here")
    count = SCREENFUL if tail is None else tail
    options = ["--lines", str(count), "--no-pager", "--output", "short-iso"]
    return ["journalctl", "--unit", f"{name}.service", *options]


def _unreadable(name: str, said: str) -> UserError:
    words = [line.strip() for line in said.splitlines() if line.strip()][-1:] or ["journalctl gave no reason"]
    return UserError(
        f"systemd runs {name}, and its journal cannot be read: {words[0]}",
        hint=f"sudo journalctl -u {name}; without journalctl, look where this machine's log service writes",
    )
