"""What a benchmark hands in, and how it is timed."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

RUNS = 20


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was measured, with the size of the case.
        value: the median, in `unit`.
        limit: the value that it must not be above, or below where `at_least` is set; None for no promise.
        runs: how many measurements the median is of.
        note: what one has to know to judge it, such as what a ratio is of.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    runs: int = RUNS
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def median_seconds(
    action: Callable[[], object], *, runs: int = RUNS, before: Callable[[], object] = lambda: None
) -> float:
    """Time `action` `runs` times, calling `before` ahead of each without timing it; return the median in seconds."""
    taken = []
    for _ in range(runs):
        before()
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| measured | median | promised | | runs | |", "|---|---:|---:|---|---:|---|"]
    for row in rows:
        promised = "" if row.limit is None else f"{'≥' if row.at_least else '≤'} {row.limit:g} {row.unit}"
        verdict = "" if row.limit is None else "kept" if row.kept else "MISSED"
        lines.append(
            f"| {row.name} | {row.value:.3g} {row.unit} | {promised} | {verdict} | {row.runs} | {row.note} |"
        )
    return "\n".join(lines)
