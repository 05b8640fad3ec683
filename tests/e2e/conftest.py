"""A real stack on free ports, for the tests that need everything at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import packages

from .site import REPOSITORY, Site, make_site

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def tools() -> None:
    """Skip, with the reason, where the servers can neither be found nor fetched."""
    try:
        packages.fetch("bookworm", REPOSITORY / ".tools")
    except UserError as error:
        pytest.skip(f"no Debian packages: {error}")


@pytest.fixture(scope="session")
def running(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo, started once; a test that changes it puts it back."""
    site = make_site(tmp_path_factory.mktemp("e2e"))
    site.manage("start", "--demo", "--timeout", "120")
    yield site
    site.manage("stop")


@pytest.fixture
def site(running: Site) -> Site:
    """The demo, everything up; what an earlier test left broken is mended first."""
    if set(running.checks().values()) - {"ok", "pending", "absent"} or not running.pids():
        running.manage("start", "--demo", "--timeout", "120")
    return running
