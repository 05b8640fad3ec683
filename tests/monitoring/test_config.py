"""The configuration file: defaults, overrides, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01_monitoring.config import config_path, load_settings
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.errors import ConfigError


def mistake(text: str, env: dict[str, str] | None = None) -> str:
    """What is said about a configuration that is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "site.yaml", env)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "prometheus:\n", "ports:\n  prometheus:\n"])
def test_an_empty_file_or_key_means_the_default(text):
    """A file whose keys are all commented out is a valid site."""
    settings = parse_settings(text)

    assert settings.ports.prometheus == 9090
    assert settings.prometheus.retention_time == "7d"
    assert settings.notify.mail is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site:\n  nam: x\n", "site.yaml:2: site.nam: unknown key\n  hint: did you mean name?"),
        ("\nportz: {}\n", "site.yaml:2: portz: unknown key\n  hint: did you mean ports?"),
        (
            "ports: {grafana: 70000}\n",
            "site.yaml:1: ports.grafana: input should be less than or equal to 65535",
        ),
        ("runtime: nativ\n", "hint: did you mean native? allowed here: auto, compose, native"),
        ("runtime: off\n", "YAML reads off as false; put it in quotes if the word is meant: 'off'"),
        ("notify:\n  quiet_hours:\n    begin: 18:00\n", "site.yaml:3: YAML reads 18:00 as the number 1080"),
        ("site: {name: 2024}\n", "YAML reads 2024 as a int; put it in quotes: '2024'"),
        (
            "notify: {users: {addresses: {1001: c@x.org}}}\n",
            "YAML reads the key 1001 as a int; put it in quotes",
        ),
        (
            "notify: {users: {addresses: {true: c@x.org}}}\n",
            "YAML reads the key True as a bool; put it in quotes",
        ),
        ("notify: {users: {addresses: {no: a@b.org}}}\n", "YAML reads the key no as true or false"),
        ("runtime: auto\nruntime: native\n", "site.yaml:2: the key runtime stands twice"),
        ("alerts: {gpu_waste: {window: soon}}\n", "alerts.gpu_waste.window: 'soon' is no duration"),
        ("alerts: {gpu_waste: {window: 0s}}\n", "alerts.gpu_waste.window: must be longer than zero"),
        ("alerts: {gpu_metrics_frozen: {window: 15s}}", "15s holds too few readings, which come every 15 s"),
        (
            "alerts: {disk_filling: {trend: 9m}}",
            "9m holds too few readings, which come every 60 s; 10m at least",
        ),
        ("alerts: {notifications_failing: {watchdog_after: 1s}}", "1s holds too few readings"),
        ("alerts: {xid: {remember: 5s}}", "5s holds too few readings"),
        ("notify: {users: {after: 1s}}", "notify.users.after: 1s holds too few readings"),
        (
            "alerts: {gpu_temperature: {warning: 90}}",
            "alerts.gpu_temperature: critical (90) must be above warning (90)",
        ),
        ("alerts: {xid: {critical: [79, 31]}}", "alerts.xid: 31 is a code that programs cause themselves"),
        ("alerts: {xid: {warning: [43]}}", "43 is a code that programs cause themselves"),
        ("alerts: {xid: {warning: [94, 79]}}", "alerts.xid: 79 is in both lists"),
        ("alerts: {host_load: {above: .inf}}", "alerts.host_load.above: input should be a finite number"),
        ("dcgm: {address: here}\n", "dcgm.address: 'here' is no address; write it as host:port"),
        ("notify: {mail: {smarthost: 'a:25', to: [a@b.org]}}\n", "notify.mail.from: is missing"),
        (
            "notify:\n  users:\n    exceptions:\n      - {user: ann, reason: teaches}\n      - {user: eve}\n",
            "site.yaml:5: notify.users.exceptions.1.reason: is missing",
        ),
        (
            "notify: {users: {exceptions: [{user: '', reason: teaches}]}}",
            "notify.users.exceptions.0.user: must not be blank",
        ),
        (
            "notify: {users: {exceptions: [{user: ann, reason: ' '}]}}",
            "notify.users.exceptions.0.reason: must not be blank",
        ),
        (
            "notify: {users: {exceptions: [{user: ann, reason: a}, {user: eve, reason: a}, {user: ann, reason: b}]}}",
            "notify.users.exceptions: ann is there twice",
        ),
        ("notify: {mail: {smarthost: 'a:25', from: root, to: [a@b.org]}}\n", "'root' is not a mail address"),
        (
            "notify: {mail: {smarthost: 'a:25', from: a@b.org, to: ['{{x@b.org']}}\n",
            "'{{x@b.org' is not a mail address",
        ),
        ("notify: {users: {addresses: {ann: '{{.x}}@b.org'}}}\n", "'{{.x}}@b.org' is not a mail address"),
        ("allocations: {state_file: here.json}\n", "'here.json' is not absolute; start it with /"),
        (
            "notify: {mail: {smarthost: 'a:25', from: a@b.org, to: [a@b.org], username: x}}",
            "site.yaml:1: notify.mail: username is given and password_file is not",
        ),
        ("notify:\n  users: {enabled: true}\n", "site.yaml:1: notify: users.enabled needs notify.mail"),
        (
            "notify: {quiet_hours: {holidays: [{first: 2027-01-02, last: 2027-01-01}]}}",
            "2027-01-02 is after 2027-01-01",
        ),
        (
            "notify:\n  quiet_hours:\n    holidays:\n      - {first: 2026-02-30, last: 2026-03-01}\n",
            "site.yaml:4: notify.quiet_hours.holidays.0.first: YAML cannot read 2026-02-30 as a timestamp",
        ),
        (
            "notify: {users: {addresses: {2026-13-01: a@b.org}}}",
            "addresses.2026-13-01: YAML cannot read 2026-13-01",
        ),
        (
            "alerts: {notify: {a: 2026-01-01 00:00:00 +99:00}}",
            "site.yaml:1: alerts.notify.a: YAML cannot read 2026",
        ),
        (f"ports: {{grafana: {'9' * 5000}}}", "site.yaml:1: ports.grafana: YAML cannot read 999999"),
        ("ports: {grafana: !!int many}", "site.yaml:1: ports.grafana: YAML cannot read many as a int"),
        (
            "alerts: {gpu_waste: {below: !!float a.b}}",
            "alerts.gpu_waste.below: YAML cannot read a.b as a float",
        ),
        (
            "notify: {digest: {day: !!timestamp today}}",
            "notify.digest.day: YAML cannot read today as a timestamp",
        ),
        ("security: {local_auth: !!bool maybe}", "security.local_auth: YAML cannot read maybe as a bool"),
        ("notify: {quiet_hours: {begin: '18:00'}}", "begin and end belong together; one of them is missing"),
        ("notify: {quiet_hours: {begin: '18:00', end: '18:00'}}", "begin and end are both 18:00"),
        ("notify: {users: {domain: '@example.org'}}", "'@example.org' is not a mail domain"),
        ("notify: {users: {domain: 'evil.example,ann'}}", "'evil.example,ann' is not a mail domain"),
        ("notify: {users: {at_most_every: 8d}}", "8d is longer than Alertmanager remembers what it sent"),
        ("a: [1\n", "not YAML"),
        ("- 1\n", "site.yaml: must be a mapping of settings"),
    ],
)
def test_a_mistake_names_file_line_key_and_remedy(text, expected):
    """Every mistake says where it is, which key, what is wrong and what would be right."""
    assert expected in mistake(text)


