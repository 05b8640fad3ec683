"""What is known about how each collector is doing, and one log line whenever that changes."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ds01_exporter.metrics import family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

log = logging.getLogger("ds01_exporter")

LONGEST = 500
"""Characters of a message: a key of a broken file may have millions."""


class CollectorError(Exception):
    """A source cannot be read.

    Attributes:
        problem: what is wrong, in words that stay the same while the problem does: a change is logged.
        detail: what may differ each time, such as a position in a file.
    """

    def __init__(self, problem: str, detail: str = "") -> None:
        self.problem = _one_line(problem)
        self.detail = _one_line(detail)
        super().__init__(self.problem, self.detail)


def _one_line(text: str) -> str:
    """Foreign text that can neither forge a line of the log nor break its encoding, at most LONGEST characters."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}…"


class Health:
    """The state of one collector; `success` is None until it has run once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.success: bool | None = None
        self.duration_seconds: float | None = None
        self.last_success: float | None = None
        self._problem: str | None = None
        self._lock = threading.Lock()

    def succeeded(self, duration_seconds: float) -> None:
        """Note a reading that went well; logged when the one before it did not."""
        with self._lock:
            if self.success is False:
                log.info("%s: works again", self.name)
            self.success, self._problem = True, None
            self.duration_seconds, self.last_success = duration_seconds, time.time()

    def failed(self, error: CollectorError, duration_seconds: float, *, traceback: bool = False) -> None:
        """Note a reading that failed; logged when the one before it went well, or failed otherwise."""
        with self._lock:
            if self._problem != error.problem:
                detail = f" ({error.detail})" if error.detail else ""
                log.warning("%s: %s%s", self.name, error.problem, detail, exc_info=traceback)
            self.success, self._problem = False, error.problem
            self.duration_seconds = duration_seconds

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Time the body and note how it ended; no exception leaves it.

        An exception other than `CollectorError` is a mistake in this program: it is logged with its traceback,
        once, and the collector counts as failed.
        """
        start = time.perf_counter()
        try:
            yield
        except CollectorError as error:
            self.failed(error, time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - one collector's mistake must not cost the others
            mistake = CollectorError(f"a mistake in this program: {type(error).__name__}")
            self.failed(mistake, time.perf_counter() - start, traceback=True)
        else:
            self.succeeded(time.perf_counter() - start)


def health_families(healths: Iterable[Health]) -> Iterator[Metric]:
    """Yield the series about the collectors that have run."""
    known = [health for health in healths if health.success is not None]
    yield family("ds01_collector_success", (((one.name,), float(one.success or 0)) for one in known))
    yield family(
        "ds01_collector_duration_seconds",
        (((one.name,), one.duration_seconds) for one in known if one.duration_seconds is not None),
    )
    yield family(
        "ds01_collector_last_success_timestamp_seconds",
        (((one.name,), one.last_success) for one in known if one.last_success is not None),
    )
