"""What `monitoring-manage install --telemetry` brings: the unit, its settings, and who may read RAPL."""

import os
import re
import shlex
import shutil
import stat
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
from pathlib import Path

import pytest

from gpu_telemetry.commands import agent as command

DEPLOY = Path(__file__).parents[2] / "config/deploy"
UNIT = DEPLOY / "systemd/gpu-telemetry.service"
SETTINGS = DEPLOY / "default/gpu-telemetry"


def settings():
    """The variables of /etc/default/gpu-telemetry as it ships."""
    lines = [line for line in SETTINGS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def exec_start():
    """The unit's command line as the shell gets it."""
    line = next(line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart="))
    return shlex.split(line.removeprefix("ExecStart=").replace("$$", "$"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_loads():
    """Systemd finds nothing to complain about, and the service is well confined."""
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=35", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-200:]


def test_the_settings_are_the_documented_ones():
    """Every documented variable ships with its default, in the form that systemd and the shell read alike."""
    assert settings() == {
        "GPU_TELEMETRY_USER": "gpu-telemetry",
        "GPU_TELEMETRY_OUT": "/var/log/gpu-telemetry",
        "GPU_TELEMETRY_PORT": "9118",
        "GPU_TELEMETRY_PASSWORD_FILE": "/var/lib/ds01-monitoring/secrets/http_password",
        "GPU_TELEMETRY_INTERVAL": "1s",
        "GPU_TELEMETRY_START_UTIL": "20",
        "GPU_TELEMETRY_START_SECONDS": "5",
        "GPU_TELEMETRY_STOP_UTIL": "10",
        "GPU_TELEMETRY_STOP_SECONDS": "15",
        "GPU_TELEMETRY_AUTOSTART": "false",
    }


def test_every_setting_is_read_by_somebody():
    """No variable is there only to look at."""
    source = "".join(
        Path(sys.modules[name].__file__).read_text()
        for name in (command.__name__, command.autostart.__name__)
    )
    for name in settings():
        assert name in source or f"${{{name}" in UNIT.read_text() or f"$${name}" in UNIT.read_text(), name


@pytest.mark.parametrize(
    ("password_file", "expected"),
    [("/secret", ["--password-file", "/run/gpu-telemetry/password"]), ("", [])],
)
def test_the_unit_starts_the_agent_as_the_chosen_user(tmp_path, password_file, expected):
    """The user and the password file are settings; systemd's own User= would not expand them."""
    shell, flag, script = exec_start()
    fake = tmp_path / "setpriv"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {"GPU_TELEMETRY_USER": "jane", "GPU_TELEMETRY_PASSWORD_FILE": password_file}
    done = subprocess.run(
        [shell, flag, script.replace("/usr/bin/setpriv", str(fake))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    arguments = done.stdout.splitlines()
    assert arguments[0] == "--reuid=jane"
    at = arguments.index("/opt/ds01-monitoring/bin/gpu-telemetry")
    assert arguments[at + 1 :] == ["agent", "--state-dir", "/var/lib/gpu-telemetry", *expected]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("systemd-tmpfiles"), reason="needs root and systemd-tmpfiles"
)
def test_rapl_is_readable_for_the_group_only(tmp_path):
    """World-readable energy counters would reopen CVE-2020-8694."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\ngpu-telemetry:x:4711:\n")
    counters = []
    for package in ("intel-rapl:0", "intel-rapl:1"):
        zone = tmp_path / "sys/devices/virtual/powercap/intel-rapl" / package
        zone.mkdir(parents=True)
        counters.append(zone / "energy_uj")
        counters[-1].write_text("1\n")
        counters[-1].chmod(0o400)
    subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(DEPLOY / "tmpfiles.d/gpu-telemetry.conf")],
        timeout=60,
        check=True,
    )
    for counter in counters:
        seen = counter.stat()
        assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o440, 0, 4711)


def test_the_service_user_is_made_by_sysusers():
    """The user, its group, the unit and the counters agree on one name."""
    (line,) = (DEPLOY / "sysusers.d/gpu-telemetry.conf").read_text().splitlines()
    assert line.split()[:2] == ["u", settings()["GPU_TELEMETRY_USER"]]
    assert re.search(r"0440 root gpu-telemetry ", (DEPLOY / "tmpfiles.d/gpu-telemetry.conf").read_text())