def test_all_mistakes_are_told_in_one_run():
    """Each looks as it would alone; a key that could be of two types is one mistake."""
    text = "dcgm: {address: here}\nnotify:\n  mail:\n    smarthost: m:25\n    from: gpu\n    to:\n      - admin\n      - a@b.org\nportz: {}\n"

    assert mistake(text) == (
        "site.yaml:1: dcgm.address: 'here' is no address; write it as host:port\n"
        "  hint: the value given is 'here'; config/monitoring.yaml documents every key\n"
        "error: site.yaml:5: notify.mail.from: 'gpu' is not a mail address with a domain, like admin@example.org\n"
        "  hint: the value given is 'gpu'; config/monitoring.yaml documents every key\n"
        "error: site.yaml:7: notify.mail.to.0: 'admin' is not a mail address with a domain, like admin@example.org\n"
        "  hint: the value given is 'admin'; config/monitoring.yaml documents every key\n"
        "error: site.yaml:9: portz: unknown key\n"
        "  hint: did you mean ports? " + mistake("portz: {}").partition("ports? ")[2]
    )


def test_all_that_yaml_misreads_is_told_in_one_run():
    """Who forgets the quotes of `begin` forgets those of `end`."""
    told = mistake(
        "notify:\n  quiet_hours:\n    begin: 18:00\n    end: 22:00\n    days: []\n    days: [sunday]\n"
    )

    assert told.splitlines()[::2] == [
        "site.yaml:3: YAML reads 18:00 as the number 1080",
        "error: site.yaml:4: YAML reads 22:00 as the number 1320",
        "error: site.yaml:6: the key days stands twice",
    ]


