"""Columns of text for the terminal, and values as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right, as numbers are."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number with its unit, or a dash where it is unknown."""
    return UNKNOWN if value is None else f"{value:.{digits}f}{unit}"


def gibibytes(value: float | None) -> str:
    """Bytes as GiB with one digit."""
    return number(None if value is None else value / 1024**3, 1)


def duration(seconds: float) -> str:
    """Seconds as "1h02m", "3m05s" or "12.3s"."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
