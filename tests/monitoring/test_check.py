"""The check: names that nobody makes, secrets that are none, receivers that the server lacks."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from ds01_monitoring import inventory
from ds01_monitoring.check import check, names, panels, site
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.render import render
from ds01_monitoring.templates import Templates


def problems(settings, state, **options):
    """What `site.check` finds, as text."""
    tree = render(settings, state, runtime="native", hardware="none")
    return [str(finding) for finding in site.check(tree, options.get("version", ()), options.get("today"))]


@pytest.fixture
def edited(tmp_path, settings, state):
    """Renders with one more rule file or dashboard."""

    def render_with(name, text):
        root = tmp_path / "templates"
        for room in ("prometheus", "alertmanager", "grafana", "monitoring"):
            (root / room).mkdir(parents=True, exist_ok=True)
        ship = Templates().root
        for file in (
            "prometheus/dcgm-counters.csv.j2",
            "monitoring/exporter.env.j2",
            "monitoring/supervisord.conf.j2",
        ):
            (root / file).write_text((ship / file).read_text())
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        return render(settings, state, templates=Templates(root)), root / name

    return render_with


def rule(expr, *, labels="severity: warning, notify: mail", summary="It is so."):
    """A rule file with one alert."""
    return (
        "groups:\n  - name: test\n    rules:\n      - record: ds01:other:ratio\n        expr: max by (host) (up)\n"
        f"      - alert: DS01Test\n        expr: |\n          {expr}\n"
        f"        labels: {{{labels}}}\n        annotations: {{summary: '{summary}'}}\n"
    )


def test_what_ships_names_nothing_that_does_not_exist(settings, state, tools):
    """Rules, dashboards and receivers as they ship raise no error and no warning."""
    for hardware in ("dcgm", "nvml", "none"):
        tree = render(settings, state, hardware=hardware)

        assert [str(finding) for finding in check(tree, path=str(tools))] == []


@pytest.mark.parametrize("hardware", ["dcgm", "none"])
@pytest.mark.parametrize("instances", [(), ("1", "7")])
def test_an_inventory_of_one_kind_of_card_is_no_mistake(settings, state, hardware, instances):
    """All cards whole, or all of them in MIG mode: that all rules of a site look alike says nothing about matching."""
    state.root.mkdir(parents=True, exist_ok=True)
    inventory.write(state, [inventory.Card("0", "GPU-a", instances), inventory.Card("1", "GPU-b", instances)])

    assert names.check(render(settings, state, runtime="native", hardware=hardware)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rule("ds01_gpu_utilisation > 1"), "DS01Test: nobody exports or records ds01_gpu_utilisation"),
        (rule('up{jop="x"} == 0'), "DS01Test: up has no label jop"),
        (rule('up{job="ds01_exporter"} == 0'), "DS01Test: there is no job ds01_exporter"),
        (rule("node_load15 > count(node_cpu_seconds_total)"), "DS01Test: `>` never matches"),
        (rule("ds01:other:ratio > 1", summary="{{ $labels.gpu }}"), "DS01Test: the text names the label gpu"),
        (rule("up == 0", summary='{{ with query "nobody_has_this" }}{{ end }}'), "records nobody_has_this"),
        (rule("DCGM_FI_DEV_NOT_CONFIGURED > 0"), "nobody exports or records DCGM_FI_DEV_NOT_CONFIGURED"),
    ],
)
def test_a_dangling_name_is_an_error_with_its_file_and_line(edited, text, problem):
    """The finding names the alert, what is wrong, and the line of the template to edit."""
    tree, file = edited("prometheus/rules/test.yml.j2", text)

    (finding,) = names.check(tree)

    assert finding.level == "error"
    assert problem in finding.problem
    path, _, line = finding.place.rpartition(":")
    assert path == str(file)
    assert 6 <= int(line) <= 11


def test_a_recorded_series_has_the_labels_that_its_rule_gives_it(edited):
    """Labels go through recording rules: aggregated away, they cannot be matched later."""
    tree, _ = edited("prometheus/rules/test.yml.j2", rule('ds01:other:ratio{job="prometheus"} > 1'))

    assert ["ds01:other:ratio has no label job" in finding.problem for finding in names.check(tree)] == [True]


def test_a_dashboards_query_and_legend_are_looked_at(settings, state):
    """A panel's metric that nobody makes and a legend's label that the result lacks are errors."""
    tree = render(settings, state)
    folder = tree.path / "grafana/dashboards"
    folder.mkdir(exist_ok=True)
    targets = [
        {"expr": "nobody_has_this"},
        {"expr": "sum by (host) (up)", "legendFormat": "{{host}} {{gpu}}"},
    ]
    variables = [{"type": "query", "name": "u", "query": {"query": "label_values(up, user)"}}]
    board = {"panels": [{"title": "P", "targets": targets}], "templating": {"list": variables}}
    (folder / "test.json").write_text(json.dumps(board))

    found = [finding.problem for finding in names.check(tree)]

    assert found == [
        "P: nobody exports or records nobody_has_this",
        "P: the legend names gpu, which the query's result does not have",
        "u: the legend names user, which the query's result does not have",
    ]


def test_a_range_beyond_the_retention_is_a_warning(settings, state):
    """A dashboard that opens on more time than is kept would be half empty."""
    tree = render(settings, state)
    folder = tree.path / "grafana/dashboards"
    folder.mkdir(exist_ok=True)
    (folder / "test.json").write_text(json.dumps({"title": "T", "time": {"from": "now-30d"}}))

    (finding,) = panels.check_ranges(tree)

    assert (finding.level, finding.problem) == ("warning", "T shows 30d and samples are kept for 7d")


MAIL = "notify: {mail: {smarthost: 'm:25', from: a@b.org, to: [c@d.org], username: u, password_file: FILE}}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        ("", "is empty"),
        ("CHANGE_ME", "holds a placeholder"),
        ("YOUR_PASSWORD_HERE", "holds a placeholder"),
        ("<password>", "holds a placeholder"),
        ("ds01admin", "holds a placeholder"),
        ("FIXME", "holds a placeholder"),
        ("replace-me", "holds a placeholder"),
        ("dummy", "holds a placeholder"),
        ("***", "holds a placeholder"),
    ],
)
def test_a_secret_that_is_none_is_refused(state, tmp_path, content, problem):
    """Amtool accepts a missing password file; we look into it."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)

    (found,) = problems(parse_settings(MAIL.replace("FILE", str(file))), state)

    assert found.startswith("error: notify.mail.password_file: ")
    assert problem in found


