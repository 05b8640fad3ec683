"""The rules do what docs/alerts.md and docs/metrics.md say, by promtool's own unit tests."""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.rules import driver

from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.config.types import duration_seconds

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

TOOLS = driver.promtools()
HOLES = ("  ", '=" ', ' ", ', "()", "( ", " )", " of , ")
"""What a text has where a label or a sentence is missing."""
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


@pytest.mark.parametrize("template", ["supervisord.conf.j2", "docker-compose.yaml.j2"])
def test_no_alert_begins_anew_when_prometheus_is_restarted(template: str) -> None:
    """Prometheus restores since when an alert holds only where `for` is more than this; others are told as resolved."""
    text = (driver.ROOT / "monitoring" / template).read_text(encoding="utf-8")
    (grace,) = re.findall(r"--rules[.]alert[.]for-grace-period=(\w+)", text)
    lasting = [duration_seconds(rule["for"]) for rule in _rules("alert") if "for" in rule]
    assert min(lasting) > duration_seconds(grace)


@needs_promtool
@pytest.mark.tools
@pytest.mark.parametrize("case", driver.CASES, ids=lambda case: case.stem)
def test_annotations_expand(case: Path, tmp_path: Path) -> None:
    """The texts of all alerts that fire in a case come out without an error and without a hole."""
    driver.write(driver.render(), tmp_path, annotations=True)
    (outcome,) = driver.run_cases([case], tmp_path, dict([next(iter(TOOLS.items()))]))
    texts = re.findall(r"Annotations:\{(.*)\}", outcome.output)
    for wrong in ("error expanding template", "%!", "<no value>", "NaN", "100.8%", *HOLES):
        assert not [text for text in texts if wrong in text]
    assert not re.search(r"not been able [^\"]*\(up = 1\)", outcome.output)


def _texts(
    folder: Path,
    files: list[str],
    series: dict[str, str],
    *alerts: str,
    tool: tuple[str, str] = next(iter(TOOLS.items()), ("", "")),
    at: str = "40m",
) -> list[str]:
    """The annotations of the alerts that fire, as promtool prints them because none was expected."""
    driver.write(driver.render(), folder, annotations=True)
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": []} for alert in alerts],
    }
    case = folder / "texts.yml"
    case.write_text(
        yaml.safe_dump({"rule_files": files, "evaluation_interval": "15s", "tests": [test]}), encoding="utf-8"
    )
    (outcome,) = driver.run_cases([case], folder, dict([tool]))
    return re.findall(r"Annotations:\{(.*)\}", outcome.output)


@needs_promtool
@pytest.mark.tools
def test_waste_says_whether_memory_is_parked(tmp_path: Path) -> None:
    """A mail about waste tells a notebook that holds memory from a GPU that was never used, and from not knowing."""
    series = {}
    for slot in "012":
        held = f'host="h",gpu_slot="{slot}",container="c",user="ann",interface="docker"'
        series[f"ds01:allocation_utilization:ratio{{{held}}}"] = "0x200"
        series[f'ds01_gpu_slot_info{{host="h",gpu_slot="{slot}",gpu="{slot}",UUID="GPU-{slot}"}}'] = "1x200"
    for slot, used in (("0", 8 << 30), ("1", 1 << 20)):
        card = f'host="h",gpu_slot="{slot}",gpu="{slot}",UUID="GPU-{slot}"'
        series[f"ds01:slot_memory_used:bytes{{{card}}}"] = f"{used}x200"
        series[f"ds01:slot_memory_total:bytes{{{card}}}"] = f"{40 << 30}x200"

    texts = _texts(tmp_path, ["allocation.yml", "waste.yml"], series, "DS01GPUWaste")

    assert len(texts) == 3
    assert "Memory is parked there: 20% of it." in texts[0]
    assert "It is empty: 0.002441% of its memory used." in texts[1]
    assert "How much memory is held is unknown." in texts[2]


@needs_promtool
@pytest.mark.tools
@pytest.mark.parametrize("suite", TOOLS)
def test_the_users_mail_says_which_slots_since_when_and_how_little(suite: str, tmp_path: Path) -> None:
    """Each idle slot with its container, since when it is held, its use and memory; what is unknown is left out."""
    series = {}
    for slot, container, use in (("1.0", "a", "0.00001"), ("2", "b", "0.03")):
        held = f'host="h",gpu_slot="{slot}",container="{container}",user="ann",interface="docker"'
        series[f"ds01:allocation_utilization:ratio{{{held}}}"] = f"{use}x600"
    series['ds01_gpu_allocated_since_timestamp_seconds{host="h",gpu_slot="1.0",container="a",user="ann"}'] = (
        "1795860000x600"
    )
    series['ds01:slot_memory_used:bytes{host="h",gpu_slot="1.0"}'] = f"{4 << 30}x600"

    (text,) = _texts(
        tmp_path,
        ["usage.yml", "users.yml"],
        series,
        "DS01UserWaste",
        tool=(suite, TOOLS[suite]),
        at="2h20m",
    )

    assert "Idle on h for 2h or longer:" in text
    assert (
        "- slot 1.0 (container a, held since 2026-11-28 10:00 UTC): less than 0.1% used, 4GiB of memory held"
        in text
    )
    assert "- slot 2 (container b): 3% used, memory unknown" in text


