"""An nvidia-smi that answers from a folder of captures; `nvidia-smi.json` beside it says which, and what to change."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import NoReturn

SETTINGS = json.loads(Path(__file__).with_name("nvidia-smi.json").read_text())


def say(text: str, code: int = 0) -> NoReturn:
    """Print an answer and end."""
    sys.stdout.write(text)
    sys.exit(code)


def table(rows: list[dict[str, str]], properties: list[str], known: list[str]) -> None:
    """Print the cells of every row, as CSV without quotes; an unknown property spoils the whole query."""
    for name in properties:
        if name not in known:
            say(f'Field "{name}" is not a valid field to query.\n\n', 2)
    for row in rows:
        sys.stdout.write(", ".join(row[name] for name in properties) + "\n")


def main(arguments: list[str]) -> None:
    """Answer one call."""
    folder = Path(SETTINGS["folder"])
    first = arguments[0]
    for start, answer in SETTINGS["changes"].items():
        if first.startswith(start):
            if answer == "hang":
                time.sleep(600)
            say(answer, SETTINGS["code"])
    if first.startswith("--query-gpu="):
        cards = json.loads((folder / "gpus.json").read_text())
        table(cards, first.partition("=")[2].split(","), list(cards[0]))
    elif first.startswith("--query-compute-apps="):
        apps = json.loads((folder / "apps.json").read_text())
        table(
            apps, first.partition("=")[2].split(","), ["gpu_uuid", "pid", "used_gpu_memory", "process_name"]
        )
    elif first in {"-L", "-q"}:
        say((folder / f"{first[1:]}.txt").read_text())
    else:
        say(f"Invalid combination of input arguments: {arguments}\n", 2)


main(sys.argv[1:])
