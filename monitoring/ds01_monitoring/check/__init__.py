"""Looks at a rendered tree before it is put in force."""

from __future__ import annotations

from dataclasses import replace
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
    settings = tree.context.settings
    # In our words: amtool's are about fields of Go types, and about a template in which nothing is to be mended.
    refused = site.refused(settings.notify, alertmanager)
    about_settings = [*site.check(tree, alertmanager), *alerts.check(tree)]
    findings = [
        *(replace(finding, place=settings.place(finding.place)) for finding in about_settings),
        *tools.check(tree, found, ask_amtool=not refused),
        *names.check(tree),
        *panels.check_ranges(tree),
    ]
    return sorted(findings, key=lambda finding: finding.level)
