"""Flags and environment variables, and what is refused."""

from pathlib import Path

import pytest

from ds01_exporter.metrics import METRICS
from ds01_exporter.settings import _OPTIONS, Settings, read_settings


def test_defaults():
    """Nothing given, or empty variables, means the defaults."""
    assert read_settings([], {}) == Settings()
    assert read_settings([], {"DS01_STATE_FILE": "", "DOCKER_HOST": ""}) == Settings()


def test_a_flag_goes_before_its_variable():
    """The command line wins over the environment, which wins over the default."""
    environment = {"DS01_EXPORTER_PORT": "1", "DS01_STATE_DIR": "/a", "DS01_EXPORTER_BIND": "127.0.0.1, ::1"}
    settings = read_settings(["--port", "2", "--state-file=/s"], environment)

    assert (settings.port, settings.state_file, settings.state_dir) == (2, Path("/s"), Path("/a"))
    assert settings.bind == ("127.0.0.1", "::1")


def test_none_switches_a_source_off():
    """The word none, on the command line or in a variable, leaves a source out."""
    settings = read_settings(
        ["--docker-host", "none", "--topology=none"], {"DS01_STATE_FILE": "none", "DS01_EVENTS_FILE": "none"}
    )

    assert (settings.docker_host, settings.topology, settings.state_file, settings.events_file) == (None,) * 4


@pytest.mark.parametrize(
    ("flag", "variable", "value"),
    [
        ("--port", "DS01_EXPORTER_PORT", "70000"),
        ("--port", "DS01_EXPORTER_PORT", "-1"),
        ("--port", "DS01_EXPORTER_PORT", "http"),
        ("--bind", "DS01_EXPORTER_BIND", "127.0.0.1,"),
        ("--bind", "DS01_EXPORTER_BIND", "0.0.0.256"),
        ("--bind", "DS01_EXPORTER_BIND", "all"),
        ("--docker-host", "DOCKER_HOST", "ssh://server"),
        ("--docker-host", "DOCKER_HOST", "tcp://x:port"),
        ("--mig-equivalents-per-gpu", "DS01_MIG_EQUIVALENTS_PER_GPU", "0"),
        ("--mig-equivalents-per-gpu", "DS01_MIG_EQUIVALENTS_PER_GPU", "nan"),
        ("--mig-equivalents-per-gpu", "DS01_MIG_EQUIVALENTS_PER_GPU", "four"),
        ("--log-level", "DS01_LOG_LEVEL", "loud"),
    ],
)
def test_wrong_values_are_refused_by_name(flag, variable, value, capsys):
    """Exit code 2, and a message with the flag or variable, the value and what to do."""
    for arguments, environment, name in (([f"{flag}={value}"], {}, flag), ([], {variable: value}, variable)):
        with pytest.raises(SystemExit) as ended:
            read_settings(arguments, environment)
        message = capsys.readouterr().err

        assert ended.value.code == 2
        assert message.startswith("error: ")
        assert name in message
        assert value in message or value == "127.0.0.1,"  # what is wrong there is the empty rest
        assert "hint:" in message


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--por", "1"], ["extra"], ["--port"]])
def test_unknown_arguments_are_refused(arguments, capsys):
    """Unknown and shortened flags, and words without a flag, are mistakes."""
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments, {})

    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_names_every_variable_and_default(capsys):
    """--help documents each flag with its environment variable."""
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})
    text = " ".join(capsys.readouterr().out.split())

    assert ended.value.code == 0
    for flag, variable, *_ in _OPTIONS:
        assert flag in text
        assert f"[${variable}; default: " in text


def test_the_document_names_every_flag_and_variable():
    """docs/exporter.md lists them as --help does."""
    text = (Path(__file__).parents[2] / "docs" / "exporter.md").read_text(encoding="utf-8")

    assert [name for option in _OPTIONS for name in option[:2] if f"`{name}`" not in text] == []


def test_the_document_names_every_metric_with_its_labels():
    """Each metric has a row in docs/exporter.md, with the labels that it really has."""
    text = (Path(__file__).parents[2] / "docs" / "exporter.md").read_text(encoding="utf-8")

    assert [
        name for name, row in METRICS.items() if f"| `{name}` | {', '.join(row.labels)}" not in text
    ] == []
