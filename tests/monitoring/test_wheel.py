"""The wheel: installed by itself it has all that `render` needs."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from ds01_monitoring import command, paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory):
    """The wheel's content, unpacked into a folder of its own as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    args = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    command.run([*args, str(ROOT)], timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_renders_from_another_folder(site_packages, tmp_path):
    """Every template travels with the package, and the clone is not needed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(site_packages),
        "MONITORING_CONFIG": "",
        "PATH": "/usr/bin:/bin",
    }
    program = "import ds01_monitoring.cli as cli; print(cli.__file__); cli.manage()"
    out = tmp_path / "out"

    done = command.run(
        [
            sys.executable,
            "-c",
            program,
            "--state-dir",
            str(tmp_path / "s"),
            "render",
            "--runtime=native",
            f"--out={out}",
        ],
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )

    assert str(site_packages) in done.stdout
    shipped = {path.name for path in (paths.data_root() / "prometheus/rules").glob("*.j2")}
    rendered = {f"{path.name}.j2" for path in (out / "prometheus/rules").iterdir()}
    assert rendered <= shipped
    assert len(shipped - rendered) <= 2  # Those that are switched off by default.
    assert (out / "alertmanager/alertmanager.yml").exists()
    assert (out / "supervisord.conf").exists()


def test_the_wheel_puts_nothing_generic_into_site_packages(site_packages):
    """Four packages, and the folder that describes them."""
    names = {path.name for path in site_packages.iterdir() if not path.name.endswith(".dist-info")}

    assert names == {"ds01_monitoring", "ds01_exporter", "gpu_telemetry", "ds01_demo"}
