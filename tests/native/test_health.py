"""What `monitoring-status` makes of what the servers say."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ds01_monitoring import readiness
from ds01_monitoring.commands import reload
from ds01_monitoring.deployment import Deployment
from ds01_monitoring.errors import UserError
from ds01_monitoring.health import Health, checks, local, prometheus, servers
from ds01_monitoring.health.checks import Check
from ds01_monitoring.http import Client, Reply, Unreachable
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime.base import ServiceStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT = Client(password=None)
RELOADED = """\
{0}_config_last_reload_successful {1}
{0}_config_last_reload_success_timestamp_seconds {2}
"""


@dataclass
class Answers:
    """A server that answers what the test says, by path; an unknown query has no series."""

    pages: dict[str, tuple[int, str]] = field(default_factory=dict)
    queries: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    address: str = ""

    def api(self, path: str, data: Any) -> None:
        """Let Prometheus' API answer with this."""
        self.pages[f"/api/v1/{path}"] = (200, json.dumps({"status": "success", "data": data}))

    def reply(self, target: str) -> tuple[int, str]:
        """Status and body for one request."""
        split = urlsplit(target)
        if split.path != "/api/v1/query":
            return self.pages.get(split.path, (404, ""))
        series = self.queries.get(parse_qs(split.query)["query"][0], [])
        result = [{"metric": labels, "value": [0, str(value)]} for labels, value in series]
        return 200, json.dumps({"status": "success", "data": {"result": result}})


def test_an_errors_page_has_no_samples() -> None:
    """Its words look like a name, a value and a time."""
    assert Reply(500, "Internal Server Error").samples() == []
    assert Reply(200, "up 1").samples() == [("up", {}, 1.0)]


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server that stands for all servers of the stack."""
    made = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.reply(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def deployment(tmp_path: Path, answers: Answers) -> Deployment:
    """A stack whose servers are all `answers`."""
    state = StateDir(tmp_path)
    (state.rendered / "v1" / "prometheus" / "rules").mkdir(parents=True)
    (state.rendered / "v1" / "alertmanager").mkdir()
    state.current.symlink_to("v1")
    jobs = ("ds01-exporter", "prometheus", "alertmanager")
    return Deployment(
        state,
        "native",
        "none",
        demo=False,
        local_auth=False,
        host="h",
        addresses=dict.fromkeys(jobs, answers.address),
        without={},
    )


def states(found: Iterator[Check]) -> dict[str, str]:
    """State of each check by name."""
    return {check.name: check.state for check in found}


def test_a_server_that_answers_500_is_not_up(answers: Answers, deployment: Deployment) -> None:
    """Only 200 on the readiness path counts."""
    answers.pages["/-/ready"] = (500, "")
    answers.pages["/health"] = (200, "OK")

    found = list(servers.ready(deployment, CLIENT))

    assert states(iter(found)) == {"ds01-exporter": "ok", "prometheus": "failed", "alertmanager": "failed"}
    assert all(check.hint for check in found if check.state == "failed")


def test_a_target_that_was_not_scraped_yet_is_pending(answers: Answers, deployment: Deployment) -> None:
    """Up, down, not yet and missing are four different things, and only two of them are unhealthy."""
    answers.api(
        "targets",
        {
            "activeTargets": [
                {"labels": {"job": "prometheus"}, "health": "unknown", "scrapeUrl": "u", "lastError": ""},
                {"labels": {"job": "ds01-exporter"}, "health": "down", "scrapeUrl": "u", "lastError": "401"},
            ]
        },
    )

    found = states(prometheus.targets(deployment, CLIENT))

    assert found == {"prometheus": "pending", "ds01-exporter": "failed", "alertmanager": "failed"}


@pytest.mark.parametrize(("age_seconds", "expected"), [(3, "pending"), (600, "failed")])
def test_what_prometheus_cannot_know_yet_is_pending(
    answers: Answers, deployment: Deployment, age_seconds: float, expected: str
) -> None:
    """For some seconds after it read its configuration Prometheus knows no target and no Alertmanager."""
    answers.pages["/metrics"] = (200, RELOADED.format("prometheus", 1, time.time() - age_seconds))
    answers.api("targets", {"activeTargets": []})
    answers.api("alertmanagers", {"activeAlertmanagers": []})

    targets = states(prometheus.targets(deployment, CLIENT))
    alerting = states(prometheus.alerting(deployment, CLIENT))

    assert targets == dict.fromkeys(deployment.addresses, expected)
    assert alerting == {"alertmanager": expected}


@pytest.mark.parametrize(
    ("requests", "refused", "expected"),
    [(0, 0, "ok"), (4.2, 0, "ok"), (4.2, 2.1, "ok"), (4.2, 4.2, "failed")],
)
def test_mail_that_is_refused_every_time_is_a_failure(
    answers: Answers, deployment: Deployment, requests: float, refused: float, expected: str
) -> None:
    """Alertmanager's plain failed counter stays 0 while it tries again; the requests tell."""
    answers.queries[prometheus.REQUESTS] = [({"integration": "email"}, requests)]
    answers.queries[prometheus.REFUSED] = [({"integration": "email"}, refused)]

    assert set(states(prometheus.notifications(deployment, CLIENT)).values()) == {expected}


