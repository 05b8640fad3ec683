"""The one exception that a person is meant to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """Something a person can mend: what is wrong, where, and what to do next.

    Attributes:
        problem: What is wrong, in one line.
        hint: The next step; empty only where there is none.
        place: File and line, setting or address that it is about.
        exit_code: 1 failed or unhealthy, 2 wrong usage or configuration.
    """

    def __init__(self, problem: str, *, hint: str = "", place: str = "", exit_code: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.place = place
        self.exit_code = exit_code

    def __str__(self) -> str:
        head = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class ConfigError(UserError):
    """A mistake in what the operator wrote; ends with exit code 2.

    Attributes:
        others: Further mistakes, told after this one.
    """

    def __init__(self, problem: str, *, hint: str = "", place: str = "") -> None:
        super().__init__(problem, hint=hint, place=place, exit_code=2)
        self.others: list[ConfigError] = []

    def __str__(self) -> str:
        return "\nerror: ".join([super().__str__(), *map(str, self.others)])

    @staticmethod
    def together(mistakes: Iterable[ConfigError]) -> ConfigError:
        """The first of them, which tells the others."""
        first, *first.others = mistakes
        return first
