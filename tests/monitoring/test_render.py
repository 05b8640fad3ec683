"""Rendering: complete, repeatable, readable by the servers, swapped in whole or not at all."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import threading

import pytest
import yaml

from ds01_monitoring import paths
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.context import PROMETHEUS_GOGC, dcgm_versions
from ds01_monitoring.deploy import Refused, deploy
from ds01_monitoring.errors import ConfigError
from ds01_monitoring.render import render
from ds01_monitoring.templates import Templates


@pytest.fixture
def templates(tmp_path):
    """A copy of the templates that a test may break."""
    root = tmp_path / "templates"
    for room in ("prometheus", "alertmanager", "grafana", "monitoring"):
        ignored = shutil.ignore_patterns("*.py", "ds01_monitoring", "__pycache__")
        shutil.copytree(paths.data_root() / room, root / room, ignore=ignored)
    return Templates(root)


def content(folder):
    """Every file's bytes and mode by path."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def scrape_jobs(tree):
    """Prometheus' scrape configurations by job."""
    text = (tree.path / "prometheus/prometheus.yml").read_text()
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def test_rendering_twice_gives_the_same_bytes(settings, state):
    """Same settings, same version, same secrets: nothing is random after the first time."""
    first = render(settings, state)
    before, secrets = content(first.path), content(state.secrets)
    second = render(settings, state)

    assert first.path == second.path
    assert before == content(second.path)
    assert secrets == content(state.secrets)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(settings, state, umask):
    """The servers' user can read everything rendered; nobody but the owner can read a secret."""
    old = os.umask(umask)
    try:
        tree = render(settings, state)
        tree.activate()
    finally:
        os.umask(old)

    assert {mode for _, mode in content(tree.path).values()} == {0o644}
    folders = [path for path in [state.rendered, tree.path, *tree.path.rglob("*")] if path.is_dir()]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o755}
    assert stat.S_IMODE(state.secrets.stat().st_mode) == 0o700
    assert {mode for _, mode in content(state.secrets).values()} == {0o600}


def test_the_tree_carries_no_secret(settings, state):
    """No generated password and no digest of one stands in any rendered file."""
    tree = render(settings, state)
    secret = [
        (state.secrets / name).read_text().strip() for name in ("http_password", "grafana_admin_password")
    ]

    for name, (text, _) in content(tree.path).items():
        assert not any(word.encode() in text for word in [*secret, "$2b$"]), name


def test_a_secret_that_was_loosened_is_closed_again(settings, state):
    """A mode that lets others read a password does not survive the next rendering."""
    render(settings, state)
    (state.secrets / "http_password").chmod(0o644)

    render(settings, state)

    assert stat.S_IMODE((state.secrets / "http_password").stat().st_mode) == 0o600


def test_a_changed_password_changes_what_is_made_from_it(settings, state):
    """Whoever writes another password into its file gets servers and netrc that ask for that one."""
    render(settings, state)
    before = (state.secrets / "web-config.yml").read_text()
    (state.secrets / "http_password").write_text("another one\n")

    render(settings, state)

    assert before != (state.secrets / "web-config.yml").read_text()
    assert "password another one\n" in (state.secrets / "netrc").read_text()


def test_grafanas_password_comes_from_the_environment_where_it_is_set(settings, state, monkeypatch):
    """$GRAFANA_ADMIN_PASSWORD stands above the generated one and the site's file."""
    monkeypatch.setenv("GRAFANA_ADMIN_PASSWORD", "from the environment")

    render(settings, state)

    assert (state.secrets / "grafana_admin_password").read_text() == "from the environment"


def test_the_link_is_relative_and_always_points_to_a_whole_version(settings, state):
    """A reader that opens files through `current` during a hundred swaps always finds them."""
    one = render(settings, state)
    two = render(settings.model_copy(update={"runtime": "auto"}), state, runtime="native", hardware="none")
    one.activate()
    failures, done = [], threading.Event()

    def read():
        while not done.is_set():
            if not (state.current / "prometheus/prometheus.yml").is_file():
                failures.append("gone")

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        two.activate()
        one.activate()
    done.set()
    reader.join()

    assert not failures
    assert str(state.current.readlink()) == one.version


def test_a_version_that_somebody_edited_is_not_served_as_new(settings, state):
    """A rendered file edited by hand is left where it is and a clean version put beside it."""
    edited = render(settings, state)
    (edited.path / "prometheus/prometheus.yml").write_text("mine")

    fresh = render(settings, state)

    assert fresh.path != edited.path
    assert (edited.path / "prometheus/prometheus.yml").read_text() == "mine"


