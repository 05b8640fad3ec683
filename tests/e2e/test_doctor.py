"""`doctor` on a stack that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.tools


def test_the_report_of_a_running_stack(site: Site) -> None:
    """Checks, targets and log lines of every service are in it, and a password that one has logged is not."""
    password = site.deployment().password()
    assert password
    with (site.state.logs / "alertmanager.log").open("a") as log:
        log.write(f"somebody typed {password} here\n")

    _, report = site.manage("doctor", "--out", "-")

    assert "somebody typed *** here" in report
    assert password not in report
    assert "targets       prometheus: " in report
    assert "series; most of them:" in report
    for service in ("prometheus", "alertmanager", "node-exporter", "ds01-exporter"):
        assert f"-- {service}\n" in report
