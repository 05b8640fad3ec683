"""The rules do what docs/alerts.md and docs/metrics.md say, by promtool's own unit tests."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.rules import driver

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

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


def _tests() -> list[dict[str, Any]]:
    return [
        test for case in driver.CASES for test in yaml.safe_load(case.read_text(encoding="utf-8"))["tests"]
    ]


@functools.cache
def _rules(kind: str) -> list[dict[str, Any]]:
    return [rule for rule in driver.rules_of(driver.render()) if kind in rule]


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    """No alert gets by without a case in which it fires and one in which it does not."""
    outcomes: dict[str, set[bool]] = defaultdict(set)
    for test in _tests():
        for step in test.get("alert_rule_test", ()):
            outcomes[step["alertname"]].add(bool(step["exp_alerts"]))
    lacking = {rule["alert"] for rule in _rules("alert") if outcomes[rule["alert"]] != {True, False}}
    assert not lacking


def test_every_recording_rule_has_a_case() -> None:
    """Each recorded series is asked for by a case file's own expression."""
    asked = " ".join(step["expr"] for test in _tests() for step in test.get("promql_expr_test", ()))
    names = set(re.findall(r"ds01:[\w:]+", asked))
    assert not {rule["record"] for rule in _rules("record")} - names


@pytest.mark.parametrize("rule", _rules("alert"), ids=lambda rule: rule["alert"])
def test_annotations_say_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    """Each alert tells its value with a unit, where, and a step that a person can take."""
    notes = rule["annotations"]
    assert set(notes) >= {"summary", "description", "action"}
    assert "$labels." in notes["summary"] or rule["labels"]["severity"] == "none"
    assert re.search(
        r"\$value \| humanize|\.Value \| humanize|\{\{ \$value \}\} (°C|times|uncorrectable|of |GPU|allocations|held|container)"
        r"|\w+ = \{\{ \$value \}\}|flag\s+\{\{ \$value \}\}"
        r"|Hides",
        notes["description"],
    ), notes["description"]
    assert len(notes["action"]) > len("Nothing")


@pytest.mark.parametrize("rule", _rules("alert"), ids=lambda rule: rule["alert"])
def test_labels_allow_routing(rule: dict[str, Any]) -> None:
    """Severity, audience and topic are there and known, and critical is what pages."""
    labels = rule["labels"]
    assert labels["severity"] in {"critical", "warning", "info", "none"}
    assert labels["notify"] in {"page", "mail", "digest", "dashboard", "heartbeat", "user"}
    assert labels["topic"] in {
        *("gpu", "waste", "allocation", "container", "capacity"),
        *("host", "exporter", "monitoring", "watchdog"),
    }
    assert (labels["severity"] == "critical") == (labels["notify"] == "page")


def test_hardware_families_are_named_in_one_file() -> None:
    """Only normalise.yml.j2 knows DCGM's names; nothing but what is down selects on jobs."""
    for template in driver.TEMPLATES:
        text = template.read_text(encoding="utf-8")
        assert template.name == "normalise.yml.j2" or "DCGM_" not in text, template
        assert template.name == "targets.yml.j2" or "job=" not in text, template


def test_documentation_is_complete() -> None:
    """Every alert has its runbook section, every recorded series its line, and neither speaks of more."""
    alerts = (driver.ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (DS01\w+)$", alerts, re.MULTILINE)) == {
        rule["alert"] for rule in _rules("alert")
    }
    for section in re.split(r"^## ", alerts, flags=re.MULTILINE)[1:]:
        if section.startswith("DS01"):
            assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == [
                *("Meaning", "Impact", "Diagnosis", "Action")
            ], section
    metrics = (driver.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(ds01:[\w:]+)`", metrics))
    assert documented == {rule["record"] for rule in _rules("record")}


@needs_promtool
@pytest.mark.tools
@pytest.mark.parametrize("suite", TOOLS)
def test_other_settings_give_rules_too(suite: str, tmp_path: Path) -> None:
    """Shortened windows, another host, no inventory and hardly any job still make rules that promtool accepts."""
    files = driver.render(
        "alerts: {gpu_waste: {window: 90s, below: 0.1}, xid: {critical: [79], hold: 1h}}",
        jobs=["prometheus"],
        inventory=[],
    )
    written = {name: content for name, content in files.items() if content}
    driver.write(written, tmp_path)
    done = driver.promtool(TOOLS[suite], "check", "rules", *written, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
