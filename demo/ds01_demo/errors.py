"""The one error that a person sees: what is wrong, and what to do."""

from __future__ import annotations


class DemoError(Exception):
    """Something that the person who starts the demo can mend; `hint` is the next step."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint
