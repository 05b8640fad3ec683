"""Infers which labels the result of an expression can have, and what in it can never be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_monitoring.promql.nodes import Aggregation, Binary, Call, Node, Scalar, Selector

if TYPE_CHECKING:
    from collections.abc import Callable

SCALAR_FUNCTIONS = frozenset({"time", "scalar", "pi"})
KEEPING_AGGREGATIONS = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
SET_OPERATORS = frozenset({"and", "or", "unless"})


@dataclass(frozen=True)
class Labels:
    """The labels of an instant vector.

    Attributes:
        possible: Those that can be there; None where that is unknown.
        required: Those that are there on every series.
    """

    possible: frozenset[str] | None
    required: frozenset[str] = frozenset()

    def has(self, label: str) -> bool:
        """Whether the label can be there."""
        return self.possible is None or label in self.possible


UNKNOWN = Labels(None)
NONE = Labels(frozenset())


class Inference:
    """Walks expressions; `problems` collects the name in question, where it is one, and what is wrong in plain words.

    Args:
        lookup: The labels of a series by its name; None when nobody makes it.
    """

    def __init__(self, lookup: Callable[[str], Labels | None]) -> None:
        self._lookup = lookup
        self.problems: list[tuple[str, str]] = []

    def infer(self, node: Node) -> Labels | None:
        """The labels of the result; None for a scalar."""
        if isinstance(node, Scalar):
            return None
        if isinstance(node, Selector):
            return self._selector(node)
        if isinstance(node, Aggregation):
            return self._aggregation(node)
        if isinstance(node, Binary):
            return self._binary(node)
        return self._call(node)

    def _problem(self, name: str, text: str) -> None:
        if (name, text) not in self.problems:
            self.problems.append((name, text))

    def _selector(self, node: Selector) -> Labels:
        if not node.name:
            return UNKNOWN
        labels = self._lookup(node.name)
        if labels is None:
            self._problem(node.name, f"nobody exports or records {node.name}")
            return UNKNOWN
        for label, _, _ in node.matchers:
            if label != "__name__" and not labels.has(label):
                self._problem(label, f"{node.name} has no label {label}; it has {_listed(labels)}")
        certain = {label for label, operator, value in node.matchers if operator == "=" and value}
        return Labels(labels.possible, labels.required | certain)

    def _aggregation(self, node: Aggregation) -> Labels:
        results = [self.infer(argument) for argument in node.args]
        operand = results[-1] if results else None
        if operand is None:
            return NONE
        for label in node.labels:
            if node.keep and not operand.has(label):
                self._problem(
                    label,
                    f"{node.operator} by ({label}): there is no such label; there are {_listed(operand)}",
                )
        if node.operator in KEEPING_AGGREGATIONS:
            return operand
        chosen = frozenset(node.labels)
        if node.keep:
            grouped = Labels(_narrowed(operand.possible, chosen), operand.required & chosen)
        else:
            grouped = Labels(
                None if operand.possible is None else operand.possible - chosen, operand.required - chosen
            )
        if node.operator == "count_values" and isinstance(node.args[0], Scalar):
            return _with(grouped, node.args[0].text[1:-1], certain=True)
        return grouped

    def _binary(self, node: Binary) -> Labels | None:
        left, right = self.infer(node.left), self.infer(node.right)
        if left is None or right is None:
            return left or right
        self._matchable(node, left, right)
        if node.operator == "or":
            both = None if left.possible is None or right.possible is None else left.possible | right.possible
            return Labels(both, left.required & right.required)
        if node.operator in SET_OPERATORS:
            return left
        return self._matched(node, left, right)

    def _matchable(self, node: Binary, left: Labels, right: Labels) -> None:
        """Report a match on labels of which one side always has one that the other never has."""
        if node.operator == "or":
            return
        matching = node.matching
        for mine, other, side in ((left, right, "right"), (right, left, "left")):
            compared = (
                mine.required & set(matching.labels) if matching.on else mine.required - set(matching.labels)
            )
            lacking = [label for label in sorted(compared) if not other.has(label)]
            if lacking:
                names = ", ".join(lacking)
                self._problem(
                    "",
                    f"`{node.operator}` never matches: its {side} side has no label {names}, the other side always has",
                )
        if matching.on:
            for label in matching.labels:
                if not left.has(label) and not right.has(label):
                    self._problem(label, f"on ({label}): neither side of `{node.operator}` has that label")

    def _matched(self, node: Binary, left: Labels, right: Labels) -> Labels:
        matching = node.matching
        if matching.group:
            many, one = (left, right) if matching.group == "group_left" else (right, left)
            for label in matching.include:
                if not one.has(label):
                    self._problem(label, f"{matching.group} ({label}): the one side has {_listed(one)}")
                many = _with(many, label, certain=label in one.required)
            return many
        named = frozenset(matching.labels)
        if matching.on:
            return Labels(_narrowed(left.possible, named), left.required & named)
        return Labels(None if left.possible is None else left.possible - named, left.required - named)

    def _call(self, node: Call) -> Labels | None:
        name, args = node.function, node.args
        results = [self.infer(argument) for argument in args]
        vector = next((result for result in results if result is not None), None)
        if name in SCALAR_FUNCTIONS:
            return None
        if name in {"absent", "absent_over_time"} and isinstance(args[0], Selector):
            equal = frozenset(label for label, operator, _ in args[0].matchers if operator == "=")
            return Labels(equal, equal)
        if vector is None or name == "vector":
            return NONE
        if name in {"label_replace", "label_join"}:
            return self._relabelled(node, vector)
        if name == "histogram_quantile":
            possible = None if vector.possible is None else vector.possible - {"le"}
            return Labels(possible, vector.required - {"le"})
        return vector

    def _relabelled(self, node: Call, vector: Labels) -> Labels:
        texts = [argument.text[1:-1] if isinstance(argument, Scalar) else "" for argument in node.args[1:]]
        target = texts[0]
        sources = [texts[2]] if node.function == "label_replace" else texts[2:]
        for source in filter(None, sources):
            if not vector.has(source):
                self._problem(
                    source, f"{node.function}: there is no label {source}; there are {_listed(vector)}"
                )
        constant = node.function == "label_replace" and not sources[0] and bool(texts[1])
        return _with(
            vector, target, certain=constant or all(source in vector.required for source in sources if source)
        )


def _narrowed(possible: frozenset[str] | None, chosen: frozenset[str]) -> frozenset[str]:
    return chosen if possible is None else possible & chosen


def _with(labels: Labels, label: str, *, certain: bool) -> Labels:
    possible = None if labels.possible is None else labels.possible | {label}
    required = labels.required | {label} if certain else labels.required
    return Labels(possible, required)


def _listed(labels: Labels) -> str:
    return ", ".join(sorted(labels.possible or ())) or "none"
