"""The command line: exit codes, messages, and how little it loads."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ds01_monitoring import cli, command, deployment
from ds01_monitoring.cli import COMMANDS, manage
from ds01_monitoring.errors import ConfigError, UserError


@pytest.fixture
def run(tmp_path):
    """Runs monitoring-manage with a state directory of its own."""

    def invoke(*args, config="", **env):
        file = tmp_path / "monitoring.yaml"
        file.write_text(config)
        start = ["--config", str(file), "--state-dir", str(tmp_path / "state")]
        return CliRunner().invoke(manage, [*start, *args], env=env)

    return invoke


@pytest.fixture
def failing(monkeypatch):
    """A command that raises what a test gives it."""

    def install(error):
        @click.command()
        def fail():
            """Fail."""
            raise error

        monkeypatch.setitem(COMMANDS, "fail", "none:none")
        monkeypatch.setattr(cli, "_load", lambda name: fail)

    return install


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_loads_and_has_help(name):
    """Each line of the table leads to a command that says in one sentence what it does."""
    result = CliRunner().invoke(manage, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert manage.get_command(click.Context(manage), name).help


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (
            UserError("it broke", place="x.yml:3", hint="mend it"),
            1,
            "error: x.yml:3: it broke\n  hint: mend it\n",
        ),
        (ConfigError("wrong"), 2, "error: wrong\n"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            1,
            "error: /root/x: Permission denied\n  hint: ",
        ),
        (KeyError("x"), 1, "error: KeyError: 'x'\n  hint: run it again with --debug"),
    ],
)
def test_an_error_names_place_problem_and_next_step(failing, error, code, output):
    """No traceback without --debug, whatever went wrong."""
    failing(error)

    result = CliRunner().invoke(manage, ["fail"])

    assert result.exit_code == code
    assert result.output.startswith(output)


def test_debug_shows_the_traceback(failing):
    """With --debug the exception itself comes out."""
    failing(UserError("it broke"))

    result = CliRunner().invoke(manage, ["--debug", "fail"])

    assert isinstance(result.exception, UserError)


@pytest.mark.parametrize(
    "args", [["nonsense"], ["render", "--nonsense"], ["render", "--no-check"], ["--config"]]
)
def test_wrong_usage_ends_with_two(args):
    """Click's own messages, and its exit code for usage."""
    assert CliRunner().invoke(manage, args).exit_code == 2


@pytest.mark.parametrize(
    ("option", "args"),
    [
        *((name, ["silence", "--for", "1h", "--reason", "x"]) for name in ("alert", "user", "gpu", "host")),
        ("gpu", ["ack", "DS01MIGWaste"]),
        ("user", ["test-alert"]),
        ("user", ["report"]),
    ],
)
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_name_is_not_taken_for_none(run, option, args, value):
    """With `--user "$U"` and no U, all users would be meant: it is refused, whatever else is named."""
    result = run(*args, f"--{option}", value)

    assert result.exit_code == 2
    assert f"Invalid value for '--{option}': it is empty" in result.output


@pytest.mark.parametrize("command", ["restart", "logs"])
def test_an_empty_service_is_not_taken_for_all(run, command):
    """`restart "$SERVICE"` without a SERVICE restarts nothing."""
    result = run(command, "")

    assert result.exit_code == 2
    assert "it is empty" in result.output


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("30s", "30s holds too few readings, which come every 15 s; 1m at least"),
        ("0s", "1m at least"),
        ("soon", "'soon' is no duration"),
    ],
)
def test_the_backtest_takes_no_window_that_the_configuration_refuses(run, window, said):
    """In less than a minute there are too few readings to tell of an idle GPU: that is no `0 mails`."""
    result = run("backtest", "--window", window)

    assert result.exit_code == 2
    assert said in result.output
    assert run("backtest", "--window", "1m").exit_code == 1  # Nothing was started.


def test_a_mistaken_command_gets_a_suggestion():
    """`rendr` is not far from `render`."""
    result = CliRunner().invoke(manage, ["rendr"])

    assert result.exit_code == 2
    assert "did you mean render?" in result.output.lower()


def test_a_mistake_in_the_configuration_ends_with_two(run):
    """The file and line stand in the message."""
    result = run("check", config="ports:\n  prometheus: many\n")

    assert result.exit_code == 2
    assert "monitoring.yaml:2: ports.prometheus: " in result.output


