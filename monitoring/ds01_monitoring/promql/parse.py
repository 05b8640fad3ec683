"""Parses PromQL, with Grafana's variables where it allows numbers and durations."""

from __future__ import annotations

import re
from typing import NamedTuple

from ds01_monitoring.promql.nodes import Aggregation, Binary, Call, Matching, Node, Scalar, Selector

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<variable>\$\{[^}]*\}|\$\w+|\[\[\w+\]\])
    |(?P<number>(?:\d+(?:ms|[smhdwy]))+|0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<operator>==|!=|=~|!~|<=|>=|[-+*/%^<>=(){}\[\],:@])""",
    re.VERBOSE,
)
AGGREGATIONS = frozenset(
    [
        "sum",
        "min",
        "max",
        "avg",
        "count",
        "stddev",
        "stdvar",
        "group",
        "topk",
        "bottomk",
        "quantile",
        "count_values",
        "limitk",
        "limit_ratio",
    ]
)
_LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"or"}),
    frozenset({"and", "unless"}),
    frozenset({"==", "!=", "<=", "<", ">=", ">"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%", "atan2"}),
)


class PromqlError(ValueError):
    """The text is no PromQL that we understand."""


class _Token(NamedTuple):
    kind: str
    text: str


def parse(text: str) -> Node:
    """The expression in `text`.

    Raises:
        PromqlError: It does not parse.
    """
    parser = _Parser(_tokens(text), text)
    node = parser.expression()
    if parser.peek().kind != "end":
        raise PromqlError(f"unexpected {parser.peek().text!r} in {' '.join(text.split())!r}")
    return node


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise PromqlError(f"unexpected {text[position]!r} in {' '.join(text.split())!r}")
        if match.lastgroup:
            tokens.append(_Token(match.lastgroup, match.group()))
        position = match.end()
    return [*tokens, _Token("end", "the end")]


class _Parser:
    def __init__(self, tokens: list[_Token], text: str) -> None:
        self._tokens = tokens
        self._text = " ".join(text.split())
        self._position = 0

    def peek(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self.peek()
        self._position += 1
        return token

    def _accept(self, *texts: str) -> str:
        token = self.peek()
        if token.kind != "string" and token.text in texts:
            self._position += 1
            return token.text
        return ""

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise PromqlError(f"expected {text!r} and found {self.peek().text!r} in {self._text!r}")

    def expression(self, level: int = 0) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        left = self.expression(level + 1)
        while operator := self._accept(*_LEVELS[level]):
            bool_result = bool(self._accept("bool"))
            matching = self._matching()
            left = Binary(operator, left, self.expression(level + 1), matching, bool_result)
        return left

    def _unary(self) -> Node:
        if self._accept("-", "+"):
            return self._unary()
        base = self._postfix()
        if self._accept("^"):
            matching = self._matching()
            return Binary("^", base, self._unary(), matching)
        return base

    def _matching(self) -> Matching:
        kind = self._accept("on", "ignoring")
        if not kind:
            return Matching()
        labels = self._labels()
        group = self._accept("group_left", "group_right")
        include = self._labels() if group and self.peek().text == "(" else ()
        return Matching(kind == "on", labels, group, include)

    def _labels(self) -> tuple[str, ...]:
        self._expect("(")
        labels: list[str] = []
        while not self._accept(")"):
            labels.append(self._next().text.strip("\"'`"))
            self._accept(",")
        return tuple(labels)

    def _postfix(self) -> Node:
        node = self._atom()
        while True:
            if self._accept("["):
                while not self._accept("]"):
                    if self._next().kind == "end":
                        raise PromqlError(f"expected ']' in {self._text!r}")
            elif self._accept("offset"):
                self._accept("-")
                self._next()
            elif self._accept("@"):
                if self._next().kind == "word":
                    self._labels()
            else:
                return node

    def _atom(self) -> Node:
        token = self._next()
        if token.text == "(" and token.kind == "operator":
            node = self.expression()
            self._expect(")")
            return node
        if token.kind in {"string", "number", "variable"}:
            return Scalar(token.text)
        if token.text == "{":
            return self._selector("")
        if token.kind != "word":
            raise PromqlError(f"unexpected {token.text!r} in {self._text!r}")
        if token.text in AGGREGATIONS and self.peek().text in {"(", "by", "without"}:
            return self._aggregation(token.text)
        return self._named(token.text)

    def _named(self, name: str) -> Node:
        if self._accept("("):
            return Call(name, self._arguments())
        if self._accept("{"):
            return self._selector(name)
        return Scalar(name) if name.lower() in {"inf", "nan"} else Selector(name)

    def _arguments(self) -> tuple[Node, ...]:
        args: list[Node] = []
        while not self._accept(")"):
            args.append(self.expression())
            if not self._accept(","):
                self._expect(")")
                break
        return tuple(args)

    def _aggregation(self, operator: str) -> Node:
        grouping = self._grouping()
        self._expect("(")
        args = self._arguments()
        keep, labels = grouping or self._grouping() or (True, ())
        return Aggregation(operator, args, keep, labels)

    def _grouping(self) -> tuple[bool, tuple[str, ...]] | None:
        kind = self._accept("by", "without")
        return (kind == "by", self._labels()) if kind else None

    def _selector(self, name: str) -> Node:
        matchers: list[tuple[str, str, str]] = []
        while not self._accept("}"):
            first = self._next()
            label = first.text.strip("\"'`")
            operator = self._accept("=", "!=", "=~", "!~")
            if operator:
                matchers.append((label, operator, self._next().text[1:-1]))
            elif first.kind == "string":
                name = label  # Prometheus 3's quoted name.
            else:
                raise PromqlError(f"unexpected {self.peek().text!r} in {self._text!r}")
            self._accept(",")
        return Selector(name, tuple(matchers))
