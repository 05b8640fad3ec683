"""Whether every series and label that a rule or dashboard names can exist, and whether its matches can match."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ds01_monitoring.check.catalogue import Catalogue
from ds01_monitoring.check.findings import Finding, error, source_place, warning
from ds01_monitoring.check.panels import queries
from ds01_monitoring.context import JOBS
from ds01_monitoring.promql.labels import Inference, Labels
from ds01_monitoring.promql.nodes import Aggregation, Binary, Call, Node, Selector
from ds01_monitoring.promql.parse import PromqlError, parse
from ds01_monitoring.rules import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.rules import Rule
    from ds01_monitoring.tree import RenderedTree

HINT = "`monitoring-manage check` knows what the exporters export and the rules record; see docs/metrics.md"
_LABEL_IN_TEXT = re.compile(r"\$labels\.(\w+)|index \$labels \"(\w+)\"")
_QUERY_IN_TEXT = re.compile(r'\bquery\s+(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`)')
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NOT_UNDERSTOOD = "not understood, so its names were not looked at"
_PLAIN = re.compile(r"[\w|-]+")


def check(tree: RenderedTree) -> list[Finding]:
    """Findings about the rules and dashboards of a tree; each with the file and line to edit."""
    rules = list(read(tree.path))
    catalogue = Catalogue(rules, tree.path / "dcgm" / "counters.csv")
    findings = [finding for rule in rules for finding in _rule(tree, catalogue, rule)]
    for query in queries(tree.path):
        labels, problems = _expression(catalogue, query.expr)
        for label in _LEGEND.findall(query.legend):
            if labels is not None and not labels.has(label):
                problems.append((label, f"the legend names {label}, which the query's result does not have"))
        for needle, text in problems:
            problem = f"{query.title}: {text}"
            findings.append(_finding(tree, query.file, needle, problem, after=query.title))
    return findings


def _rule(tree: RenderedTree, catalogue: Catalogue, rule: Rule) -> Iterator[Finding]:
    labels, problems = _expression(catalogue, rule.expr)
    for text in [*map(str, rule.annotations.values()), *map(str, rule.labels.values())]:
        for match in _LABEL_IN_TEXT.finditer(text):
            name = match[1] or match[2]
            if labels is not None and not labels.has(name):
                problems.append(
                    (name, f"the text names the label {name}, which the expression's result does not have")
                )
        for match in _QUERY_IN_TEXT.finditer(text):
            inner = (match[1] or "").replace('\\"', '"') or match[2] or ""
            if "%" not in inner:
                problems += _expression(catalogue, inner)[1]
    for needle, problem in dict.fromkeys(problems):
        yield _finding(tree, rule.file, needle, f"{rule.name}: {problem}", after=rule.name)


def _expression(catalogue: Catalogue, expr: str) -> tuple[Labels | None, list[tuple[str, str]]]:
    """The labels of an expression's result (None for a scalar), and what is wrong with it."""
    try:
        node = parse(expr)
    except PromqlError as problem:
        return None, [("", f"{_NOT_UNDERSTOOD}: {problem}")]
    inference = Inference(catalogue.lookup)
    labels = inference.infer(node)
    return labels, [*inference.problems, *_jobs(node)]


def _jobs(node: Node) -> Iterator[tuple[str, str]]:
    """Jobs that are selected and do not exist."""
    if isinstance(node, Selector):
        for label, operator, value in node.matchers:
            if label == "job" and operator in {"=", "=~"} and _PLAIN.fullmatch(value):
                for job in value.split("|"):
                    if job not in JOBS:
                        yield job, f"there is no job {job}; there are {', '.join(JOBS)}"
    elif isinstance(node, Binary):
        yield from _jobs(node.left)
        yield from _jobs(node.right)
    elif isinstance(node, (Aggregation, Call)):
        for argument in node.args:
            yield from _jobs(argument)


def _finding(tree: RenderedTree, file: str, needle: str, problem: str, *, after: str) -> Finding:
    place = source_place(tree, file, needle, after=after)
    return (
        warning(problem, place=place)
        if _NOT_UNDERSTOOD in problem
        else error(problem, place=place, hint=HINT)
    )
