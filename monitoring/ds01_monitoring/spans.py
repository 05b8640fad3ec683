"""Time spans on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01_monitoring.config.types import duration_seconds, window

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86400


class DurationType(click.ParamType):  # type: ignore[type-arg]  # Generic from click 8.2 on only.
    """A time span such as `2d`, `90m` or `1h30m`, of `longest` days at most, that `check` has passed on."""

    name = "duration"

    def __init__(self, longest: int, check: Callable[[str], str] = str) -> None:
        self.longest, self.check = longest, check

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds; 0, too much, and what is no duration are refused."""
        try:
            seconds = value if isinstance(value, int) else duration_seconds(self.check(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("must be longer than zero", param, ctx)
        if seconds > self.longest * DAY:
            self.fail(f"must not be longer than {self.longest}d", param, ctx)
        return seconds


SPAN = DurationType(longest=3660)
WINDOW = DurationType(longest=3660, check=window)
SILENCE = DurationType(longest=366)
"""What is to be quiet for ever belongs into monitoring.yaml: `alerts.notify`, `notify.users.exceptions`."""
