"""Names on the command line."""

from __future__ import annotations

import click


class NameType(click.ParamType):  # type: ignore[type-arg]  # Generic from click 8.2 on only.
    """The name of what is meant; empty, as a variable that is not set leaves it, it would widen what is done."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given; an empty one is refused."""
        if not str(value).strip():
            self.fail("it is empty; leave it out to mean all, or is a variable not set?", param, ctx)
        return str(value)


NAME = NameType()