@pytest.mark.parametrize(
    ("receivers", "expected"),
    [
        ("  - name: nobody\n", "absent"),
        ("  - name: admins\n    email_configs:\n      - to: a@b.example\n", "ok"),
    ],
)
def test_nobody_to_tell_is_said_and_is_no_failure(
    answers: Answers, deployment: Deployment, receivers: str, expected: str
) -> None:
    """Without receivers alerts are visible and nothing is sent; that is the administrator's choice."""
    file = deployment.state.current / "alertmanager" / "alertmanager.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"receivers:\n{receivers}")

    assert states(prometheus.notifications(deployment, CLIENT)) == {"receivers": expected}


def test_a_rule_that_does_not_evaluate_is_named_with_its_reason(
    answers: Answers, deployment: Deployment
) -> None:
    """A file that is not loaded and a rule in error are failures; a file without rules is not missed."""
    rules = deployment.state.current / "prometheus" / "rules"
    (rules / "lost.yml").write_text(
        "groups:\n  - name: lost\n    rules:\n      - alert: A\n        expr: up\n"
    )
    (rules / "empty.yml").write_text("groups: []\n")
    broken = {"name": "ds01:x:ratio", "health": "err", "lastError": "many-to-many"}
    answers.api("rules", {"groups": [{"name": "g", "file": "/x/here.yml", "rules": [broken]}]})

    found = {check.name: check for check in prometheus.rules(deployment, CLIENT)}

    assert set(found) == {"lost.yml", "g: ds01:x:ratio"}
    assert found["g: ds01:x:ratio"].detail == "many-to-many"


@pytest.mark.parametrize(
    ("accepted", "age_seconds", "expected"), [(1, -60, "ok"), (1, 3600, "failed"), (0, -60, "failed")]
)
def test_the_loaded_configuration_is_the_one_in_force(
    answers: Answers, deployment: Deployment, accepted: int, age_seconds: float, expected: str
) -> None:
    """A server that refused its last configuration, or loaded one before the swap, is not up to date."""
    loaded = time.time() - age_seconds
    lines = [RELOADED.format(name, accepted, loaded) for name in ("prometheus", "alertmanager")]
    answers.pages["/metrics"] = (200, "".join(lines))

    assert set(states(servers.configuration(deployment, CLIENT)).values()) == {expected}


def test_a_source_that_this_machine_lacks_is_told_from_one_that_fails(
    answers: Answers, deployment: Deployment
) -> None:
    """No GPU is no failure; a state file that cannot be read is one."""
    text = 'ds01_collector_success{collector="topology"} 0\nds01_collector_success{collector="state"} 0\n'
    answers.pages["/metrics"] = (200, text)
    bare = Deployment(**{**vars(deployment), "without": {"topology": "no GPU here", "docker": "no Engine"}})

    assert states(servers.collectors(bare, CLIENT)) == {
        "topology": "absent",
        "state": "failed",
        "docker": "absent",
    }


def test_alerts_that_never_reach_alertmanager_are_a_failure(answers: Answers, deployment: Deployment) -> None:
    """Every alert that was sent in the window came back as an error."""
    answers.api("alertmanagers", {"activeAlertmanagers": [{"url": "http://a"}]})
    answers.queries[prometheus.SENT] = answers.queries[prometheus.SEND_ERRORS] = [({}, 3)]

    assert states(prometheus.alerting(deployment, CLIENT)) == {"alertmanager": "failed"}


def test_a_server_that_is_gone_spoils_only_its_own_checks(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look that fails, and one that never ends, leave the others' results standing."""
    monkeypatch.setattr(checks, "LIMIT_SECONDS", 1)
    release = threading.Event()

    def gone() -> list[Check]:
        raise Unreachable("nobody listens there")

    def hangs() -> list[Check]:
        release.wait(60)
        return []

    found = checks._side_by_side({"fine": lambda: [Check("fine", "x", "ok")], "gone": gone, "hangs": hangs})
    release.set()

    assert {area: each[0].state for area, each in found.items()} == {
        "fine": "ok",
        "gone": "failed",
        "hangs": "failed",
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", "ok"),
        ("starting", "ok"),
        ("failing", "failed"),
        ("stray", "failed"),
        ("not installed", "absent"),
    ],
)
def test_every_state_of_a_service_has_its_verdict(state: Any, expected: str) -> None:
    """What failed has a next step."""
    check = local._service(ServiceStatus("grafana", state))

    assert check.state == expected
    assert bool(check.hint) == (expected == "failed")


