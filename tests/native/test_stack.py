"""What is decided before anything starts, and what is remembered of it."""

from __future__ import annotations

import json
import shlex
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ds01_monitoring import context as contexts
from ds01_monitoring import deployment, detect, inventory, pages, paths, stack
from ds01_monitoring.cli import manage
from ds01_monitoring.commands import restart
from ds01_monitoring.config import Settings
from ds01_monitoring.detect import Found
from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir
from ds01_monitoring.templates import Templates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither an Engine nor a GPU."""
    monkeypatch.setattr(detect, "runtime", lambda _settings: Found("native", "no Docker Engine answers here"))
    monkeypatch.setattr(detect, "hardware", lambda _settings, _runtime: Found("none", "no driver"))
    monkeypatch.setattr(detect, "driver_found", lambda: None)
    monkeypatch.setattr(detect, "engine_installed", lambda: False)


def test_what_was_started_is_found_again_by_any_later_command(bare: None, tmp_path: Path) -> None:
    """`status`, `stop` and `logs` need no configuration: the record says what runs, real and demo."""
    state = StateDir(tmp_path)
    assert deployment.find(state, demo=False) == []

    demo = stack.plan(Settings(), state, demo=True).deployment()
    demo.write()
    assert deployment.find(state, demo=False) == [demo]

    real = stack.plan(Settings(), state).deployment()
    real.write()
    assert deployment.find(state, demo=False) == [real, demo]
    assert deployment.find(state, demo=True) == [demo]
    assert deployment.one(state, demo=False) == real

    real.forget()
    assert deployment.one(state, demo=False) == demo


def test_an_update_that_fails_for_one_stack_still_renews_the_other(
    bare: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real stack's registry may not answer while the demo runs beside it; the failure is told and counts."""
    state, renewed = StateDir(tmp_path / "state"), []
    for demo in (False, True):
        stack.plan(Settings(), state, demo=demo).deployment().write()

    def renew(_screen: object, planned: stack.Stack, **_options: object) -> None:
        renewed.append(planned.context.demo)
        if not planned.context.demo:
            raise UserError("the registry does not answer")

    monkeypatch.setattr(restart, "_update", renew)
    (tmp_path / "monitoring.yaml").write_text("")
    options = [f"--config={tmp_path / 'monitoring.yaml'}", f"--state-dir={state.root}"]

    result = CliRunner().invoke(manage, [*options, "update"])

    assert renewed == [False, True]
    assert result.exit_code == 1
    assert "the registry does not answer" in result.output


def test_what_runs_keeps_its_runtime_until_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Engine that does not answer for a moment is no reason to start everything a second time, natively."""
    state, settings = StateDir(tmp_path), Settings(hardware="none")
    stack.plan(settings, state, runtime="compose").deployment().write()
    monkeypatch.setenv("PATH", str(tmp_path))  # No docker.

    again = stack.plan(settings, state)

    assert again.runtime.value == "compose"
    assert "stop" in again.runtime.reason
    again.deployment().forget()
    assert stack.plan(settings, state).runtime == Found("native", "the program docker is not here")


def test_another_runtime_needs_a_stop_first(bare: None, tmp_path: Path) -> None:
    """Neither `start` nor `restart` passes over what the configuration or the command line says."""
    state = StateDir(tmp_path / "state")
    running = stack.plan(Settings(), state, runtime="compose").deployment()
    running.write()
    (tmp_path / "monitoring.yaml").write_text("hardware: none\n")
    options = [f"--config={tmp_path / 'monitoring.yaml'}", f"--state-dir={state.root}"]

    refused = CliRunner().invoke(manage, [*options, "start", "--runtime", "native"])

    assert refused.exit_code == 2
    assert "monitoring-manage stop" in refused.output
    with pytest.raises(UserError, match="runs as compose, and now it would be native"):
        stack.again(Settings(runtime="native"), running, state)


def test_a_damaged_record_does_not_keep_a_stack_from_starting(bare: None, tmp_path: Path) -> None:
    """`start` is what its message names."""
    state = StateDir(tmp_path)
    state.run.mkdir()
    (state.run / deployment.FILE).write_text("{")

    assert stack.plan(Settings(), state).runtime.value == "native"


def test_stop_works_where_docker_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its containers went with it; what runs on the host is ended, and the record forgotten."""
    state = StateDir(tmp_path / "state")
    running = stack.plan(Settings(hardware="none"), state, runtime="compose").deployment()
    running.write()
    monkeypatch.setenv("PATH", str(tmp_path))

    assert CliRunner().invoke(manage, [f"--state-dir={state.root}", "stop"]).exit_code == 0
    assert deployment.load(state) is None


