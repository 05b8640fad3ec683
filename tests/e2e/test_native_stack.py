"""The whole native stack with its real servers, on the simulated GPU server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from ds01_monitoring import command, past

from .site import Site, belonging_to, make_site, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tools

SERVICES = ("prometheus", "alertmanager", "node-exporter", "ds01-exporter", "ds01-demo")
NOBODY = 65534
PAST_SECONDS = 400

# What a user of the server without our password can do on his own.
STRANGER = """
import json, sys, urllib.error, urllib.request
answers = {}
for url in sys.argv[1:]:
    try:
        answers[url] = urllib.request.urlopen(url, timeout=30).status
    except urllib.error.HTTPError as error:
        answers[url] = error.code
print(json.dumps(answers))
"""


def test_every_target_comes_up(site: Site) -> None:
    """Prometheus scrapes all that `start` started, and says so."""
    wait_until(
        lambda: {state for (area, _), state in site.checks().items() if area == "targets"} == {"ok"},
        "every target is up",
    )

    assert len(site.query("up == 1")) == 5
    assert {series["metric"]["host"] for series in site.query("up")} == {"demo"}


def test_a_slice_leads_to_the_user_who_holds_it(site: Site) -> None:
    """The join of hardware and allocations names, for a MIG slice, the user that the allocator wrote down."""
    books = site.state.data / "demo" / "state" / "container-metadata"

    def joined() -> list[tuple[str, str]]:
        pairs = []
        for series in site.query('ds01:allocation_utilization:ratio{gpu_slot=~"[0-9]+[.][0-9]+"}'):
            page = books / f"{series['metric']['container']}.json"
            if page.is_file():
                pairs.append((series["metric"]["user"], json.loads(page.read_text())["user"]))
        return pairs

    pairs = wait_until(joined, "a held MIG slice has a utilisation")

    assert pairs
    assert all(shown == written for shown, written in pairs)


def test_a_local_user_without_the_password_gets_401_everywhere(site: Site) -> None:
    """Loopback is not private on a shared server: every port asks, and the password is out of reach."""
    urls = [f"http://{address}/metrics" for address in site.deployment().addresses.values()]
    root = os.geteuid() == 0
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}

    stranger = command.spawn([python, "-c", STRANGER, *urls], stdout=-1, cwd="/", **options)
    output, _ = stranger.communicate(timeout=120)

    assert json.loads(output) == dict.fromkeys(urls, 401)
    for secret in site.state.secrets.iterdir():
        assert secret.stat().st_mode & 0o077 == 0, secret


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back(site: Site, service: str) -> None:
    """`kill -9` of any child costs a moment: another process takes its place and answers."""
    before = site.pids()[service]

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: site.pids().get(service) not in {None, before}, f"another {service} runs")
    server = "dcgm-exporter" if service == "ds01-demo" else service
    wait_until(lambda: site.checks()[("servers", server)] == "ok", f"{service} answers")


def until_the_past_is_filled(site: Site) -> None:
    """Wait for the process in the background that comes, goes and has children of its own; minutes on a busy machine."""
    wait_until(lambda: past.NAME not in site.pids(), "the demo has its past", seconds=PAST_SECONDS)


@pytest.mark.timeout(900)
def test_after_supervisord_was_killed_start_leaves_one_of_each(site: Site) -> None:
    """The orphans are seen by `status`, ended by `start`, and nothing runs twice."""
    until_the_past_is_filled(site)
    orphans = set(site.pids().values())
    os.kill(site.pids()["supervisord"], signal.SIGKILL)
    wait_until(lambda: "supervisord" not in site.pids(), "supervisord is dead")
    assert site.checks()[("services", "ds01-exporter")] == "failed"

    site.manage("start", "--demo", "--timeout", "120")
    until_the_past_is_filled(site)

    running = set(site.pids().values())
    assert set(site.pids()) == {*SERVICES, "supervisord"}
    assert not running & orphans
    assert set(belonging_to(site.state)) == running


def test_start_again_disturbs_nothing(site: Site) -> None:
    """A second `start` finds everything up and leaves every process as it is."""
    before = site.pids()

    _, output = site.manage("start", "--demo", "--timeout", "120")

    assert site.pids() == before
    assert "http_password" in output
    assert "ssh -L" in output


def test_a_broken_template_is_refused_and_everything_stays_up(site: Site) -> None:
    """The mistake is named by file and line, nothing is swapped, no process notices."""
    template = site.clone / "prometheus" / "rules" / "targets.yml.j2"
    good, before, version = template.read_text(), site.pids(), site.state.current.readlink()
    template.write_text(good + "\n[% if %]\n")
    try:
        code, output = site.manage("reload", check=False)
    finally:
        template.write_text(good)

    assert code == 2
    assert f"targets.yml.j2:{len(good.splitlines()) + 2}" in output
    assert site.state.current.readlink() == version
    assert site.pids() == before
    assert site.checks()[("configuration", "prometheus")] == "ok"


def test_a_rule_that_promtool_refuses_never_reaches_the_servers(site: Site) -> None:
    """An expression that does not parse is refused before anything is swapped."""
    extra = site.clone / "prometheus" / "rules" / "mistake.yml.j2"
    version = site.state.current.readlink()
    extra.write_text(
        "groups:\n  - name: mistake\n    rules:\n      - {record: 'ds01:mistake:ratio', expr: 'sum('}\n"
    )
    try:
        code, output = site.manage("reload", check=False)
    finally:
        extra.unlink()

    assert code == 2
    assert "mistake.yml" in output
    assert site.state.current.readlink() == version


def test_a_changed_threshold_is_applied_by_reload(site: Site) -> None:
    """`reload` swaps, signals, and reports that the servers accepted; no process is new."""
    before = site.pids()
    site.configure(alerts={"gpu_temperature": {"warning": 77}})
    try:
        _, output = site.manage("reload")
        address = site.deployment().addresses["prometheus"]
        rules = site.client().get(address, "/api/v1/rules").text
    finally:
        site.configure(alerts={})
        site.manage("reload")

    assert "accepted by prometheus and alertmanager" in output
    assert "77" in rules
    assert site.pids() == before


def test_status_is_an_exit_code_for_cron(site: Site) -> None:
    """--quiet prints nothing: 0 while all is well, 1 while a server is stopped."""
    wait_until(lambda: site.manage("status", "--quiet", check=False) == (0, ""), "everything is well")

    node_exporter = site.pids()["node-exporter"]
    os.kill(node_exporter, signal.SIGSTOP)
    try:
        assert site.manage("status", "--quiet", check=False) == (1, "")
    finally:
        os.kill(node_exporter, signal.SIGCONT)

    assert site.manage("status", "--quiet", "--json", check=False)[0] == 2


def test_the_mailbox_has_a_mail_to_a_user(site: Site) -> None:
    """Somebody in the demo wastes a GPU, and soon after the start can be read what that user is told."""
    folder = site.state.data / "demo" / "mailbox"
    told = "A GPU that you hold is idle"
    wait_until(
        lambda: any(told in file.read_text(errors="replace") for file in folder.glob("*.eml")),
        "a mail to a user",
        seconds=PAST_SECONDS,
    )

    _, output = site.manage("mailbox")
    number, user = re.findall(rf"^ *(\d+) .* to (\w+)@demo[.]example: .*{told}$", output, re.MULTILINE)[0]

    _, text = site.manage("mailbox", number)
    assert f"Hello {user}," in text
    assert "Idle on demo for" in text


def test_a_taken_port_is_named_with_its_process_before_anything_starts(tools: None, tmp_path: Path) -> None:
    """The message has the port, the service that wanted it, and the program that has it."""
    other = make_site(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", other.settings["ports"]["prometheus"]))
        taken.listen()

        code, output = other.manage("start", "--demo", check=False)

    assert code == 1
    assert f"{other.settings['ports']['prometheus']} (prometheus)" in output
    assert f"pid {os.getpid()}" in output
    assert belonging_to(other.state) == []


def test_logs_show_the_services_by_name(site: Site) -> None:
    """`--tail` prints and ends; one service can be picked."""
    _, everything = site.manage("logs", "--tail", "1")
    _, one = site.manage("logs", "prometheus", "--tail", "1")

    assert "prometheus" in everything
    assert "alertmanager" in everything
    assert len(one.splitlines()) == 1
    assert site.manage("logs", "promethus", check=False)[0] == 2


def test_restart_applies_what_a_reload_cannot(site: Site) -> None:
    """A changed port needs new processes: reload says so, restart brings them."""
    old = dict(site.settings["ports"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site.configure(ports={**old, "node_exporter": port})
    try:
        _, output = site.manage("restart", "--timeout", "120")
        address = site.deployment().addresses["node-exporter"]
        answers = site.client().get(address, "/metrics").status
    finally:
        site.configure(ports=old)
        site.manage("restart", "--timeout", "120")

    assert "restarted everything" in output
    assert address.endswith(f":{port}")
    assert answers == 200


def test_stop_leaves_no_process_and_loses_nothing(site: Site) -> None:
    """After `stop` nothing of ours runs; after the next `start` the old samples are still there."""
    sample = wait_until(lambda: site.query('up{job="prometheus"}'), "there is a sample")[0]["value"]

    site.manage("stop")

    assert belonging_to(site.state) == []
    assert site.manage("status", "--quiet", check=False) == (1, "")
    site.manage("start", "--demo", "--timeout", "120")
    assert site.query('up{job="prometheus"}', time=str(sample[0]))


def test_the_rendered_tree_holds_no_secret(site: Site) -> None:
    """Passwords are referred to by path; the tree may be shown to anybody."""
    password = site.deployment().password()
    assert password

    for file in site.state.current.resolve().rglob("*"):
        assert not file.is_file() or password not in file.read_text()
    assert yaml.safe_load((site.state.current / "prometheus/prometheus.yml").read_text())["scrape_configs"]


@pytest.mark.timeout(900)
def test_the_demo_brings_its_past(site: Site) -> None:
    """Hours before the first start there are scraped and recorded series, so that no panel stays bare."""
    wait_until(
        lambda: site.query("ds01:allocation_utilization:ratio offset 6h"), "there is a past", seconds=800
    )

    assert site.query("ds01_gpu_allocated offset 6h")
