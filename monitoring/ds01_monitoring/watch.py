"""The live terminal view of `monitoring-status --watch`: made for 80 x 24 over plain SSH, larger where there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from ds01_monitoring.board import Alert, Board, Row

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-:=+*#"
LIGHT, PLAIN_LIGHT = "●", "*"
COLOURS = {"critical": "red", "warning": "yellow"}
ALERTS_AT_LEAST = 4
"""Lines that the alerts keep when there are more slots than the window has lines."""


class View:
    """A board as it fits into the window.

    Attributes:
        board: What is shown; None while nothing could be read.
        headline: The first line: which stack, and whether it is healthy.
        trouble: Why nothing, or nothing newer, could be read; empty when it could.
        below: The waste line, 0 to 1.
        warm: Temperatures in degrees Celsius from which on they are yellow and red.
    """

    def __init__(
        self, board: Board | None, *, headline: Text, trouble: str, below: float, warm: tuple[float, float]
    ) -> None:
        self.board = board
        self.headline = headline
        self.trouble = trouble
        self.below = below
        self.warm = warm

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Headline, slots, alerts; what does not fit is counted."""
        plain = not (console.encoding or "").lower().startswith("utf")
        yield self.headline
        if self.trouble:
            yield Text(self.trouble, style="red")
        if self.board is None:
            return
        room = (options.height or console.height) - 4 - self.trouble.count("\n") - bool(self.trouble)
        alerts = self.board.alerts
        for_alerts = min(max(ALERTS_AT_LEAST, room - len(self.board.rows)), len(alerts) or 1)
        rows = self.board.rows[: max(1, room - for_alerts)]
        yield self._slots(rows, plain=plain, hosts=len({row.host for row in self.board.rows}) > 1)
        if len(rows) < len(self.board.rows):
            yield Text(f"… {len(self.board.rows) - len(rows)} more slots in a taller window", style="dim")
        yield from self._alerts(alerts, for_alerts, plain=plain)

    def _slots(self, rows: Sequence[Row], *, plain: bool, hosts: bool) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
        table.add_column("Slot", no_wrap=True)
        table.add_column("Use", justify="right", no_wrap=True)
        table.add_column("20 min", no_wrap=True)
        table.add_column("Memory GiB", justify="right", no_wrap=True)
        table.add_column("°C" if not plain else "C", justify="right", no_wrap=True)
        table.add_column("Holder", no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column("Mark", no_wrap=True)
        for row in rows:
            name = f"{row.host}/{row.name}" if hosts else row.name
            table.add_row(Text(name), *self._readings(row, plain=plain), self._holder(row), self._mark(row))
        return table

    def _readings(self, row: Row, *, plain: bool) -> list[Text]:
        now = row.history[-1] if row.history else None
        busy = now is not None and now >= self.below
        use = Text("-" if now is None else f"{now:.0%}", style="green" if busy else "dim")
        line = Text(sparkline(row.history[-20:], PLAIN_BARS if plain else BARS), style="cyan")
        return [use, line, Text(_memory(row)), self._heat(row.temperature_celsius)]

    def _heat(self, celsius: float | None) -> Text:
        if celsius is None:
            return Text("-", style="dim")
        warning, critical = self.warm
        style = "red" if celsius >= critical else "yellow" if celsius >= warning else ""
        return Text(f"{celsius:.0f}", style=style)

    @staticmethod
    def _holder(row: Row) -> Text:
        if not row.holders:
            return Text("unknown" if row.holders is None else "free", style="dim")
        return Text(", ".join(name or "(no name)" for name in row.holders))

    @staticmethod
    def _mark(row: Row) -> Text:
        if not row.holders or row.wasted is None:
            return Text("")
        return Text("wasted", style="yellow") if row.wasted else Text("used", style="green")

    def _alerts(self, alerts: Sequence[Alert], lines: int, *, plain: bool) -> RenderResult:
        light = PLAIN_LIGHT if plain else LIGHT
        if not alerts:
            yield Text.assemble((light, "green"), " no alert fires")
            return
        shown = alerts if len(alerts) <= lines else alerts[: lines - 1]
        now = self.board.moment if self.board else 0
        for alert in shown:
            colour = COLOURS[alert.severity]
            line = Text.assemble(
                (light, colour), f" {alert.name} {alert.about} ", (_age(now - alert.since), "dim")
            )
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line
        if len(shown) < len(alerts):
            yield Text(f"… and {len(alerts) - len(shown)} more alerts", style="yellow")


def sparkline(values: Sequence[float | None], bars: str = BARS) -> str:
    """A character for each value 0 to 1; a blank where there is none."""
    top = len(bars) - 1
    return "".join(" " if value is None else bars[round(min(max(value, 0), 1) * top)] for value in values)


def _memory(row: Row) -> str:
    if row.memory_used_bytes is None:
        return "-"
    total = "" if row.memory_total_bytes is None else f"/{row.memory_total_bytes / 2**30:.0f}"
    return f"{row.memory_used_bytes / 2**30:.1f}{total}"


def _age(seconds: float) -> str:
    minutes = max(0.0, seconds) / 60
    if minutes < 60:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"
