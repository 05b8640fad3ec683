"""What the tests of the native runtime share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import packages

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bookworm() -> Path:
    """The unpacked packages of Debian 12; skipped where they can neither be found nor fetched."""
    try:
        return packages.fetch("bookworm", REPOSITORY / ".tools")
    except UserError as error:
        pytest.skip(f"no Debian packages: {error}")
