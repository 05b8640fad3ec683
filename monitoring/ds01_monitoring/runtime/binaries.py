"""Finds the programs of the stack, whatever a distribution calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

NAMES = {
    "grafana": ("grafana", "grafana-server"),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
}
"""Programs that have several names; Debian puts a prefix before two of them."""

SYSTEMD_RUNS = Path("/run/systemd/system")

REQUIRED = ("prometheus", "alertmanager", "node_exporter", "promtool", "amtool")
"""What the native runtime cannot do without."""


def find(program: str, path: str) -> Path | None:
    """The program's file on `path`; a name that comes first in `NAMES` wins over all folders."""
    for name in NAMES.get(program, (program,)):
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None


def own_options(program: str, file: Path) -> list[str]:
    """Options that follow from where the program's file lies.

    Debian's Prometheus 2.42 answers 500 on `/` and its Alertmanager 404 when their pages are not
    below /usr; the upstream builds carry their pages inside and know neither option. Grafana wants
    to know its home. node_exporter reports an error at every scrape when it asks a systemd that is not there.
    """
    real = file.resolve()
    share = real.parent.parent / "share" / "prometheus"
    if program == "prometheus" and (share / "web").is_dir():
        return [f"--web.local-assets={share / 'web'}"]
    if program == "alertmanager":
        pages = (share / "alertmanager" / kind for kind in ("ui", "no-ui"))
        return [f"--web.ui-path={page}" for page in pages if (page / "index.html").is_file()][:1]
    if program == "node_exporter":
        return ["--collector.systemd" if SYSTEMD_RUNS.exists() else "--no-collector.systemd"]
    if program == "grafana":
        homes = (real.parent.parent, Path("/usr/share/grafana"))
        home = [f"--homepath={home}" for home in homes if (home / "conf/defaults.ini").is_file()][:1]
        return ["server", *home] if file.name == "grafana" else home
    return []
