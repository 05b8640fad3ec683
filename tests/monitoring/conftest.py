"""What the control plane's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import packages

TOOLS = Path(__file__).resolve().parents[2] / ".tools"


@pytest.fixture
def state(tmp_path):
    """A state directory of this test's own."""
    return StateDir(tmp_path / "state")


@pytest.fixture
def settings():
    """The defaults, with a host name that does not depend on the machine."""
    return parse_settings("site: {host: gpu01}\nruntime: native\nhardware: dcgm\n")


@pytest.fixture(scope="session", params=["bookworm", "sid"])
def suite(request):
    """Folder of promtool and amtool: the oldest versions that are supported, and new ones."""
    return packages.fetch(request.param, TOOLS) / "usr" / "bin"


@pytest.fixture(scope="session")
def tools():
    """Folder of promtool and amtool 2.42 and 0.25."""
    return packages.fetch("bookworm", TOOLS) / "usr" / "bin"
