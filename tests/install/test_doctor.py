"""`doctor`: what it tells, what it concludes, and what it must never tell."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.e2e.site import Site

from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.doctor import causes, mask
from ds01_monitoring.doctor.causes import likely
from ds01_monitoring.doctor.facts import Facts, collect
from ds01_monitoring.health import Check
from ds01_monitoring.paths import StateDir

REPOSITORY = Path(__file__).resolve().parents[2]
SMTP, HOOK = "zW3-mail-pass", "https://chat.example/services/T0/B0/x9x9x9"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that was rendered and never started, with passwords of its own and one in a URL."""
    made = Site(tmp_path)
    (tmp_path / "smtp").write_text(f"{SMTP}\n")
    (tmp_path / "hook").write_text(HOOK)
    mail = {"smarthost": "mail.example:587", "from": "a@b.example", "to": ["c@d.example"], "username": "u"}
    made.configure(
        runtime="native",
        hardware="none",
        prometheus={"remote_write": [{"url": "https://me:urlpass1@far.example/write"}]},
        notify={
            "mail": {**mail, "password_file": str(tmp_path / "smtp")},
            "slack": {"url_file": str(tmp_path / "hook")},
        },
    )
    made.manage("render")
    return made


def test_the_report_holds_no_secret(site: Site, tmp_path: Path) -> None:
    """Neither the stack's passwords nor the site's, whether in a URL or misplaced in the configuration itself."""
    file = tmp_path / "monitoring.yaml"
    file.write_text(file.read_text() + f"site: {{name: '{SMTP}', host: gpu01}}\n")
    stored = (tmp_path / "state" / "secrets").iterdir()
    secrets = {line for path in stored for line in path.read_text().split() if len(line) > 15}

    site.manage("doctor", "--out", str(tmp_path / "report.txt"))

    report = (tmp_path / "report.txt").read_text()
    for secret in (*secrets, SMTP, HOOK, "urlpass1"):
        assert secret not in report, secret
    assert "https://***@far.example/write" in report
    assert f"password_file: {tmp_path / 'smtp'}" in report
    assert (tmp_path / "report.txt").stat().st_mode & 0o777 == 0o600


def test_the_report_tells_versions_configuration_and_state(site: Site, tmp_path: Path) -> None:
    """A maintainer finds each part under its heading, even where nothing runs."""
    _, report = site.manage("doctor", "--out", "-")

    for heading in (
        "likely causes",
        "versions",
        "configuration",
        "GPU and driver",
        "Docker",
        "units",
        "stack",
    ):
        assert f"== {heading}\n" in report
    assert "nothing was started" in report


def test_a_mistake_in_the_configuration_is_reported_and_not_fatal(site: Site, tmp_path: Path) -> None:
    """The report is needed most where something is broken."""
    (tmp_path / "monitoring.yaml").write_text("prometheus: {retention: 3d}\n")

    code, report = site.manage("doctor", "--out", "-")

    assert code == 0
    assert "prometheus.retention: unknown key" in report


def test_what_nvidia_smi_says_is_understood_as_well(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that was started after a driver's upgrade has no service that would say it."""
    program = tmp_path / "programs" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho Failed to initialize NVML: Driver/library version mismatch\nexit 18\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    facts = collect(tmp_path / "monitoring.yaml", StateDir(tmp_path / "state"))

    (cause,) = likely(facts)
    assert cause.situation == "Driver and library do not match"
    assert cause.evidence.startswith("nvidia-smi said: ")


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("Authorization: Basic ZHMwMTpodW50ZXIy", "ZHMwMTpodW50ZXIy"),
        ("auth with bearer abcdef0123456789", "abcdef0123456789"),
        ("smtp_auth_password: hunter22", "hunter22"),
        ('"token": "s3cr3t value"', "s3cr3t value"),
        ("GF_SECURITY_ADMIN_PASSWORD=hunter22", "hunter22"),
        ("post https://hooks.slack.com/services/T0/B1/zzz failed", "T0/B1/zzz"),
        ("post https://firm.webhook.office.com/webhookb2/11-22 failed", "11-22"),
        ("ds01: $2b$10$abcdefghijklmnopqrstuvwxyz012345678901234567890123456", "abcdefghij"),
        ("postgres://grafana:pw@db/grafana", ":pw@"),
    ],
)
def test_what_looks_like_a_secret_is_masked_whoever_it_belongs_to(line: str, hidden: str) -> None:
    """A log line may hold a secret that stands in none of our files."""
    assert hidden not in mask.mask(line, ())


