"""A cursor over a YAML file that knows which line it stands on."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01_monitoring.config import yamlfile
from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Node:
    """One value of a document, with the way to it.

    Attributes:
        document: The file it stands in.
        value: The plain value.
        path: Keys and list positions from the top.
    """

    document: yamlfile.Document
    value: Any
    path: tuple[str, ...] = ()

    def error(self, problem: str, hint: str = "") -> ConfigError:
        """A `ConfigError` that names this line."""
        return ConfigError(problem, place=self.document.place(self.path), hint=hint)

    def mapping(
        self, allowed: Collection[str] = (), required: Collection[str] = (), what: str = "this"
    ) -> dict[str, Node]:
        """The keys below this node; with `allowed`, any other key is an error.

        Raises:
            ConfigError: It is no mapping, a key is unknown, or one is missing.
        """
        if not isinstance(self.value, dict):
            raise self.error(f"{what} must be a mapping, not {self.value!r}", hint=_allowed(allowed))
        found = {
            str(key): Node(self.document, item, (*self.path, str(key))) for key, item in self.value.items()
        }
        for key, node in found.items():
            if allowed and key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1)
                guess = f"did you mean {close[0]}? " if close else ""
                raise node.error(f"{key}: unknown key in {what}", hint=guess + _allowed(allowed))
        for key in required:
            if key not in found:
                raise self.error(f"{key} is missing in {what}", hint=_allowed(allowed))
        return found

    def items(self, what: str = "this") -> list[Node]:
        """The entries of a list.

        Raises:
            ConfigError: It is no list.
        """
        if not isinstance(self.value, list):
            raise self.error(f"{what} must be a list, not {self.value!r}", hint="start each entry with '- '")
        return [Node(self.document, item, (*self.path, str(index))) for index, item in enumerate(self.value)]

    def text(self, what: str = "this") -> str:
        """A text that is not empty, without the line end that a block scalar brings.

        Raises:
            ConfigError: It is something else.
        """
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.error(
                f"{what} must be a text, not {self.value!r}", hint="quote it if YAML misreads it"
            )
        return self.value.strip()

    def number(self, what: str = "this") -> float:
        """A number.

        Raises:
            ConfigError: It is something else.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.error(f"{what} must be a number, not {self.value!r}")
        return self.value

    def whole(self, what: str = "this") -> int:
        """A whole number from 1 on.

        Raises:
            ConfigError: It is something else.
        """
        value = self.number(what)
        if value < 1 or value != int(value):
            raise self.error(f"{what} must be a whole number from 1 on, not {value}")
        return int(value)

    def yes(self, what: str = "this") -> bool:
        """Whether it is true.

        Raises:
            ConfigError: It is neither true nor false.
        """
        if not isinstance(self.value, bool):
            raise self.error(f"{what} must be true or false, not {self.value!r}")
        return self.value


def read(text: str, name: str) -> Node:
    """The top of a YAML document; `name` stands for the file in messages.

    Raises:
        ConfigError: It is no YAML.
    """
    document = yamlfile.read(text, name)
    return Node(document, document.data)


def _allowed(keys: Collection[str]) -> str:
    return f"allowed here: {', '.join(keys)}" if keys else ""