def test_the_demo_says_that_it_is_one(bare: None, tmp_path: Path) -> None:
    """It lies in a folder of its own and carries host="demo"."""
    planned = stack.plan(Settings(), StateDir(tmp_path), demo=True)

    assert planned.deployment().host == "demo"
    assert planned.context.state.root == tmp_path / "demo"
    assert planned.deployment().without == {}


def test_what_the_machine_does_not_have_is_known(bare: None, tmp_path: Path) -> None:
    """No GPU and no Engine are facts with a reason, not failures."""
    without = stack.plan(Settings(), StateDir(tmp_path)).deployment().without

    assert without["topology"] == "no driver"
    assert "Docker Engine" in without["docker"]
    assert "state" not in without


def test_what_the_machine_does_not_have_never_fails(bare: None, tmp_path: Path) -> None:
    """A source that is not there is switched off, as its collector would keep an alert firing for ever."""
    planned = stack.plan(Settings(), StateDir(tmp_path))
    variables = contexts.exporter_environment(planned.context)

    assert variables["DS01_TOPOLOGY"] == variables["DOCKER_HOST"] == "none"


def test_a_machine_without_allocator_can_say_so(bare: None, tmp_path: Path) -> None:
    """Its files are then not looked for, so nothing fails and no alert fires for ever; the demo has its own."""
    site = Settings.model_validate({"allocations": {"allocator": False}})
    planned = stack.plan(site, StateDir(tmp_path))
    variables = contexts.exporter_environment(planned.context)
    demo = stack.plan(site, StateDir(tmp_path), demo=True)

    assert {variables[name] for name in contexts.ALLOCATOR_SOURCES} == {"none"}
    assert {"state", "events", "disk"} <= planned.deployment().without.keys()
    assert demo.deployment().without == {}
    assert "none" not in contexts.exporter_environment(demo.context).values()


def test_cards_that_were_accepted_are_missed_when_the_driver_is_gone(bare: None, tmp_path: Path) -> None:
    """A boot without driver is not a machine without GPUs: its topology is asked for, and fails aloud."""
    state = StateDir(tmp_path)
    inventory.write(state, [inventory.Card("0", "GPU-1")])
    planned = stack.plan(Settings(), state)

    assert contexts.exporter_environment(planned.context)["DS01_TOPOLOGY"] == "nvml"
    assert "topology" not in planned.deployment().without
    assert "topology" in stack.plan(Settings(hardware="none"), state).deployment().without


def test_a_runtime_that_this_version_lacks_is_refused_with_the_way_out(bare: None, tmp_path: Path) -> None:
    """A record that a later version wrote is no crash."""
    with pytest.raises(UserError, match="no podman runtime"):
        stack.plan(Settings(), StateDir(tmp_path), runtime="podman")


def test_an_exporter_in_a_container_needs_the_runtime_that_has_containers(bare: None, tmp_path: Path) -> None:
    """Otherwise nobody would start it, and nobody would say so."""
    settings = Settings.model_validate({"exporter": {"deployment": "container"}})

    with pytest.raises(UserError, match=r"exporter\.deployment: is container, and the runtime is native"):
        stack.plan(settings, StateDir(tmp_path))


@pytest.mark.parametrize(
    ("answer", "gives_gpus", "expected", "reason"),
    [
        (0, True, "dcgm", "dcgm-exporter reads it"),
        (0, False, "nvml", "no NVIDIA runtime"),
        (18, True, "none", "do not match"),
    ],
)
def test_under_compose_the_source_of_readings_is_what_the_engine_can_give(
    monkeypatch: pytest.MonkeyPatch, answer: int, gives_gpus: bool, expected: str, reason: str
) -> None:
    """Without NVIDIA's runtime the driver is read on the host; a driver that does not fit its library is named."""
    monkeypatch.setattr(detect, "driver_found", lambda: "a driver is loaded")
    monkeypatch.setattr(detect, "nvml_says", lambda: answer)
    monkeypatch.setattr(detect, "gives_gpus", lambda: gives_gpus)

    found = detect.hardware(Settings(), "compose")

    assert found.value == expected
    assert reason in found.reason


def test_the_next_command_can_be_typed_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clone nothing is on PATH, so that a bare name would not be found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(paths.data_root())
    assert pages.called("monitoring-status") == "./bin/monitoring-status"

    monkeypatch.chdir(tmp_path)
    launcher = paths.data_root() / "bin" / "monitoring-status"
    assert shlex.split(pages.called("monitoring-status")) == [str(launcher)]

    (tmp_path / "monitoring-status").touch(mode=0o755)
    assert pages.called("monitoring-status") == "monitoring-status"