def test_old_versions_are_removed_in_time(settings, state):
    """Only a handful of versions is kept, the one in force always among them."""
    for number in range(12):
        site = settings.site.model_copy(update={"host": f"gpu{number}"})
        render(settings.model_copy(update={"site": site}), state).activate()

    versions = [path for path in state.rendered.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(versions) == 5
    assert state.current.resolve() in versions


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("prometheus/prometheus.yml.j2", ("[[ site.host | yaml ]]", "[[ site.hots ]]"), "did you mean host"),
        ("prometheus/prometheus.yml.j2", ("scrape_configs:", "[% if %]"), "prometheus.yml.j2:"),
        (
            "alertmanager/alertmanager.yml.j2",
            ("[% if notify.slack %]", "[% if notifi.slack %]"),
            "did you mean notify",
        ),
        ("alertmanager/alertmanager.yml.j2", ("  receiver: admins\n", "  receiver: nowhere\n"), "amtool: "),
        ("prometheus/prometheus.yml.j2", ("scrape_timeout: 10s", "scrape_timeout: 10x"), "promtool: "),
    ],
)
def test_a_broken_template_never_replaces_what_is_in_force(
    settings, state, templates, tools, file, edit, message
):
    """Whether the template, promtool or amtool objects: the old version stays, and the template is named."""
    good, _ = deploy(settings, state, tools_required=True, search_path=str(tools))
    broken = templates.root / file
    text = broken.read_text()
    assert edit[0] in text
    broken.write_text(text.replace(*edit))

    with pytest.raises((ConfigError, Refused), match=message) as caught:
        deploy(settings, state, tools_required=True, search_path=str(tools), templates=templates)

    assert str(broken) in str(caught.value)
    assert caught.value.exit_code == 2
    assert state.current.resolve() == good.path.resolve()


def test_without_tools_render_warns_and_start_refuses(settings, state, tmp_path):
    """What could not be checked may be written, but is not started."""
    _, findings = deploy(settings, state, tools_required=False, search_path=str(tmp_path))
    assert [finding.untested for finding in findings] == [True, True]

    with pytest.raises(Refused, match="promtool was not found"):
        deploy(settings, state, tools_required=True, search_path=str(tmp_path))


FULL = """
site: {host: gpu01}
prometheus:
  external_labels: {site: "a: b"}
  remote_write: [{url: "https://example.org/write", username: me, password_file: SECRET}]
notify:
  mail: {smarthost: "mail.example.org:587", from: ds01@example.org, to: [a@example.org, b@example.org],
         username: ds01, password_file: SECRET, ca_file: AUTHORITY}
  slack: {url_file: URL, channel: "#gpu"}
  TEAMS
"""


@pytest.mark.parametrize("hardware", ["dcgm", "nvml", "none"])
@pytest.mark.parametrize("runtime", ["native", "compose"])
def test_the_servers_own_checkers_accept_what_is_rendered(state, tmp_path, suite, runtime, hardware):
    """Every runtime and hardware, with every receiver that the version has, in both supported generations."""
    secret, url, authority = tmp_path / "secret", tmp_path / "url", tmp_path / "ca.pem"
    secret.write_text("correct horse battery staple")
    authority.write_text("-----BEGIN CERTIFICATE-----")
    url.write_text("https://hooks.invalid/T000/B000")
    for file in (secret, url):
        file.chmod(0o600)
    newer = "teams: {url_file: URL}\n  webhook: {url_file: URL}\n  heartbeat: {url_file: URL}"
    text = FULL.replace("TEAMS", newer if "sid" in str(suite) else "")
    for name, file in (("SECRET", secret), ("URL", url), ("AUTHORITY", authority)):
        text = text.replace(name, str(file))
    settings = parse_settings(text)

    _, findings = deploy(
        settings, state, tools_required=True, search_path=str(suite), runtime=runtime, hardware=hardware
    )

    assert findings == []


def test_every_target_carries_the_host_label_and_the_password(settings, state):
    """All scraped ports ask for the password, and every series says which server it is about."""
    jobs = scrape_jobs(render(settings, state))

    assert {"dcgm-exporter", "ds01-exporter", "node-exporter", "prometheus", "alertmanager"} <= set(jobs)
    for name, job in jobs.items():
        assert job["static_configs"][0]["labels"] == {"host": "gpu01"}, name
        assert job["basic_auth"]["username"] == "ds01", name
    assert jobs["ds01-exporter"]["scrape_interval"] == "30s"


def test_without_local_auth_nothing_asks_for_a_password(settings, state):
    """`security: {local_auth: false}` takes it off everywhere."""
    open_settings = parse_settings("security: {local_auth: false}\nruntime: native\n")
    tree = render(open_settings, state)

    for name in (
        "prometheus/prometheus.yml",
        "exporter.env",
        "grafana/provisioning/datasources/prometheus.yml",
    ):
        assert "password" not in (tree.path / name).read_text().lower(), name


def test_a_sites_own_dcgm_exporter_is_not_told_our_password(state):
    """`dcgm: {address}` names a server that is not ours."""
    foreign = parse_settings("dcgm: {address: 'gpu02:9400'}\nruntime: native\n")
    jobs = scrape_jobs(render(foreign, state))

    assert jobs["dcgm-exporter"]["static_configs"][0]["targets"] == ["gpu02:9400"]
    assert "basic_auth" not in jobs["dcgm-exporter"]