@pytest.mark.parametrize("key", ["password_file", "ca_file"])
def test_a_folder_is_told_as_one(state, tmp_path, key):
    """The command that writes a missing secret would write into the folder, under another name."""
    mail = "smarthost: 'm:25', from: a@b.org, to: [c@d.org]"

    found = problems(parse_settings(f"notify: {{mail: {{{mail}, {key}: {tmp_path}}}}}"), state)

    assert (
        f"error: notify.mail.{key}: {tmp_path}: Is a directory\n  hint: it is a folder; name the file in it"
        in found
    )


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        ("https://hooks.invalid/services/T0/B0?key=a%20b", True),
        ("http://u:p@127.0.0.1:8080", True),
        ("http://[::1]:8080/alert\n", True),
        ("hooks.invalid/1", False),
        ("http://", False),
        ("https:///1", False),
        ("http://:8080/1", False),
        ("http://hooks.invalid:port/1", False),
        ("https://x y", False),
        ("https://hooks.invalid/1\nhttps://hooks.invalid/2", False),
    ],
)
def test_a_receivers_address_is_one_with_a_host(state, tmp_path, content, accepted):
    """Alertmanager would start with it, and fail at each notification."""
    file = tmp_path / "url"
    file.write_text(content)
    file.chmod(0o600)

    found = problems(parse_settings(f"notify: {{slack: {{url_file: {file}}}}}"), state)

    assert ["holds no http address" in line for line in found] == ([] if accepted else [True])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        ("not one", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----", ""),
    ],
)
def test_an_authority_that_cannot_be_used_is_refused(state, tmp_path, content, problem):
    """Alertmanager and amtool look at it only when the first mail is to go out."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    mail = f'smarthost: "mail.lab.example:587", from: gpu@lab.example, to: [a@lab.example], ca_file: {file}'

    found = problems(parse_settings(f"notify: {{mail: {{{mail}}}}}"), state)

    assert [problem in line for line in found] == ([True] if problem else [])


def test_a_password_that_nobody_logs_in_with_is_a_warning(state, tmp_path):
    """Without a name Alertmanager sends no password either, and most servers then refuse the mail."""
    file = tmp_path / "password"
    file.write_text("correct horse")
    file.chmod(0o600)

    (found,) = problems(parse_settings(MAIL.replace("FILE", str(file)).replace("username: u, ", "")), state)

    assert found.startswith("warning: notify.mail.username: ")


def test_a_secret_that_others_can_read_is_a_warning(state, tmp_path):
    """It works, and sixty people have a shell."""
    file = tmp_path / "password"
    file.write_text("correct horse")
    file.chmod(0o644)

    (found,) = problems(parse_settings(MAIL.replace("FILE", str(file))), state)

    assert found.startswith("warning: ")
    assert "mode 0644" in found


def test_what_the_installed_alertmanager_lacks_is_refused(state, tmp_path):
    """The message has the version found and the version needed."""
    file = tmp_path / "url"
    file.write_text("https://hooks.invalid/1")
    file.chmod(0o600)
    settings = parse_settings(f"notify: {{teams: {{url_file: {file}}}, webhook: {{url_file: {file}}}}}")

    old = problems(settings, state, version=(0, 25, 0))

    assert "notify.teams: Alertmanager 0.25.0 has no msteamsv2_configs; 0.28 or later is needed" in old[0]
    assert "notify.webhook: Alertmanager 0.25.0 has no webhook_configs.url_file" in old[1]
    assert problems(settings, state, version=(0, 33, 1)) == []


def test_a_prometheus_that_is_too_old_is_told_in_our_words_only(settings, state, tmp_path):
    """Ubuntu 22.04 has 2.31, whose promtool speaks of a field that is not found in a Go type."""
    promtool = tmp_path / "promtool"
    promtool.write_text(
        "#!/bin/sh\n"
        'test "$1" = --version && echo "promtool, version 2.31.2+ds1 (branch: debian/sid)" && exit\n'
        'echo "FAILED: yaml: field keep_firing_for not found in type rulefmt.RuleNode"; exit 1\n'
    )
    promtool.chmod(0o755)

    found = [
        finding for finding in check(render(settings, state), path=str(tmp_path)) if not finding.untested
    ]

    assert [finding.problem for finding in found] == [
        "Prometheus 2.31.2 has no keep_firing_for, which the rules need; 2.42 or later is needed"
    ]


def test_an_alertmanager_that_is_too_old_is_told_in_our_words_only(state, tmp_path, suite):
    """What amtool says about fields of Go types does not come before the version needed, nor beside it."""
    file = tmp_path / "url"
    file.write_text("https://hooks.invalid/1")
    file.chmod(0o600)
    settings = parse_settings(
        f"runtime: native\nhardware: none\nnotify: {{teams: {{url_file: {file}}}, heartbeat: {{url_file: {file}}}}}"
    )

    found = [str(finding) for finding in check(render(settings, state), path=str(suite))]

    old = ["notify.teams: Alertmanager 0.25.0 has no", "notify.heartbeat: Alertmanager 0.25.0 has no"]
    assert len(found) == (len(old) if "bookworm" in str(suite) else 0), found
    assert all(
        line.startswith(f"error: monitoring.yaml:3: {wanted}")
        for line, wanted in zip(found, old, strict=False)
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("notify: {quiet_hours: {time_zone: Europe/Bonn}}", "there is no time zone 'Europe/Bonn'"),
        ("notify: {digest: {time_zone: Mars/Base}}", "digest.time_zone: there is no time zone 'Mars/Base'"),
        ("notify: {quiet_hours: {holidays: [{first: 2025-12-24, last: 2026-01-01}]}}", "all have passed"),
    ],
)
def test_dates_and_addresses_that_would_fail_later(state, text, problem):
    """A holiday list that has run out, a time zone that does not exist."""
    found = problems(parse_settings(text), state, today=dt.date(2026, 6, 1))

    assert any(problem in line for line in found), found


def test_a_time_zone_that_does_not_exist_is_told_once(state, suite):
    """Amtool stops at it, too, and blames a template in which nothing is to be mended."""
    text = "runtime: native\nhardware: none\nnotify: {digest: {time_zone: Mars/Base}}"

    found = check(render(parse_settings(text), state), path=str(suite))

    assert [finding.problem for finding in found] == ["there is no time zone 'Mars/Base'"]


def test_what_is_wrong_with_a_setting_is_told_with_file_line_and_key(state, tools, tmp_path):
    """Also what only a look at other files, at the date or at the rendered alerts can tell; what is not there has its section's line."""
    url = tmp_path / "url"
    url.write_text("https://hooks.invalid/1")
    url.chmod(0o644)
    text = f"""\
runtime: native
hardware: none
prometheus: {{retention_time: 1d}}
alerts:
  notify:
    DS01Typo: mail
    DS01Watchdog: page
  gpu_waste:
    window: 25h
notify:
  mail:
    smarthost: m:25
    from: a@b.org
    to: [c@d.org]
    password_file: /nonexistent/password
    ca_file: /nonexistent/ca
  webhook:
    url_file: {url}
  quiet_hours:
    time_zone: Mars/Base
    holidays:
      - {{first: 2020-01-01, last: 2020-01-02}}
"""
    findings = check(render(parse_settings(text, "site.yaml"), state), path=str(tools))

    assert {finding.place for finding in findings if finding.place.startswith("site.yaml")} == {
        "site.yaml:6: alerts.notify.DS01Typo",
        "site.yaml:7: alerts.notify.DS01Watchdog",
        "site.yaml:9: alerts.gpu_waste.window",
        "site.yaml:4: alerts.xid.hold",
        "site.yaml:11: notify.mail.username",
        "site.yaml:15: notify.mail.password_file",
        "site.yaml:16: notify.mail.ca_file",
        "site.yaml:17: notify.webhook",
        "site.yaml:18: notify.webhook.url_file",
        "site.yaml:20: notify.quiet_hours.time_zone",
        "site.yaml:21: notify.quiet_hours.holidays",
    }


