"""Small changes to rules, one at a time, each of which a unit test ought to notice."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<range>\[[^\]]*\])
      | (?P<number>(?<![\w:.])\d+(?:\.\d+)?(?:e\d+)?(?![\w:.]))
      | (?P<span>(?<=offset\ )\w+)
      | (?P<word>[A-Za-z_:][\w:]*)
      | (?P<operator>=~|!~|==|!=|>=|<=|>|<|=|[-+*/%^])
      | (?P<bracket>[(){},])
    """,
    re.VERBOSE,
)
BOUNDARY = {">": ">=", "<": "<=", ">=": ">", "<=": "<", "==": "!=", "!=": "=="}
INVERTED = {">": "<", "<": ">", ">=": "<", "<=": ">"}
MATCHER = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
GROUPING = {"by", "on", "group_left", "ignoring", "without"}
SETS = {"and", "unless", "or"}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Token:
    """A piece of PromQL and where it stands."""

    kind: str
    text: str
    start: int
    end: int
    depth: int
    braces: bool


@dataclass(frozen=True)
class Mutant:
    """One changed rule: which of the file's, what was changed, and the rule that comes of it."""

    index: int
    name: str
    change: str
    rule: dict[str, Any]


def mutants(rules: list[dict[str, Any]]) -> Iterator[Mutant]:
    """Every mutant of the rules of one file, in order."""
    for index, rule in enumerate(rules):
        name = rule.get("alert") or rule["record"]
        for change, expr in _expressions(rule["expr"]):
            yield Mutant(index, name, change, {**copy.deepcopy(rule), "expr": expr})
        for key in ("for", "keep_firing_for"):
            for factor in (2, 0.5) if key in rule else ():
                span = scaled(str(rule[key]), factor)
                yield Mutant(index, name, f"{key}: {rule[key]} -> {span}", {**copy.deepcopy(rule), key: span})


def scaled(span: str, factor: float) -> str:
    """A duration such as `59m30s` times `factor`, in seconds."""
    seconds = sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+)([smhd])", span))
    return f"{round(seconds * factor)}s"


def tokens(expr: str) -> list[Token]:
    """Split an expression; spaces are left out."""
    found = []
    depth = 0
    braces = False
    for match in TOKEN.finditer(expr):
        kind, text = str(match.lastgroup), match[0]
        if text in ")}" and kind == "bracket":
            depth -= 1
            braces = braces and text != "}"
        found.append(Token(kind, text, match.start(), match.end(), depth, braces))
        if text in "({" and kind == "bracket":
            depth += 1
            braces = braces or text == "{"
    return found


def _expressions(expr: str) -> Iterator[tuple[str, str]]:
    parts = tokens(expr)
    for position, part in enumerate(parts):
        for new in _replacements(part, parts, position):
            yield f"{_context(expr, part)}: {part.text} -> {new}", expr[: part.start] + new + expr[part.end :]
        if part.kind == "word" and part.text in GROUPING:
            yield from _without_labels(expr, parts, position)
        if part.kind == "word" and part.text in SETS and not part.braces:
            yield from _without_operand(expr, parts, position)


def _context(expr: str, part: Token) -> str:
    return " ".join(expr[max(0, part.start - 40) : part.end + 20].split())


def _replacements(part: Token, parts: list[Token], position: int) -> Iterator[str]:
    if part.kind == "operator" and part.braces:
        yield from (MATCHER[part.text],) if part.text in MATCHER else ()
    elif part.kind == "operator":
        yield from (table[part.text] for table in (BOUNDARY, INVERTED) if part.text in table)
    elif part.kind == "number":
        value = float(part.text)
        yield from (f"{value * 1.25:.10g}", f"{value * 0.8:.10g}") if value else ("1",)
    elif part.kind == "range":
        yield from (f"[{scaled(part.text[1:-1], factor)}]" for factor in (2, 0.5))
    elif part.kind == "span":
        yield from (scaled(part.text, factor) for factor in (2, 0.5))
    elif part.kind == "string" and part.braces and parts[position - 1].text == "=~":
        choices = part.text[1:-1].split("|")
        for choice in choices if len(choices) > 1 else ():
            yield f'"{"|".join(other for other in choices if other != choice)}"'
    elif part.text in {"and", "unless"} and not part.braces:
        yield {"and": "unless", "unless": "and"}[part.text]


def _without_labels(expr: str, parts: list[Token], position: int) -> Iterator[tuple[str, str]]:
    end = next(i for i in range(position, len(parts)) if parts[i].text == ")")
    labels = [part.text for part in parts[position + 2 : end] if part.kind == "word"]
    for label in labels:
        kept = ", ".join(other for other in labels if other != label)
        start, stop = parts[position + 1].end, parts[end].start
        yield f"{_context(expr, parts[end])}: without {label}", expr[:start] + kept + expr[stop:]


def _without_operand(expr: str, parts: list[Token], position: int) -> Iterator[tuple[str, str]]:
    operator = parts[position]
    stop = next(
        (
            part.start
            for part in parts[position + 1 :]
            if part.depth < operator.depth
            or (part.depth == operator.depth and (part.text in SETS or part.text == ","))
        ),
        len(expr),
    )
    yield f"{_context(expr, operator)}: its right side left out", expr[: operator.start] + expr[stop:]
    if operator.text == "or":
        start = max(
            (
                part.end
                for part in parts[:position]
                if part.depth < operator.depth
                or (part.depth == operator.depth and (part.text in {"or", ",", "("}))
            ),
            default=0,
        )
        yield f"{_context(expr, operator)}: its left side left out", expr[:start] + expr[operator.end :]
