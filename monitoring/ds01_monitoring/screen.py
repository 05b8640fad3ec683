"""Steps with progress, for commands that take a while."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARKS = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "pending": "[yellow]…[/]", "absent": "[dim]○[/]"}
PLAIN_MARKS = {"ok": "[green]+[/]", "failed": "[red]x[/]", "pending": "[yellow]~[/]", "absent": "[dim]-[/]"}
TOLD_AFTER_SECONDS = 1.0


class Screen:
    """Standard output as a person reads it: colours and a spinner on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        utf8 = (self.console.encoding or "").lower().startswith("utf")
        self.marks = MARKS if utf8 else PLAIN_MARKS

    def line(self, text: str = "") -> None:
        """One line; rich's markup works in it."""
        self.console.print(text)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step that is shown while it runs, and with its result and seconds when it has ended."""
        began = time.monotonic()
        step = Step(title)
        try:
            with self.console.status(escape(title), spinner="line") as status:
                step.show = lambda text: status.update(escape(text))
                yield step
        except BaseException:
            self.line(f"{self.marks['failed']} {escape(title)}")
            raise
        seconds = time.monotonic() - began
        took = f" [dim]({seconds:.1f} s)[/]" if seconds >= TOLD_AFTER_SECONDS else ""
        self.line(f"{self.marks['ok']} {escape(step.result or title)}{took}")


class Step:
    """What a running step says of itself."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.result = ""
        self.show: Callable[[str], None] = _unseen  # Replaced while it is on screen.

    def say(self, text: str) -> None:
        """Show what is being done at the moment."""
        self.show(f"{self.title}: {text}")


def _unseen(_text: str) -> None:
    """What is said while nothing is on screen."""
