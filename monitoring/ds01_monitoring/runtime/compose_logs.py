"""Lines of the containers and, between them, of the programs beside them on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_monitoring.runtime import engine, streams

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
    containers = streams.Printed(arguments, env=engine.environment())
    try:
        yield from streams.merged(containers, beside)
    finally:
        containers.end()
