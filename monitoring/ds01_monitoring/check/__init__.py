"""Looks at a rendered tree before it is put in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_monitoring.check import alerts, names, panels, site, tools
from ds01_monitoring.check.findings import Finding

if TYPE_CHECKING:
    from ds01_monitoring.tree import RenderedTree

__all__ = ["Finding", "check"]


def check(tree: RenderedTree, *, path: str | None = None) -> list[Finding]:
    """Everything that is wrong or doubtful with a rendered tree, errors first.

    Args:
        tree: What `render` wrote.
        path: Where promtool and amtool are looked for; by default PATH, the state directory, images that are here.
    """
    found = tools.find(tree, path)
    alertmanager = tools.version(found.get("amtool"))
    # An amtool that does not know a receiver stops at it, with words about fields of Go types.
    too_old = site.lacking(tree.context.settings.notify, alertmanager)
    findings = [
        *site.check(
            tree, alertmanager
        ),  # In words about settings; the tools' words about the same come after.
        *tools.check(tree, found, ask_amtool=not too_old),
        *alerts.check(tree),
        *names.check(tree),
        *panels.check_ranges(tree),
    ]
    return sorted(findings, key=lambda finding: finding.level)
