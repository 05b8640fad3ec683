"""Reading PromQL: every construct that rules and dashboards use, and the labels that come out."""

from __future__ import annotations

import pytest

from ds01_monitoring.promql.labels import Inference, Labels
from ds01_monitoring.promql.nodes import Binary, Selector
from ds01_monitoring.promql.parse import PromqlError, parse

SERIES = {
    "a": Labels(frozenset({"host", "job", "x", "y"}), frozenset({"host", "job"})),
    "b": Labels(frozenset({"host", "job", "x", "z"}), frozenset({"host", "job"})),
    "flat": Labels(frozenset()),
}


def infer(expr):
    """The labels of an expression's result and what is wrong with it."""
    inference = Inference(SERIES.get)
    labels = inference.infer(parse(expr))
    return labels, [text for _, text in inference.problems]


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        ("a", "host job x y"),
        ('a{x="1", y!~"2.*",}[5m]', "host job x y"),
        ("-rate(a[5m] offset 1h)", "host job x y"),
        ("max_over_time(a[1h:5m] @ end())", "host job x y"),
        ("sum by (x) (a)", "x"),
        ("sum(a) by (x, y)", "x y"),
        ("sum without (job) (a)", "host x y"),
        ("sum(a)", ""),
        ("topk by (x) (3, a)", "host job x y"),
        ("quantile by (x) (0.95, a)", "x"),
        ('count_values by (x) ("code", a)', "code x"),
        ("a * on (host, x) group_left (z) b", "host job x y z"),
        ("a * on (host, x) group_right b", "host job x z"),
        ("a / on (host) b", "host"),
        ("a / ignoring (y, z) b", "host job x"),
        ("a and on (host) b", "host job x y"),
        ("a or b", "host job x y z"),
        ("a unless on (host) (b > 1)", "host job x y"),
        ("a > bool 2 ^ 3 ^ 1", "host job x y"),
        ("2 * a % 5 - 1", "host job x y"),
        ('label_replace(a, "new", "$1", "x", "(.*)")', "host job new x y"),
        ('label_join(a, "new", "-", "x", "y")', "host job new x y"),
        ('absent(a{job="q", x=~"1|2"})', "job"),
        ("vector(1)", ""),
        ("histogram_quantile(0.9, sum by (job, x) (a))", "job x"),
        ("sum by (x) (increase(a[$__range])) / $__range_s", "x"),
        ("a # a comment\n  + on (x) group_left b", "host job x y"),
        ('{"a", x="1"}', "host job x y"),
    ],
)
def test_the_labels_of_a_result(expr, labels):
    """Labels come out as Prometheus makes them, and nothing is found wrong."""
    found, problems = infer(expr)

    assert problems == []
    assert " ".join(sorted(found.possible)) == labels


@pytest.mark.parametrize("expr", ["1 + 2", "time() - 5m", "scalar(a) * 2", "Inf"])
def test_scalars_have_no_labels(expr):
    """A number is no vector."""
    assert infer(expr) == (None, [])


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("c", "nobody exports or records c"),
        ('a{z="1"}', "a has no label z"),
        ("sum by (z) (a)", "sum by (z): there is no such label"),
        ("a * on (nix) b", "on (nix): neither side of `*` has that label"),
        ("a * on (host) group_left (q) b", "group_left (q): the one side has"),
        ('label_replace(a, "n", "$1", "z", "(.*)")', "label_replace: there is no label z"),
        ("a > sum(b)", "`>` never matches: its right side has no label host, job, the other"),
        ('a{y="1"} / b', "`/` never matches: its right side has no label y"),
        ('a{y="1"} / ignoring (y) b{z="2"}', "`/` never matches: its left side has no label z"),
        ("sum by (x) (a) and a", "`and` never matches: its left side has no label host"),
        ("absent(a) and on (host) b", "`and` never matches: its left side has no label host"),
    ],
)
def test_what_can_never_be(expr, problem):
    """Names that nobody makes, and matches of which one side lacks a label that the other always has."""
    assert any(text.startswith(problem) for text in infer(expr)[1]), infer(expr)[1]


def test_operators_bind_as_in_prometheus():
    """`or` is weakest, then `and`, comparisons, sums, products; powers bind to the right."""
    node = parse("a or b and a == b + a * b")

    assert isinstance(node, Binary)
    assert (node.operator, node.right.operator) == ("or", "and")
    assert node.right.right.operator == "=="
    assert node.right.right.right.right == Binary("*", Selector("a"), Selector("b"))


@pytest.mark.parametrize("expr", ["", "a b", "sum(", "a{x}", "a[5m", "a ~ b", ")"])
def test_what_is_no_promql_is_refused(expr):
    """The parser says so instead of guessing."""
    with pytest.raises(PromqlError):
        parse(expr)
