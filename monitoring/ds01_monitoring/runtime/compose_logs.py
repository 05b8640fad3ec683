"""Lines of the containers and, between them, of the programs beside them on the host."""

from __future__ import annotations

import queue
import subprocess  # noqa: TID251 - only its constants; command.spawn starts the process.
import threading
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.runtime import engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCREENFUL = 20


def lines(
    file: Path, service: str | None, beside: Iterator[str], *, tail: int | None, follow: bool
) -> Iterator[str]:
    """What `docker compose logs` prints, and the lines of `beside`: after it, or with `follow` as they come."""
    count = SCREENFUL if tail is None else tail
    arguments = [
        "docker",
        *engine.compose_arguments(file),
        *("logs", "--no-color", "--tail", str(count)),
        *(["--follow"] if follow else []),
        *(["--no-log-prefix", service] if service else []),
    ]
    if not follow:
        yield from engine.docker(*arguments[1:]).splitlines()
        yield from beside
        return
    yield from _both(arguments, beside)


def _both(arguments: list[str], beside: Iterator[str]) -> Iterator[str]:
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    process = command.spawn(
        arguments, env=engine.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def read() -> None:
        for line in process.stdout or ():
            found.put(line.decode(errors="replace").rstrip("\n"))
        found.put(None)

    def pass_on() -> None:
        for line in beside:
            found.put(line)

    try:
        for work in (read, pass_on):
            # Daemons: the reader of these lines ends it, and nothing is lost by that.
            threading.Thread(target=work, daemon=True).start()
        while (line := found.get()) is not None:
            yield line
    finally:
        process.terminate()
        process.wait()
