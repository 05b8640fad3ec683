"""The script that makes the Python environment for the launchers."""

from __future__ import annotations

import os
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from typing import TYPE_CHECKING

from ds01_monitoring import paths

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_of_the_callers_folder_is_run(tmp_path: Path) -> None:
    """Root may call it from /tmp, where every user can leave a module with the name of a well-known one."""
    mark = tmp_path / "was here"
    for module in ("ensurepip", "venv", "sys", "pip"):
        (tmp_path / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")

    done = subprocess.run(
        [paths.data_root() / "bin" / "bootstrap"],
        cwd=tmp_path,
        env={**os.environ, "DS01_VENV": "/proc/nowhere/venv"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "cannot write to /proc/nowhere" in done.stderr
    assert not mark.exists()