@pytest.mark.parametrize("name", ["DS01Watchdog", "DS01UserWaste", "DS01UserWasteOver"])
def test_an_audience_that_something_hangs_on_stays(state, tools, name):
    """Another audience would change nothing, or take away the users' mail."""
    wrong = parse_settings(f"alerts: {{notify: {{{name}: page}}}}\nruntime: native\nhardware: none\n")

    found = [finding for finding in check(render(wrong, state), path=str(tools)) if finding.level == "error"]

    assert [finding.place for finding in found] == [f"monitoring.yaml:1: alerts.notify.{name}"]


def test_a_window_beyond_what_is_kept_is_doubtful(state, tools):
    """An alert cannot look back further than the series go; the default settings can."""
    short = parse_settings(
        "prometheus: {retention_time: 1d}\nalerts: {gpu_waste: {window: 25h}}\nruntime: native\nhardware: none\n"
    )

    found = [
        finding for finding in check(render(short, state), path=str(tools)) if "longer than" in str(finding)
    ]

    assert {finding.level for finding in found} == {"warning"}
    assert [finding.place for finding in found if "retention_time" in finding.problem] == [
        "monitoring.yaml:2: alerts.gpu_waste.window",
        "monitoring.yaml:2: alerts.xid.hold",
    ]


def test_an_audience_for_an_alert_that_does_not_exist_is_refused(state, settings, tools):
    """A typing mistake in `alerts.notify` would otherwise change nothing, silently."""
    wrong = parse_settings("alerts: {notify: {DS01ExporterDwn: mail}}\nruntime: native\nhardware: none\n")

    found = [finding for finding in check(render(wrong, state), path=str(tools)) if finding.level == "error"]

    assert [finding.problem for finding in found] == ["there is no such alert"]
    assert found[0].hint == "did you mean DS01ExporterDown?"
