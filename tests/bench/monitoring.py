"""The control plane: the commands that a person waits for."""

import os
import tempfile
from pathlib import Path

from tests.bench.frame import RUNS, Row, median_seconds

from ds01_monitoring import command

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "bookworm" / "usr/bin"


def measure() -> list[Row]:
    """`render` with all its checks and `check`, as whole commands, interpreter and promtool included."""
    manage = ROOT / ".venv/bin/monitoring-manage"
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        start = [str(manage), "--state-dir", f"{folder}/state"]

        def run(*args: str) -> None:
            command.run([*start, *args], timeout=60, env=environment)

        run("render", "--runtime", "native", "--hardware", "dcgm")
        for name in ("render", "check"):
            seconds = median_seconds(lambda name=name: run(name, "--runtime", "native", "--hardware", "dcgm"))
            note = f"{len(list((ROOT / 'prometheus/rules').glob('*.j2')))} rule files, promtool and amtool included"
            rows.append(Row(f"monitoring-manage {name}", seconds, "s", 2.0, runs=RUNS, note=note))
        rows.append(Row("monitoring-manage --help", median_seconds(lambda: run("--help")), "s"))
    return rows
