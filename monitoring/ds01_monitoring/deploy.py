"""Renders, checks, and only then puts in force: a broken edit never replaces a working stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01_monitoring.check import check
from ds01_monitoring.errors import UserError
from ds01_monitoring.render import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_monitoring.check import Finding
    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.tree import RenderedTree


class Refused(UserError):  # noqa: N818 - reads better where it is caught.
    """The rendered configuration has errors, or could not be checked where it must be."""

    def __init__(self, findings: Sequence[Finding], in_force: str) -> None:
        told = "\n".join(str(finding) for finding in findings)
        super().__init__(f"the configuration is not put in force\n{told}", hint=in_force, exit_code=2)
        self.findings = list(findings)


def deploy(
    settings: Settings,
    state: StateDir,
    *,
    tools_required: bool,
    search_path: str | None = None,
    **options: Any,
) -> tuple[RenderedTree, list[Finding]]:
    """Render with `options` (see `render`), check, and let `rendered/current` point to the result.

    Args:
        settings: The configuration.
        state: Where the versions lie.
        tools_required: Refuse what promtool or amtool could not look at, instead of passing the warning on.
        search_path: Where they are looked for, as PATH; see `check.tools.find`.
        **options: For `render`.

    Returns:
        The tree in force and the warnings about it.

    Raises:
        ConfigError: A template is wrong.
        Refused: The check found errors; what was in force still is.
    """
    tree = render(settings, state, **options)
    findings = check(tree, path=search_path)
    bad = [
        finding for finding in findings if finding.level == "error" or (tools_required and finding.untested)
    ]
    if bad:
        kept = state.current.is_symlink()
        raise Refused(bad, "the version in force stays as it was" if kept else "no version is in force yet")
    tree.activate()
    return tree, findings
