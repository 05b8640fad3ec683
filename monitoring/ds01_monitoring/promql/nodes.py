"""The parts of a PromQL expression."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class Scalar:
    """A number, a string, a duration, or a variable of Grafana's in the place of one."""

    text: str


@dataclass(frozen=True)
class Selector:
    """A vector or range selector; `name` is empty where only labels select."""

    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    """A function call."""

    function: str
    args: tuple[Node, ...]


@dataclass(frozen=True)
class Aggregation:
    """An aggregation; `keep` says whether `labels` are those of `by` or those of `without`."""

    operator: str
    args: tuple[Node, ...]
    keep: bool
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Matching:
    """How two vectors are matched: `on` or `ignoring` labels, and the labels taken from the one side."""

    on: bool = False
    labels: tuple[str, ...] = ()
    group: str = ""
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class Binary:
    """Two operands and what is done with them; the `matching` counts where both are vectors."""

    operator: str
    left: Node
    right: Node
    matching: Matching = field(default_factory=Matching)
    bool_result: bool = False


Node = Union[Scalar, Selector, Call, Aggregation, Binary]  # noqa: UP007 - evaluated when the module loads on 3.10.