def test_beside_a_servers_own_stack_who_forgets_sudo_is_reminded(run, monkeypatch, tmp_path):
    """Without root the state directory is the user's own, where nothing was started; with root it is another one."""
    monkeypatch.setattr(deployment, "STATE", tmp_path / "server")
    (tmp_path / "server" / "run").mkdir(parents=True)
    hints = {}
    for user in (1000, 0):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        hints[user] = run("status").output

    assert f"with sudo, for this server's own stack in {tmp_path / 'server'}" in hints[1000]
    assert "sudo" not in hints[0]


def test_check_changes_nothing(run, tmp_path, tools):
    """It needs no state directory and makes none."""
    result = run("check", "--runtime", "native", "--hardware", "dcgm", PATH=str(tools))

    assert result.exit_code == 0, result.output
    assert result.output == "ok: " + result.output.removeprefix("ok: ")
    assert not (tmp_path / "state").exists()


def test_check_ends_with_two_when_something_is_wrong(run, tools):
    """Each error is printed with its place, and counted."""
    config = "notify: {slack: {url_file: /nonexistent/url}}\nalerts: {notify: {DS01None: mail}}\n"
    result = run("check", "--runtime", "native", "--hardware", "none", config=config, PATH=str(tools))

    assert result.exit_code == 2
    assert (
        "monitoring.yaml:1: notify.slack.url_file: /nonexistent/url: No such file or directory"
        in result.output
    )
    assert result.output.endswith("2 errors\n")


@pytest.mark.parametrize("promtool", ["true", "false"])
def test_a_rendered_file_that_check_names_is_there_to_look_at(run, tmp_path, monkeypatch, promtool):
    """Where a tool objects to one, that is the next step; otherwise nothing stays behind."""
    tools, temporary = tmp_path / "tools", tmp_path / "temporary"
    for folder in (tools, temporary):
        folder.mkdir()
    (tools / "promtool").symlink_to(f"/bin/{promtool}")
    (tools / "amtool").symlink_to("/bin/true")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    output = run("check", "--runtime", "native", "--hardware", "none", PATH=str(tools)).output

    named = re.findall(r"the rendered file is (.*)", output)
    assert len(named) == (promtool == "false")
    assert all(Path(file).is_file() for file in named)
    assert bool(list(temporary.iterdir())) == bool(named)


def test_render_out_writes_a_tree_and_puts_nothing_in_force(run, tmp_path, tools):
    """For packagers and the curious."""
    out = tmp_path / "out"
    result = run("render", "--out", str(out), "--runtime", "native", PATH=str(tools))

    assert result.exit_code == 0, result.output
    assert (out / "supervisord.conf").exists()
    assert not (tmp_path / "state").exists()


def test_render_shows_what_mail_to_users_would_have_been_before_it_is_on(run, tools):
    """As a later `reload` finds it in force already, and has nothing to say."""
    notify = (
        "notify: {mail: {smarthost: 'mail.lab.example:25', from: gpu@lab.example, to: [admin@lab.example]}"
    )
    config = notify + ", users: {enabled: true, domain: lab.example}}\n"
    arguments = ("render", "--runtime", "native", "--hardware", "dcgm")

    assert "notify.users is new. Had it been on:" in run(*arguments, config=config, PATH=str(tools)).output
    assert "notify.users" not in run(*arguments, config=config, PATH=str(tools)).output


def test_render_without_tools_warns_and_ends_well(run, tmp_path):
    """On a machine without promtool the files are written, and the reader is told what was not looked at."""
    (tmp_path / "empty").mkdir()
    result = run("render", "--runtime", "native", "--hardware", "none", PATH=str(tmp_path / "empty"))

    assert result.exit_code == 0, result.output
    assert "promtool was not found" in result.output
    assert (tmp_path / "state/rendered/current/prometheus/prometheus.yml").exists()


def test_the_command_line_loads_little():
    """What only some commands need is not paid by all: `monitoring-status --quiet` runs from cron every minute."""
    program = "import sys, ds01_monitoring.cli; print(*sorted(sys.modules))"
    done = command.run([sys.executable, "-c", program], timeout=60, env=dict(os.environ))

    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"pydantic", "jinja2", "rich", "requests", "yaml", "bcrypt", "supervisor"})
