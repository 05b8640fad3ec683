"""The rules of a rendered tree, read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Rule:
    """One alert or recording rule.

    Attributes:
        file: Its file, by path below the tree.
        kind: `alert` or `record`.
        name: The alert, or the recorded series.
    """

    file: str
    kind: str
    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def read(tree: Path) -> Iterator[Rule]:
    """Every rule below `tree`, in the order of files and groups.

    Raises:
        yaml.YAMLError: A file is no YAML.
    """
    for path in sorted((tree / "prometheus" / "rules").glob("*.yml")):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) or {}  # noqa: S506 - a safe loader.
        for group in content.get("groups") or []:
            for rule in group.get("rules") or []:
                kind = "alert" if "alert" in rule else "record"
                name = path.relative_to(tree).as_posix()
                yield Rule(
                    name,
                    kind,
                    rule[kind],
                    str(rule["expr"]),
                    rule.get("labels") or {},
                    rule.get("annotations") or {},
                )


def alert_names(tree: Path) -> set[str]:
    """Names of all alerts below `tree`."""
    return {rule.name for rule in read(tree) if rule.kind == "alert"}
