"""The native runtime: a status for cron, rendering with its check, from nothing to ready."""

import tempfile
from pathlib import Path

from tests.bench.frame import Row, median_seconds
from tests.e2e.site import REPOSITORY, make_site

from ds01_monitoring.runtime import packages


def measure() -> list[Row]:
    """Measure on the demo, with the programs present."""
    packages.fetch("bookworm", REPOSITORY / ".tools")
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
        site = make_site(Path(folder))
        try:
            start = median_seconds(lambda: site.manage("start", "--demo"), before=lambda: site.manage("stop"))
            status = median_seconds(lambda: site.manage("status", "--quiet"))
            check = median_seconds(lambda: site.manage("check"))
        finally:
            site.manage("stop", check=False)
    return [
        Row("start --demo to everything ready", start, "s", 15),
        Row("monitoring-status --quiet", status, "s", 0.5),
        Row("render + check", check, "s", 2),
    ]
