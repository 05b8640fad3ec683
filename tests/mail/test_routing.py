"""Who hears what: every alert, asked of Alertmanager's own routing, and what hides what."""

from __future__ import annotations

import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from pathlib import Path

import pytest
import yaml
from tests.mail.conftest import wait_for
from tests.rules import driver

from ds01_monitoring import context
from ds01_monitoring.commands.backtest import before_enabling, users_are_mailed
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.config.types import duration_seconds
from ds01_monitoring.mailing import user_mail
from ds01_monitoring.paths import StateDir
from ds01_monitoring.templates import Templates

TABLE = Path(__file__).with_name("routes.txt")
MAIL = 'notify: {mail: {smarthost: "mail.lab.example:25", from: gpu@lab.example, to: [admin@lab.example]}'
SITES = {
    "mail": MAIL + "}\n",
    "users": MAIL + ", users: {enabled: true, domain: lab.example}}\n",
}


def render(site: str, folder: Path) -> Path:
    """The rendered alertmanager.yml of a site."""
    settings = parse_settings("site: {host: gpu01}\nruntime: native\n" + site)
    resolved = context.resolve(settings, StateDir(folder / "state"), runtime="native", hardware="dcgm")
    for name in ("alertmanager.yml", "templates/mail.tmpl"):
        target = folder / "alertmanager" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Templates().render(f"alertmanager/{name}.j2", resolved.variables()))
    return folder / "alertmanager" / "alertmanager.yml"


