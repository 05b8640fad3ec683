"""What the tests of the native runtime share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import packages

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60


@pytest.fixture(scope="session")
def bookworm() -> Path:
    """The unpacked packages of Debian 12; skipped where they can neither be found nor fetched."""
    try:
        return packages.fetch("bookworm", REPOSITORY / ".tools")
    except UserError as error:
        pytest.skip(f"no Debian packages: {error}")


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], str], object]:
    """Waits for a condition and returns its first true value; fails after a minute with what was waited for."""

    def wait(condition: Callable[[], object], what: str) -> object:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {PATIENCE_SECONDS} s: {what}")
            time.sleep(0.05)
        return value

    return wait
