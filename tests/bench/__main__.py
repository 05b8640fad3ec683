"""Runs the benchmarks and prints one table: `make bench`, or `make bench ARGS="exporter"` for some of them.

Each module of this folder with a function `measure() -> list[Row]` is one benchmark. Ends with 1 when a promise is
missed, so that it can be scripted; no test depends on it.
"""

import argparse
import importlib
import logging
import os
import platform
import sys
from pathlib import Path

from tests.bench.frame import Row, table

FRAME = {"__init__", "__main__", "frame", "fleet", "past"}


def benchmarks() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in FRAME)


def machine() -> str:
    """Return a line about the machine, so that figures are not compared across machines by mistake."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f}"


def main() -> int:
    """Run what was asked for, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *benchmarks()], help="benchmarks to run; default: all"
    )
    names = parser.parse_args().names or benchmarks()
    logging.disable(logging.WARNING)
    rows: list[Row] = []
    for name in names:
        print(f"running {name} …", file=sys.stderr, flush=True)  # noqa: T201 - a program's progress
        rows += importlib.import_module(f"tests.bench.{name}").measure()
    print(machine(), table(rows), sep="\n\n")  # noqa: T201 - a program's output
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