def test_grafana_is_among_the_pages_whatever_its_accounts(bare: None, tmp_path: Path) -> None:
    """It knows no user of ours, and is asked as a browser asks, for its login or, to anonymous viewers, its home."""

    class Grafana(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = "Authorization" not in self.headers
            self.send_response(401 if not known else 200 if self.path == "/login" else 302)
            self.send_header("Location", "/login")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Nobody reads it."""

    planned = stack.plan(Settings(), StateDir(tmp_path)).deployment()
    planned.state.secrets.mkdir()
    (planned.state.secrets / "http_password").write_text("secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Grafana) as server:
        threading.Thread(target=server.serve_forever).start()
        found = pages.pages(
            replace(
                planned,
                addresses=dict.fromkeys(("grafana", "prometheus"), f"127.0.0.1:{server.server_port}"),
            )
        )
        server.shutdown()

    assert f"http://localhost:{server.server_port}/" in [page.url for page in found if page.job == "grafana"]


def test_nothing_started_is_said_with_the_command_that_starts(tmp_path: Path) -> None:
    """The next step is in the message."""
    with pytest.raises(UserError) as caught:
        deployment.one(StateDir(tmp_path), demo=True)

    assert caught.value.hint == "monitoring-manage start --demo"


def test_a_record_of_another_version_is_read(bare: None, tmp_path: Path) -> None:
    """After an upgrade, or on the way back, `stop` and `status` still know what runs."""
    now = stack.plan(Settings(), StateDir(tmp_path)).deployment()
    now.write()
    file = now.state.run / deployment.FILE
    values = json.loads(file.read_text())
    del values["without"]
    file.write_text(json.dumps({**values, "of a later version": 1}))

    assert deployment.load(now.state) == replace(now, without={})


@pytest.mark.parametrize("text", ['{"runtime": ', '{"runtime": "native"}', "[]", "7"])
def test_a_torn_record_is_no_crash(tmp_path: Path, text: str) -> None:
    """What cannot be read as a record says so."""
    state = StateDir(tmp_path)
    state.run.mkdir()
    (state.run / deployment.FILE).write_text(text)

    with pytest.raises(UserError, match="not a record"):
        deployment.find(state, demo=False)


def test_grafana_asks_for_passwords_that_no_process_list_shows(tmp_path: Path) -> None:
    """Its settings name the files: Grafana itself reads `$__file{…}`, and only its container image `…__FILE`."""
    context = contexts.resolve(Settings(), StateDir(tmp_path), runtime="native", hardware="none")
    with_grafana = replace(context, jobs=(*context.jobs, "grafana"))

    text = Templates().render("monitoring/supervisord.conf.j2", with_grafana.variables())

    assert f'GF_SECURITY_ADMIN_PASSWORD="$__file{{{tmp_path}/secrets/grafana_admin_password}}"' in text
    assert 'GF_METRICS_BASIC_AUTH_PASSWORD="$__file{%(ENV_DS01_STATE)s/secrets/http_password}"' in text
    assert "__FILE" not in text


@pytest.mark.parametrize(
    ("runtime", "installed", "bound"),
    [
        ("native", False, ["127.0.0.1"]),
        ("native", True, None),
        ("compose", False, ["127.0.0.1", "172.30.101.1"]),
        ("compose", True, ["172.30.101.1"]),
    ],
)
def test_the_unit_of_gpu_telemetry_keeps_its_port(
    bare: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    runtime: str,
    installed: bool,
    bound: list[str] | None,
) -> None:
    """Where the unit is installed, no process of the stack takes the address that its agent serves on."""
    unit = tmp_path / "gpu-telemetry.service"
    if installed:
        unit.touch()
    monkeypatch.setattr(stack, "TELEMETRY_UNIT", unit)
    monkeypatch.setattr(detect, "hardware", lambda _settings, _runtime: Found("nvml", "a driver"))
    context = stack.plan(Settings(), StateDir(tmp_path), runtime=runtime).context

    text = Templates().render("monitoring/supervisord.conf.j2", context.variables())

    commands = [line for line in text.splitlines() if "gpu-telemetry export" in line]
    found = [
        words[at + 1] for words in map(str.split, commands) for at, w in enumerate(words) if w == "--bind"
    ]
    assert (found if commands else None) == bound
    assert "gpu-telemetry" in context.jobs