def receiver(amtool: Path, file: Path, labels: dict[str, str]) -> str:
    """What `amtool config routes test` says of an alert with these labels."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    command = [str(amtool), "config", "routes", "test", f"--config.file={file}", *pairs]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.tools
def test_who_hears_every_alert(suite, tmp_path, update_golden):
    """Each alert of the rules goes to the receiver that the table says, with and without mail to users."""
    files = {name: render(site, tmp_path / name) for name, site in SITES.items()}
    lines = [f"{'alert':<38} {'severity':<9} {'notify':<10} {'mail only':<10} users told"]
    alerts = [rule for rule in driver.rules_of(driver.render()) if "alert" in rule]
    for name in sorted({rule["alert"] for rule in alerts}):
        rule = next(rule for rule in alerts if rule["alert"] == name)
        labels = {"alertname": name, "host": "gpu01", "user": "ann", **rule["labels"]}
        heard = [receiver(suite / "usr" / "bin" / "amtool", file, labels) for file in files.values()]
        lines.append(
            f"{name:<38} {labels['severity']:<9} {labels['notify']:<10} {heard[0]:<10} {heard[1]}".rstrip()
        )
    lines += [
        "",
        "What is for the digest is told by DS01Digest, once a week: prometheus/rules/digest.yml.j2.",
    ]
    text = "\n".join(lines) + "\n"
    if update_golden:
        TABLE.write_text(text, encoding="utf-8")

    assert text == TABLE.read_text(encoding="utf-8"), "make golden rewrites the table; read the diff"


@pytest.mark.tools
@pytest.mark.parametrize("user", ["müller", "UNI\\ann", "o'neil", 'say "x"'])
def test_a_name_of_any_letters_is_found_in_the_configuration(suite, tmp_path, user):
    """Who has an address of their own gets mail there, and who is an exception none, in whatever script."""
    for what, wanted in (
        ({"addresses": {user: "m@lab.example"}}, "user-1"),
        ({"exceptions": [{"user": user, "reason": "teaches"}]}, "nobody"),
    ):
        users = yaml.safe_dump({"enabled": True, "domain": "lab.example", **what}, default_flow_style=True)
        file = render(f"{MAIL}, users: {users.strip()}}}\n", tmp_path)
        quoted = user.replace("\\", "\\\\").replace('"', '\\"')
        labels = {"alertname": "DS01UserWaste", "notify": "user", "user": f'"{quoted}"'}

        assert receiver(suite / "usr" / "bin" / "amtool", file, labels) == wanted


@pytest.mark.tools
@pytest.mark.parametrize(
    "name", ["ann", "a.b-c_1", "eve", "Bob", "bob", "a..b", ".ann", "x@evil.example,ann", ""]
)
def test_a_route_takes_whom_alertmanager_lets_it_take(suite, tmp_path, name):
    """What the backtest reads off the routes is what Alertmanager does with them."""
    users = "users: {enabled: true, domain: lab.example, addresses: {Bob: b@lab.example}, exceptions: [{user: eve, reason: r}]}"
    site = f"{MAIL}, {users}}}\n"
    route = user_mail(parse_settings(site).notify.users).route(name)
    labels = {"alertname": "DS01UserWaste", "notify": "user", "user": f'"{name}"'}

    heard = receiver(suite / "usr" / "bin" / "amtool", render(site, tmp_path), labels)
    assert heard == (route.receiver if route else "admins-for-users")


def test_what_repeats_at_every_look_is_ready_by_then(tmp_path):
    """No repeat_interval equals its group_interval: at the next look it would be short by what sending took.

    Alertmanager 0.25 and 0.33 then skip every second one: a heartbeat of 5 min comes every 10.
    """
    secret = tmp_path / "url"
    site = (
        MAIL
        + f", heartbeat: {{url_file: {secret}, interval: 5m}}, users: {{enabled: true, domain: lab.example}}}}\n"
    )
    top = yaml.safe_load(render(site, tmp_path).read_text(encoding="utf-8"))["route"]
    routes = {str(route["matchers"]): {**top, **route} for route in top["routes"]}

    for name, route in routes.items():
        assert duration_seconds(route["repeat_interval"]) != duration_seconds(route["group_interval"]), name
    heartbeat = routes["['alertname=\"DS01Watchdog\"']"]
    assert heartbeat["group_interval"] == "5m"
    assert duration_seconds(heartbeat["repeat_interval"]) < duration_seconds("5m")


def test_the_digest_is_due_once_on_its_day(tmp_path):
    """From the hour that is set until midnight, never twice on that day, and always a week later."""
    site = MAIL + ", digest: {day: friday, begin: '07:30', time_zone: Europe/Berlin}}\n"
    content = yaml.safe_load(render(site, tmp_path).read_text(encoding="utf-8"))
    (route,) = (route for route in content["route"]["routes"] if "active_time_intervals" in route)

    assert route["matchers"] == ['alertname="DS01Digest"', 'notify="digest"']
    assert content["time_intervals"] == [
        {
            "name": route["active_time_intervals"][0],
            "time_intervals": [
                {
                    "weekdays": ["friday"],
                    "times": [{"start_time": "07:30", "end_time": "24:00"}],
                    "location": "Europe/Berlin",
                }
            ],
        }
    ]
    day, week = duration_seconds("1d"), duration_seconds("7d")
    assert day < duration_seconds(route["repeat_interval"]) <= week - day


def test_a_repeat_is_due_at_the_look_it_is_promised_for(tmp_path):
    """Critical every hour, warning every 4 h, information every 24 h: not one look sooner, and with time to send.

    Alertmanager looks every group_interval and repeats what was sent longer than repeat_interval ago.
    """
    top = yaml.safe_load(render(SITES["mail"], tmp_path).read_text(encoding="utf-8"))["route"]
    look, room = duration_seconds(top["group_interval"]), 120
    repeats = {
        matcher: duration_seconds(route["repeat_interval"])
        for route in top["routes"]
        for matcher in route["matchers"]
        if matcher.startswith(("severity=", 'notify="page"'))
    }

    promised = {'notify="page"': 1, 'severity="critical"': 1, 'severity="warning"': 4, 'severity="info"': 24}
    assert repeats.keys() == promised.keys()
    for matcher, hours in promised.items():
        assert hours * 3600 % look == 0
        assert hours * 3600 - look + room <= repeats[matcher] <= hours * 3600 - room, matcher


@pytest.mark.parametrize(
    ("severity", "notify", "at_once", "hours"),
    [("critical", "page", True, 1), ("critical", "mail", False, 4), ("warning", "page", True, 1)],
)
def test_another_audience_makes_a_difference(tmp_path, severity, notify, at_once, hours):
    """A page that the site has made a mail of is told as mails are, and the other way about."""
    top = yaml.safe_load(render(SITES["mail"], tmp_path).read_text(encoding="utf-8"))["route"]
    labels = {f'severity="{severity}"', f'notify="{notify}"'}
    route = next(route for route in top["routes"] if labels >= set(route["matchers"]))

    assert (duration_seconds(route.get("group_wait", top["group_wait"])) <= 10) is at_once
    assert (hours - 1) * 3600 < duration_seconds(route["repeat_interval"]) < hours * 3600


@pytest.mark.parametrize(
    ("source", "target", "hidden"),
    [
        (
            {"alertname": "DS01HostDown", "severity": "critical"},
            {"alertname": "DS01DCGMNoData", "severity": "critical"},
            True,
        ),
        (
            {"alertname": "DS01HostDown", "severity": "critical"},
            {"alertname": "DS01Watchdog", "severity": "none"},
            False,
        ),
        (
            {
                "alertname": "DS01GPUCriticalTemperature",
                "severity": "critical",
                "topic": "gpu",
                "UUID": "GPU-a",
            },
            {"alertname": "DS01GPUHighTemperature", "severity": "warning", "topic": "gpu", "UUID": "GPU-a"},
            True,
        ),
        (
            {
                "alertname": "DS01GPUCriticalTemperature",
                "severity": "critical",
                "topic": "gpu",
                "UUID": "GPU-a",
            },
            {"alertname": "DS01GPUHighTemperature", "severity": "warning", "topic": "gpu", "UUID": "GPU-b"},
            False,
        ),
        (
            {"alertname": "DS01XidCritical", "severity": "critical", "topic": "gpu", "UUID": "GPU-a"},
            {"alertname": "DS01GPUHighTemperature", "severity": "warning", "topic": "gpu", "UUID": "GPU-a"},
            False,
        ),
        (
            {"alertname": "DS01XidCritical", "severity": "critical", "topic": "gpu", "UUID": "GPU-a"},
            {"alertname": "DS01XidWarning", "severity": "warning", "topic": "gpu", "UUID": "GPU-a"},
            True,
        ),
        (
            {"alertname": "DS01DCGMExporterDown", "severity": "critical", "topic": "exporter"},
            {"alertname": "DS01MIGWaste", "severity": "warning", "topic": "waste", "user": "ann"},
            True,
        ),
        (
            {"alertname": "DS01DigestOver", "severity": "none", "notify": "dashboard"},
            {"alertname": "DS01Digest", "severity": "none", "notify": "digest"},
            True,
        ),
        (
            {"alertname": "DS01ExporterDown", "severity": "critical", "topic": "exporter"},
            {"alertname": "DS01GPUHighTemperature", "severity": "warning", "topic": "gpu", "UUID": "GPU-a"},
            False,
        ),
    ],
    ids=lambda labels: labels["alertname"] if isinstance(labels, dict) else None,
)
def test_what_hides_what(alertmanager, source, target, hidden):
    """An alert is hidden by its cause on the same host or card, and by nothing else."""
    running = alertmanager(scale=1)
    for labels in (source, target):
        running.post(
            labels["alertname"], **{name: value for name, value in labels.items() if name != "alertname"}
        )

    def inhibited() -> list[bool]:
        return [
            bool(alert["status"]["inhibitedBy"])
            for alert in running.api.alerts(alertname=target["alertname"])
            if alert["status"]["state"] != "unprocessed"
        ]

    wait_for(lambda: inhibited() == [hidden], f"inhibited: {hidden}")


@pytest.mark.parametrize(
    ("file", "hiding", "hidden"),
    [("users.yml", "DS01UserWasteOver", "DS01UserWaste"), ("digest.yml", "DS01DigestOver", "DS01Digest")],
)
def test_a_restarted_alertmanager_hears_first_what_is_over(file, hiding, hidden):
    """Each round of the rules sends both alerts, the hiding one first; alone, an old one would be mailed at once.

    Prometheus sends an alert again in the first round after its resend delay (1m by default), and one says for four rounds
    how long it lasts. It evaluates side by side what does not read each other (`buildDependencyMap` in its
    rules/group.go), so the hidden alert has to name the hiding one.
    """
    (group,) = driver.render()[file]["groups"]
    alerts = {rule["alert"]: rule["expr"] for rule in group["rules"] if "alert" in rule}

    assert list(alerts) == [hiding, hidden]
    assert f'ALERTS{{alertname="{hiding}"' in alerts[hidden]
    assert duration_seconds(group["interval"]) > 60


DRY = SITES["users"].replace("enabled: true", "enabled: true, dry_run: true")


def test_mail_to_users_is_noticed_in_what_is_rendered(tmp_path):
    """Only a tree whose Alertmanager has users' receivers counts as one that mails them."""
    assert not users_are_mailed(tmp_path)
    for name, site in {**SITES, "dry": DRY}.items():
        render(site, tmp_path / name)
        assert users_are_mailed(tmp_path / name) == (name == "users")
        assert users_are_mailed(tmp_path / name, dry_run=True) == (name != "mail")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("", SITES["users"], "notify.users is new."),
        (SITES["mail"], DRY, "notify.users is new."),
        (DRY, SITES["users"], "notify.users.dry_run is off now."),
        (DRY, DRY, ""),
        (SITES["users"], SITES["users"], ""),
        (SITES["users"], DRY, ""),
        (SITES["users"], SITES["mail"], ""),
    ],
)
def test_switching_users_mail_on_shows_what_it_would_have_been(tmp_path, capsys, before, now, said):
    """Only the first time, and an unreachable Prometheus is said rather than hidden."""
    state = StateDir(tmp_path / "state")
    if before:
        state.rendered.mkdir(parents=True)
        state.current.symlink_to(render(before, tmp_path / "tree").parents[1])
    before_enabling(parse_settings(now), state)

    told = capsys.readouterr().out
    assert told.startswith(said)
    assert ("unknown" in told) == bool(said)
