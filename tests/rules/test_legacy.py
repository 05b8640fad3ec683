"""The first implementation's names: recorded on request, as docs/upgrading.md says, and not otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.rules import driver

CASE = Path(__file__).parent / "optional" / "legacy.yml"
TOOLS = driver.promtools()
ON = "prometheus: {legacy_names: true}\n"


@pytest.mark.skipif(not TOOLS, reason="no promtool: `make tools` fetches it")
@pytest.mark.tools
@pytest.mark.parametrize("suite", TOOLS)
def test_the_old_names_have_the_old_units(suite: str, tmp_path: Path) -> None:
    """Percents and bytes, a series per card and per slice."""
    driver.write(driver.render(ON), tmp_path)
    (outcome,) = driver.run_cases([CASE], tmp_path, {suite: TOOLS[suite]})
    assert outcome.passed, outcome.output


def test_nothing_old_is_recorded_without_being_asked_for() -> None:
    """Two names for one reading would be a question to everybody who sees both."""
    assert driver.render()["legacy.yml"] is None


def test_every_old_name_is_documented() -> None:
    """The page about upgrading names what is recorded, and no more."""
    recorded = {rule["record"] for rule in driver.render(ON)["legacy.yml"]["groups"][0]["rules"]}
    page = (driver.ROOT / "docs" / "upgrading.md").read_text(encoding="utf-8")

    assert set(re.findall(r"`(ds01_(?:gpu|mig)_\w+_(?:percent|celsius|bytes))`", page)) == recorded
