"""The rules do what docs/alerts.md and docs/metrics.md say, by promtool's own unit tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.rules import driver

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = driver.promtools()
needs_promtool = pytest.mark.skipif(not TOOLS, reason="no promtool: `make tools` fetches it")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rules, rendered with default settings."""
    folder = tmp_path_factory.mktemp("rules")
    driver.write(driver.render(), folder)
    return folder


@needs_promtool
@pytest.mark.tools
@pytest.mark.parametrize("suite", TOOLS)
@pytest.mark.parametrize("case", driver.CASES, ids=lambda case: case.stem)
def test_cases(case: Path, suite: str, rendered: Path) -> None:
    """Alerts fire and stay quiet, and recording rules record, as the case file says."""
    (outcome,) = driver.run_cases([case], rendered, {suite: TOOLS[suite]})
    assert outcome.passed, outcome.output
