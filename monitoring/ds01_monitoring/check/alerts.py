"""Whether the settings about single alerts name alerts that exist."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ds01_monitoring.check.findings import Finding, error
from ds01_monitoring.rules import alert_names

if TYPE_CHECKING:
    from ds01_monitoring.tree import RenderedTree


def check(tree: RenderedTree) -> list[Finding]:
    """Findings about `alerts.notify`."""
    known = alert_names(tree.path)
    return [
        error(f"alerts.notify.{name}: there is no such alert", hint=suggest(name, known))
        for name in tree.context.settings.alerts.notify
        if name not in known
    ]


def suggest(name: str, known: set[str]) -> str:
    """What may have been meant, or all that there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"alerts: {', '.join(sorted(known))}"
