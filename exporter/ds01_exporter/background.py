"""Threads that keep a source up to date, so that a scrape waits for none of them."""

from __future__ import annotations

import threading
from typing import Protocol


class Background(Protocol):
    """A source with threads of its own."""

    def start(self) -> None:
        """Start them."""

    def stop(self) -> None:
        """Ask them to end; they are daemons, so that a hung one holds up nothing."""


class Ticker:
    """Calls `tick` now and then every `interval_seconds`, or sooner when `wake` is called, until stopped."""

    def __init__(self, name: str, interval_seconds: float) -> None:
        self._name = name
        self._interval_seconds = interval_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._wake.set()

    def wake(self) -> None:
        """Have the next tick come at once."""
        self._wake.set()

    @property
    def stopping(self) -> bool:
        """Whether the thread was asked to end."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        self._stopping.wait(seconds)

    def tick(self) -> None:
        """What is to be done each time; it must not raise."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self.tick()
            self._wake.wait(self._interval_seconds)
