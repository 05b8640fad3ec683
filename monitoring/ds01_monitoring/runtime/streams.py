"""Lines of several sources at once, as they come."""

from __future__ import annotations

import queue
import subprocess  # noqa: TID251 - only its constants; command.spawn starts the process.
import threading
from typing import TYPE_CHECKING

from ds01_monitoring import command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class Printed:
    """What a program prints, standard error included, line by line until it ends.

    Args:
        words: The program and its arguments.
        env: Its whole environment; the caller's by default.
        prefix: Stands before each line.

    Raises:
        FileNotFoundError: There is no such program.
    """

    def __init__(
        self, words: Sequence[str], *, env: Mapping[str, str] | None = None, prefix: str = ""
    ) -> None:
        self.prefix = prefix
        self._process = command.spawn(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def __iter__(self) -> Iterator[str]:
        for line in self._process.stdout or ():
            yield self.prefix + line.decode(errors="replace").rstrip("\n")

    def end(self) -> int:
        """End the program if it runs still; its exit code, negative where it was this that ended it."""
        self._process.terminate()
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


def merged(first: Iterable[str], *beside: Iterable[str]) -> Iterator[str]:
    """The lines of all sources as they come; ends with the first source."""
    found: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def pass_on(lines: Iterable[str], *, last: bool) -> None:
        try:
            for line in lines:
                found.put(line)
        finally:
            if last:
                found.put(None)

    for lines in (first, *beside):
        # Daemons: the reader of these lines ends it, and nothing is lost by that.
        threading.Thread(target=pass_on, args=(lines,), kwargs={"last": lines is first}, daemon=True).start()
    while (line := found.get()) is not None:
        yield line