def test_little_room_on_a_small_disk_is_a_failure_and_a_share_of_a_large_one_is_not(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five per cent of 30 TB is plenty; half a gibibyte is not."""
    for total, free, expected in (
        (30 * 2**40, 2**40, "ok"),
        (100 * 2**30, 4 * 2**30, "failed"),
        (2**31, 2**29, "failed"),
    ):
        usage = type("Usage", (), {"total": total, "free": free})()
        monkeypatch.setattr(local.shutil, "disk_usage", lambda _path, usage=usage: usage)

        assert states(local.disk(deployment, CLIENT)) == {"free space": expected}


def test_nobody_listening_is_said_in_words(deployment: Deployment) -> None:
    """The reason is for people."""
    with pytest.raises(Unreachable, match="nobody listens"):
        CLIENT.get("127.0.0.1:1", "/")


class Signalled:
    """A runtime whose `reload` makes the servers say something else."""

    def __init__(self, answers: Answers, accepted: int) -> None:
        self.answers = answers
        self.accepted = accepted

    def reload(self, _say: object) -> None:
        """What the servers do on a signal."""
        tell(self.answers, self.accepted, time.time() if self.accepted else 1000.0)


def tell(answers: Answers, accepted: int, loaded: float) -> None:
    """Let both servers say how their last reload went."""
    lines = [RELOADED.format(name, accepted, loaded) for name in ("prometheus", "alertmanager")]
    answers.pages["/metrics"] = (200, "".join(lines))


def test_reload_waits_until_both_servers_have_accepted(answers: Answers, deployment: Deployment) -> None:
    """A newer time of success is an answer."""
    tell(answers, 1, 1000.0)

    assert reload.signal_and_wait(Signalled(answers, 1), deployment, str) == ["prometheus", "alertmanager"]


def test_reload_reports_a_server_that_refuses(answers: Answers, deployment: Deployment) -> None:
    """The server's own flag is an answer too, and nobody waits for a minute."""
    tell(answers, 1, 1000.0)

    with pytest.raises(UserError, match="did not accept") as caught:
        reload.signal_and_wait(Signalled(answers, 0), deployment, str)

    assert "logs prometheus" in caught.value.hint


def test_a_server_that_has_read_no_configuration_yet_says_nothing(
    answers: Answers, deployment: Deployment
) -> None:
    """Prometheus answers with zeros before it has read its first; that is no refusal."""
    tell(answers, 0, 0)

    assert servers.last_reload(CLIENT, deployment, "prometheus") is None


def test_reload_waits_for_a_server_that_starts_anew(
    answers: Answers, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that becomes another user's, because of a secret, listens a moment later."""
    ask = servers.last_reload

    def not_yet(*_arguments: object) -> None:
        monkeypatch.setattr(servers, "last_reload", ask)
        raise Unreachable("nobody listens there")

    class Replaced(Signalled):
        def reload(self, say: object) -> None:
            super().reload(say)
            monkeypatch.setattr(servers, "last_reload", not_yet)

    tell(answers, 1, 1000.0)

    assert reload.signal_and_wait(Replaced(answers, 1), deployment, str) == ["prometheus", "alertmanager"]


def test_reload_names_the_server_that_stays_away(
    answers: Answers, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the time is over, which of them it was is the first thing to know."""
    tell(answers, 1, 1000.0)
    monkeypatch.setattr(reload, "ACCEPT_SECONDS", 0)
    deployment.addresses["alertmanager"] = "127.0.0.1:1"

    with pytest.raises(UserError) as caught:
        reload.signal_and_wait(Signalled(answers, 1), deployment, str)

    assert str(caught.value.place) == "alertmanager"


def test_waiting_ends_with_the_names_of_what_does_not_come_up(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that stays down is an error with its next step; a source that is missing is none."""
    down = Check(
        "servers", "prometheus", "failed", "nobody listens there", "monitoring-manage logs prometheus"
    )
    source = Check("collectors", "state", "failed", "no such file", "install the allocator")
    monkeypatch.setattr(readiness, "OUTSIDE_SECONDS", 0)
    found = Health(deployment, (down, source))
    monkeypatch.setattr(readiness, "examine", lambda _deployment: found)

    with pytest.raises(UserError, match="nobody listens there") as caught:
        readiness.wait(deployment, 0.1, str)

    assert "logs prometheus" in caught.value.hint
    found = Health(deployment, (source,))
    assert readiness.wait(deployment, 0.1, str).failed == [source]