def test_single_braces_in_an_address_are_fine():
    """They are letters of a mailbox; two of them would begin a template of Alertmanager's."""
    assert parse_settings("notify: {users: {addresses: {ann: '{a}@b.org'}}}").notify.users.addresses == {
        "ann": "{a}@b.org"
    }


def test_links_to_grafana_follow_its_port():
    """A changed port changes the address in mails, unless the site names another."""
    assert parse_settings("ports: {grafana: 3333}").grafana.root_url == "http://localhost:3333"
    assert (
        parse_settings("ports: {grafana: 3333}\ngrafana: {root_url: 'https://g.example'}").grafana.root_url
        == "https://g.example"
    )
    assert parse_settings("").grafana.root_url == "http://localhost:3000"


def test_off_is_fine_where_a_truth_value_is_meant():
    """`local_auth: off` is YAML for false and means it."""
    assert parse_settings("security: {local_auth: off}").security.local_auth is False


def test_the_environment_stands_above_the_file():
    """The documented variables override their keys, whatever the file says."""
    settings = parse_settings(
        "grafana: {admin_user: root}\n",
        env={
            "GRAFANA_ADMIN_USER": "ann",
            "DS01_EXPORTER_BIND": "127.0.0.1, ::1",
            "DS01_EXPORTER_PORT": "9999",
        },
    )

    assert settings.grafana.admin_user == "ann"
    assert settings.exporter.bind == ["127.0.0.1", "::1"]
    assert settings.exporter.port == 9999


def test_a_mistake_in_the_environment_names_the_variable():
    """A bad value is not blamed on the file when it came from the environment."""
    assert mistake("", {"DS01_EXPORTER_PORT": "many"}).startswith(
        "environment variable DS01_EXPORTER_PORT: exporter.port"
    )


def test_the_file_in_force_is_found_in_order(tmp_path):
    """The file given stands above $MONITORING_CONFIG; a named file that is missing is an error."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("")
    second.write_text("")

    assert config_path(first, {"MONITORING_CONFIG": str(second)}) == first
    assert config_path(None, {"MONITORING_CONFIG": str(second)}) == second
    with pytest.raises(ConfigError, match="no such configuration file"):
        config_path(Path("/nonexistent/m.yaml"), {})


def test_a_file_that_is_no_text_is_an_error_of_the_configuration(tmp_path):
    """Bytes that are no UTF-8 end with exit code 2, not with a traceback."""
    file = tmp_path / "m.yaml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(file, {})
