"""Finds the programs of the stack, whatever a distribution calls them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ds01_monitoring import command

NAMES = {
    "grafana": ("grafana", "grafana-server"),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "node_exporter": ("node_exporter", "prometheus-node-exporter"),
}
"""Programs that have several names; Debian puts a prefix before two of them."""

VERSION_SECONDS = 10

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


def features(program: str, file: Path) -> list[str]:
    """Options that follow from the program's version, for which it is asked.

    Raises:
        UserError: It does not say its version in time.
    """
    if program != "prometheus":
        return []
    return prometheus_features(
        version_in(command.run([str(file), "--version"], timeout=VERSION_SECONDS).stdout)
    )


def prometheus_features(version: tuple[int, ...]) -> list[str]:
    """The option for experimental features that a Prometheus of this version (empty: unknown) has and that we use.

    At a thousand GPUs all rules take a third less time when those that do not read each other are evaluated side by side.
    Before 3.1 a group that reads ALERTS was evaluated in any order (its changelog: #15560).
    """
    return ["--enable-feature=concurrent-rule-eval"] * (version >= (3, 1))


def version_in(said: str) -> tuple[int, ...]:
    """The version in what a server or its checker says to `--version`, such as `(2, 42, 0)`; empty when there is none."""
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    return tuple(int(part) for part in match.groups()) if match else ()
