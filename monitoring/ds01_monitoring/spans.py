"""Time spans on the command line."""

from __future__ import annotations

import click

from ds01_monitoring.config.types import duration_seconds


class DurationType(click.ParamType):  # type: ignore[type-arg]  # Generic from click 8.2 on only.
    """A time span such as `2d`, `90m` or `1h30m`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds; 0 and what is no duration are refused."""
        try:
            seconds = value if isinstance(value, int) else duration_seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("must be longer than zero", param, ctx)
        return seconds


SPAN = DurationType()