def test_a_short_password_is_masked_without_tearing_words_apart() -> None:
    """Three letters are masked where they stand alone."""
    assert mask.mask("tried abc, abcde", {"abc"}) == "tried ***, abcde"


LOGGED = [
    (
        "dcgm-exporter",
        "Failed to initialize NVML: Driver/library version mismatch",
        "Driver and library do not match",
    ),
    ("dcgm-exporter", "Failed to initialize NVML: Unknown Error", "A container has lost its GPUs"),
    ("dcgm-exporter", "Error: DCGM initialization error", "DCGM does not start"),
    ("dcgm-exporter", "No GPUs found", "The container sees no GPU"),
    ("dcgm-exporter", "profiling module returned: insufficient permission", "Profiling metrics are missing"),
    ("ds01-exporter", "ModuleNotFoundError: No module named 'x'", "The exporter's code is incomplete"),
    (
        "grafana",
        'logger=provisioning.dashboard level=error msg="failed to load dashboard"',
        "Grafana does not load the dashboards",
    ),
    (
        "alertmanager",
        'level=warn component=dispatcher msg="Notify attempt failed, will retry later" err="535 rejected"',
        "Mail does not arrive",
    ),
    ("prometheus", "write /data/wal/0001: no space left on device", "Prometheus cannot store"),
    ("prometheus", "listen tcp 127.0.0.1:9090: bind: address already in use", "A port is taken"),
]
FAILED = [
    (
        Check("targets", "ds01-exporter", "failed", "connection refused"),
        "Prometheus does not reach the exporter",
    ),
    (
        Check("services", "services", "failed", "the Docker Engine does not answer"),
        "The Docker Engine does not answer",
    ),
    (
        Check("services", "grafana", "failed", "stopped: listen tcp4 127.0.0.1:3000: address already in use"),
        "A port is taken",
    ),
    (
        Check("services", "dcgm-exporter", "failed", 'stopped: could not select device driver "nvidia"'),
        "The container sees no GPU",
    ),
    (Check("collectors", "state", "failed", "no such file"), "Allocations are empty"),
    (Check("targets", "node-exporter", "failed", "timeout"), "Targets are down"),
    (Check("notifications", "email", "failed", "refused"), "Mail does not arrive"),
]
MACHINES = [
    (
        Facts(
            settings=parse_settings("runtime: compose"),
            sections={"Docker": "server ,\nCannot connect to the Docker daemon"},
        ),
        "The Docker Engine does not answer",
    ),
    (Facts(driver="a driver", runtimes='{"runc":{}}'), "The container sees no GPU"),
    (Facts(lost_links=["/dev/char/195:0"]), "A daemon-reload takes GPUs away"),
    (Facts(driver="a driver", checks=[Check("targets", "prometheus", "ok")]), "No GPU metrics"),
    (
        Facts(
            storage={
                "headStats": {"numSeries": 10**6},
                "seriesCountByMetricName": [{"name": "x", "value": 9}],
            }
        ),
        "Prometheus is slow or large",
    ),
]


@pytest.mark.parametrize(("service", "line", "situation"), LOGGED)
def test_a_log_line_leads_to_its_cause(service: str, line: str, situation: str) -> None:
    """What a service says is understood, with the line as evidence and a next step."""
    (cause,) = likely(Facts(logs={service: ["started", line]}))

    assert cause.situation == situation
    assert line in cause.evidence
    assert cause.remedy


@pytest.mark.parametrize(("check", "situation"), FAILED)
def test_a_failed_check_leads_to_its_cause(check: Check, situation: str) -> None:
    """A check that fails is explained; one that does not says nothing."""
    assert [cause.situation for cause in likely(Facts(checks=[check]))] == [situation]
    assert likely(Facts(checks=[Check(check.area, check.name, "ok")])) == []


@pytest.mark.parametrize(("facts", "situation"), MACHINES)
def test_what_the_machine_lacks_leads_to_its_cause(facts: Facts, situation: str) -> None:
    """Facts about driver, Docker and memory are put together."""
    assert [cause.situation for cause in likely(facts)] == [situation]


def test_every_situation_is_documented_and_tested() -> None:
    """The page and the program know the same ones."""
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    documented = set(re.findall(r"^\| (?!Situation|-)([^|]+?) \|", page, re.MULTILINE))
    source = Path(causes.__file__).read_text()

    assert documented == {situation for *_, situation in (*LOGGED, *FAILED, *MACHINES)}
    assert {sign.situation for sign in causes.SIGNS} <= documented
    assert set(re.findall(r'Cause\(\s*"([^"]+)"', source)) <= documented
