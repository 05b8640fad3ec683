"""YAML with the place of every key, and without YAML 1.1's surprises."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SEXAGESIMAL = re.compile(r"[-+]?\d+(:[0-5]?\d)+(\.\d*)?")
_SPOKEN_BOOL = re.compile(r"(?i:yes|no|on|off)")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Document:
    """What a YAML file says and on which line.

    Attributes:
        name: How the file is called in messages.
        data: Its plain value.
        lines: Line of each key or list item, by its path.
        texts: How a scalar was written, by its path; plain (unquoted) scalars only.
    """

    name: str
    data: Any = None
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    texts: dict[tuple[str, ...], str] = field(default_factory=dict)

    def place(self, path: Sequence[str | int]) -> str:
        """`file:line` of the nearest key on the way to `path`."""
        key = tuple(str(part) for part in path)
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.name}:{self.lines[key]}" if key in self.lines else self.name


def read(text: str, name: str) -> Document:
    """Parse one YAML document.

    Raises:
        ConfigError: It is no YAML, has keys twice, or holds values that YAML 1.1 reads as something else or not at all.
    """
    document = Document(name)
    try:
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                mistakes = list(_walk(node, (), document))
                if mistakes:
                    raise ConfigError.together(mistakes)
                document.data = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        hint = "indent with spaces, and quote text that holds ': ' or starts with a special character"
        raise ConfigError(f"not YAML: {error.problem or error.context}", place=place, hint=hint) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", place=name) from error
    return document


def _walk(node: Any, path: tuple[str, ...], document: Document) -> Iterator[ConfigError]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _mapping_item(key, value, path, document)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = (*path, str(index))
            document.lines[here] = item.start_mark.line + 1
            yield from _walk(item, here, document)
    else:
        if not node.style:
            document.texts[path] = node.value
        yield from _misread(node, path, document)


def _mapping_item(key: Any, value: Any, path: tuple[str, ...], document: Document) -> Iterator[ConfigError]:
    line = key.start_mark.line + 1
    place = f"{document.name}:{line}"
    name = str(key.value)
    here = (*path, name)
    if key.tag == "tag:yaml.org,2002:bool" and _SPOKEN_BOOL.fullmatch(name):
        yield ConfigError(
            f"YAML reads the key {name} as true or false", place=place, hint=f"put it in quotes: '{name}'"
        )
    if here in document.lines:
        first = document.lines[here]
        yield ConfigError(
            f"the key {name} stands twice", place=place, hint=f"the first one is on line {first}"
        )
        return
    document.lines[here] = line
    yield from _misread(key, here, document)
    yield from _walk(value, here, document)


def _misread(node: Any, path: tuple[str, ...], document: Document) -> Iterator[ConfigError]:
    """Dates and numbers only: YAML's other constructors raise what `read` knows."""
    kind = node.tag.rpartition(":")[2]
    if kind not in {"int", "float", "timestamp", "bool"}:
        return
    place = f"{document.name}:{node.start_mark.line + 1}"
    try:
        value = yaml.constructor.SafeConstructor().construct_document(node)
    except (ValueError, ArithmeticError, LookupError, AttributeError):
        yield ConfigError(
            f"{'.'.join(path)}: YAML cannot read {node.value[:40]} as a {kind}",
            place=place,
            hint="correct it, or put it in quotes if text is meant",
        )
    else:
        if kind in {"int", "float"} and _SEXAGESIMAL.fullmatch(node.value):
            yield ConfigError(
                f"YAML reads {node.value} as the number {value}",
                place=place,
                hint=f"put it in quotes: '{node.value}'",
            )
