"""Lets Debian's Alertmanager run from where it was unpacked.

Debian's build opens its default templates below /usr/share, without an option for another place.
That path in the program is replaced by one of the same length that leads through descriptor 9,
which a small launcher under the program's name opens on the unpacked templates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "usr/bin/prometheus-alertmanager"
TEMPLATES = b"/usr/share/prometheus/alertmanager"
THROUGH_DESCRIPTOR = b"/proc/self/fd/9".ljust(len(TEMPLATES) - 1, b"/") + b"/"

LAUNCHER = """\
#!/bin/sh
# Debian's Alertmanager looks for its templates below /usr/share; this copy finds them through descriptor 9.
here=$(dirname "$(readlink -f "$0")")
exec 9<"$here/../share/prometheus/alertmanager" || exit
exec "$here/../lib/ds01/prometheus-alertmanager" "$@"
"""


def relocate(tree: Path) -> None:
    """Make the unpacked Alertmanager find its templates; a build that carries them inside is left as it is."""
    program = tree / PROGRAM
    content = program.read_bytes()
    if TEMPLATES not in content:
        return
    moved = tree / "usr/lib/ds01/prometheus-alertmanager"
    moved.parent.mkdir(parents=True, exist_ok=True)
    moved.write_bytes(content.replace(TEMPLATES, THROUGH_DESCRIPTOR))
    moved.chmod(0o755)
    program.write_text(LAUNCHER)
    program.chmod(0o755)