@needs_promtool
@pytest.mark.tools
def test_texts_have_no_hole_where_a_label_is_missing(tmp_path: Path) -> None:
    """No source may know whose a container is, or which card an error was of; the texts then say so instead of nothing."""
    series = {
        'ds01_gpu_slot_info{host="h",gpu_slot="0",gpu="0",UUID="GPU-a"}': 1,
        'ds01:allocation_utilization:ratio{host="h",gpu_slot="0",container="a",interface="docker"}': 0,
        'ds01_container_memory_bytes{host="h",container="a",interface="docker"}': 99,
        'ds01_container_memory_limit_bytes{host="h",container="a",interface="docker"}': 100,
        'ds01:allocator_active:bool{host="h"}': 1,
        'ds01_unmanaged_gpu_container{host="h",container="c",running="true"}': 1,
        'ds01_gpu_xid_errors_total{host="h",xid="79"}': 1,
        'ds01_gpu_xid_errors_total{host="h",xid="94"}': 1,
    }
    alerts = (
        *("DS01GPUWaste", "DS01ContainerHighMemory", "DS01UnmanagedGPUContainer"),
        *("DS01XidCritical", "DS01XidWarning"),
    )

    texts = _texts(
        tmp_path,
        ["normalise.yml", "allocation.yml", "waste.yml", "gpu.yml"],
        {name: f"{value}x200" for name, value in series.items()},
        *alerts,
    )

    assert len(texts) == len(alerts)
    for hole in (*HOLES, "--user", "-i `"):
        assert not [text for text in texts if hole in text]


@needs_promtool
@pytest.mark.tools
def test_a_name_that_is_none_stands_in_no_command(tmp_path: Path) -> None:
    """Whoever starts a container writes the name, and root pastes the command; a plain one makes a command that works."""
    series = {}
    for slot, user in {"0": "ann.b", "1": "$(reboot)", "2": "ann --for 1y", "3": "-x"}.items():
        held = f'host="h",gpu_slot="{slot}",container="c",user="{user}"'
        series[f'ds01_gpu_slot_info{{host="h",gpu_slot="{slot}",gpu="{slot}",UUID="GPU-{slot}"}}'] = "1x200"
        series[f"ds01:allocation_utilization:ratio{{{held}}}"] = "0x200"

    texts = _texts(tmp_path, ["allocation.yml", "waste.yml"], series, "DS01GPUWaste")

    assert len(texts) == 4
    assert re.findall(r"`(monitoring-manage silence [^`]*)`", " ".join(texts)) == [
        "monitoring-manage silence --user ann.b --for 2d --reason …"
    ]


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


@needs_promtool
@pytest.mark.tools
@pytest.mark.parametrize("suite", TOOLS)
def test_a_host_may_be_called_anything(suite: str, tmp_path: Path) -> None:
    """Alerts that make the host's label themselves carry the name of the configuration, quotes and dollars too."""
    name = 'GPU "$1" \\ server'
    driver.write(driver.render(site=parse_settings("").site.model_copy(update={"host": name})), tmp_path)
    labels = {
        "host": name,
        "severity": "warning",
        "notify": "mail",
        "topic": "exporter",
        "job": "node-exporter",
    }
    watchdog = {"host": name, "severity": "none", "notify": "heartbeat", "topic": "watchdog"}
    alerts = [
        {"eval_time": "10m", "alertname": alert, "exp_alerts": [{"exp_labels": expected}]}
        for alert, expected in (("DS01NodeExporterDown", labels), ("DS01Watchdog", watchdog))
    ]
    case = tmp_path / "host.yml"
    content = {
        "rule_files": ["targets.yml", "monitoring.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"up{{job='prometheus',host={json.dumps(name)}}}", "values": "1x20"}
                ],
                "alert_rule_test": alerts,
            }
        ],
    }
    case.write_text(yaml.safe_dump(content), encoding="utf-8")
    (outcome,) = driver.run_cases([case], tmp_path, {suite: TOOLS[suite]})
    assert outcome.passed, outcome.output