def test_inside_compose_the_host_is_the_bridges_gateway(settings, state):
    """The exporter on the host listens on loopback and the gateway, and Prometheus asks it there."""
    tree = render(settings, state, runtime="compose")

    assert scrape_jobs(tree)["ds01-exporter"]["static_configs"][0]["targets"] == ["172.30.101.1:9101"]
    assert 'DS01_EXPORTER_BIND="127.0.0.1,172.30.101.1"' in (tree.path / "exporter.env").read_text()


def test_prometheus_is_given_room_for_garbage_in_both_runtimes(settings, state):
    """Go's collector takes its share of every evaluation of the rules; the benchmark runs with the same."""
    compose = render(settings, state, runtime="compose", hardware="none")
    services = yaml.safe_load((compose.path / "docker-compose.yaml").read_text())["services"]
    native = render(settings, state, runtime="native", hardware="none")
    programs = configparser.RawConfigParser()
    programs.read(native.path / "supervisord.conf")

    assert services["prometheus"]["environment"] == {"GOGC": str(PROMETHEUS_GOGC)}
    assert programs["program:prometheus"]["environment"] == f'GOGC="{PROMETHEUS_GOGC}"'


@pytest.mark.parametrize(
    ("tag", "told"),
    [(":v3.14.0", True), (":v3.1.0-distroless@sha256:0011", True), (":v2.53.0", False), (":latest", False)],
)
def test_prometheus_evaluates_side_by_side_where_its_image_says_that_it_can(settings, state, tag, told):
    """A version that is too old, or that the tag does not tell, evaluates in the order of the file."""
    images = settings.images.model_copy(update={"prometheus": f"mirror:5000/prom/prometheus{tag}"})
    tree = render(settings.model_copy(update={"images": images}), state, runtime="compose", hardware="none")
    services = yaml.safe_load((tree.path / "docker-compose.yaml").read_text())["services"]

    assert ("--enable-feature=concurrent-rule-eval" in services["prometheus"]["command"]) == told


def test_the_counters_file_fits_the_image(settings, state):
    """A field that the exporter does not know would stop it, so an unknown version gets the common ones."""
    assert dcgm_versions("nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3-4.8.2-distroless") == ((4, 8, 2), (4, 5, 3))
    assert dcgm_versions("mirror:5000/dcgm-exporter:4.9.0-distroless@sha256:0011") == ((4, 9, 0), ())
    assert dcgm_versions("mirror:5000/dcgm-exporter@sha256:0011") == ((), ())

    def counters(image):
        images = settings.images.model_copy(update={"dcgm_exporter": image})
        tree = render(settings.model_copy(update={"images": images}), state)
        return (tree.path / "dcgm/counters.csv").read_text()

    assert "CLOCKS_EVENT_REASONS" in counters("x:4.5.3-4.8.2-distroless")
    assert "CLOCK_THROTTLE_REASONS" in counters("x:3.3.5-3.4.1-ubuntu22.04")
    assert "REASONS" not in counters("x:latest")
    assert "DCGM_EXP_XID_ERRORS_TOTAL" not in counters("x:4.5.3-4.8.2-distroless")
    assert "DCGM_EXP_XID_ERRORS_TOTAL" in counters("x:4.6.0-4.8.3-distroless")


@pytest.mark.parametrize(
    "image", ["x:3.3.5-3.4.1", "x:4.6.0-4.8.3-distroless", "x:4.9.0-distroless", "x:latest"]
)
def test_every_field_of_the_counters_file_is_read_by_a_rule(settings, state, image):
    """What dcgm-exporter is asked for ends up in a recorded series, in each generation of names."""
    images = settings.images.model_copy(update={"dcgm_exporter": image})
    tree = render(settings.model_copy(update={"images": images}), state)
    lines = (tree.path / "dcgm/counters.csv").read_text().splitlines()
    rows = [line.split(", ", 2) for line in lines if line and not line.startswith("#")]
    rules = (tree.path / "prometheus/rules/normalise.yml").read_text()

    assert len(rows) > 20
    for field, kind, text in rows:
        assert re.search(rf"\b{field}\b", rules), field
        assert kind in {"gauge", "counter"}
        assert text.endswith(".")
        assert "," not in text


def test_the_demo_has_nothing_of_the_sites(state, tmp_path):
    """No receiver, no remote storage, no file of the real allocator; and every series says that it is simulated."""
    site = parse_settings(
        "notify: {mail: {smarthost: 'm:25', from: a@b.org, to: [c@d.org]}}\n"
        "prometheus: {remote_write: [{url: 'http://x'}]}\ndcgm: {address: 'gpu02:9400'}\n"
    )
    tree = render(site, state.demo, demo=True)

    assert tree.context.runtime == "native"
    jobs = scrape_jobs(tree)
    assert jobs["dcgm-exporter"]["static_configs"] == [
        {"targets": ["127.0.0.1:9400"], "labels": {"host": "demo"}}
    ]
    everything = b"".join(text for text, _ in content(tree.path).values())
    for word in (b"c@d.org", b"remote_write", b"gpu02", b"/var/lib/ds01"):
        assert word not in everything
    assert (
        f'DS01_STATE_FILE="{state.demo.data}/demo/state/gpu-state.json"'
        in (tree.path / "exporter.env").read_text()
    )
