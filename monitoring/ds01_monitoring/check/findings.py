"""What a check found, with its place and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ds01_monitoring.tree import RenderedTree


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`) or doubtful (`warning`).

    Attributes:
        level: An error keeps a tree from being put in force.
        problem: What is wrong, in one line.
        place: File and line, or setting.
        hint: The next step.
        untested: A tool was missing, so that something could not be looked at.
    """

    level: Literal["error", "warning"]
    problem: str
    place: str = ""
    hint: str = ""
    untested: bool = False

    def __str__(self) -> str:
        head = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{self.level}: {head}" + (f"\n  hint: {self.hint}" if self.hint else "")


def error(problem: str, *, place: str = "", hint: str = "") -> Finding:
    """A finding that keeps the tree from being put in force."""
    return Finding("error", problem, place, hint)


def warning(problem: str, *, place: str = "", hint: str = "", untested: bool = False) -> Finding:
    """A finding that a person should know of."""
    return Finding("warning", problem, place, hint, untested)


def source_place(tree: RenderedTree, name: str, needle: str = "", *, after: str = "") -> str:
    """Where a person edits what the rendered file `name` says: its template, and the line that holds `needle`.

    The first such line at or below the one that holds `after`, where there is one. The rendered
    file itself, where the template makes the text up.
    """
    source = tree.sources.get(name)
    candidates = [source, tree.path / name] if source else [tree.path / name]
    for path in candidates:
        line = _line(path.read_text(encoding="utf-8").splitlines(), needle, after)
        if line:
            return f"{path}:{line}"
    return str(candidates[0])


def _line(lines: list[str], needle: str, after: str) -> int:
    """Number of the line wanted, 0 where there is none."""
    word = re.compile(rf"(?<![\w:]){re.escape(needle)}(?![\w:])")
    begin = next((number for number, line in enumerate(lines) if after and after in line), -1)
    order = [*range(max(begin, 0), len(lines)), *range(max(begin, 0))]
    found = next((number for number in order if needle and word.search(lines[number])), begin)
    return found + 1
