"""Writes Prometheus' text format 0.0.4.

prometheus_client is not used for it: it appends `_total` to the name of every counter, and DCGM's counters
have names without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus from version 3 on refuses an answer that does not say which format it is."""

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass
class Family:
    """One metric with its samples: (labels as `labels` writes them, value)."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, float]] = field(default_factory=list)


def labels(pairs: Mapping[str, str | None]) -> str:
    """The labels in braces; a label without value is left out, and nothing is written for none at all."""
    written = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs.items() if value]
    return "{" + ",".join(written) + "}" if written else ""


def render(families: Iterable[Family]) -> bytes:
    """The text of all families that have samples."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}\n")
        lines.append(f"# TYPE {family.name} {family.kind}\n")
        lines += [f"{family.name}{labelled} {float(value)!r}\n" for labelled, value in family.samples]
    return "".join(lines).encode()
