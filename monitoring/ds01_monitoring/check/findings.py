"""What a check found, with its place and what to do."""

from __future__ import annotations

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


def source_place(tree: RenderedTree, name: str, needle: str = "") -> str:
    """Where a person edits what the rendered file `name` says: its template, and the line that holds `needle`.

    The rendered file itself, where the template makes the text up.
    """
    source = tree.sources.get(name)
    candidates = [source, tree.path / name] if source else [tree.path / name]
    for path in candidates:
        if not needle:
            return str(path)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if needle in line:
                return f"{path}:{number}"
    return str(candidates[-1])
