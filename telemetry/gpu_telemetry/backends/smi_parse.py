"""What nvidia-smi prints, as values: every cell on its own, so that one `[N/A]` spoils nothing else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpu_telemetry.inventory import slices_of
from gpu_telemetry.topology import MigDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1024**2

_LIST_GPU = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[^)\s]+)\)\s*$")
_LIST_MIG = re.compile(r"^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)\s*$")

# What stands in place of a value, in lower case, without the brackets that older drivers leave out.
_REASONS = (
    ("gpu is lost", "lost"),
    ("reset required", "lost"),
    ("requires reset", "lost"),
    ("insufficient permission", "no_permission"),
    ("no permission", "no_permission"),
    ("n/a", "not_supported"),
    ("not supported", "not_supported"),
    ("deprecated", "not_supported"),
    ("not found", "not_supported"),
    ("timeout", "timeout"),
)


class Missing(str):
    """The reason why a cell has no value."""

    __slots__ = ()


def number(cell: str) -> float | Missing:
    """The number in a cell printed with `nounits`, hexadecimal masks included, else why there is none."""
    text = cell.strip()
    try:
        value = float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except ValueError:
        return reason(text)
    # "nan" and "inf" are numbers to Python and no reading.
    return value if math.isfinite(value) else Missing("error")


def reason(cell: str) -> Missing:
    """Why a cell has no value, from the words in it."""
    words = cell.strip().strip("[]").lower()
    return next((Missing(why) for part, why in _REASONS if part in words), Missing("error"))


def rows(output: str, columns: int) -> list[list[str]]:
    """The cells of CSV output without header; a line with another number of cells is no row and is left out.

    nvidia-smi quotes nothing, so the last column is the one that may hold commas of its own.
    """
    found = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",", columns - 1)]
        if len(cells) == columns:
            found.append(cells)
    return found


@dataclass
class MigReading:
    """A MIG device as nvidia-smi shows it.

    Attributes:
        device: Identity from `-L`, instance ids from `-q`.
        memory_bytes: "total", "reserved", "used" and "free" from `-q`, those that it shows.
        pids: Processes on its GPU instance, from `-q`; None if it does not show the device.
    """

    device: MigDevice
    memory_bytes: dict[str, int] = field(default_factory=dict)
    pids: frozenset[int] | None = None


def parse_list(output: str) -> dict[str, list[MigDevice]]:
    """MIG devices by their card's UUID, from `nvidia-smi -L`; a card without any has an empty list."""
    cards: dict[str, list[MigDevice]] = {}
    current: list[MigDevice] = []
    for line in output.splitlines():
        if gpu := _LIST_GPU.match(line):
            current = cards.setdefault(gpu[2], [])
        elif mig := _LIST_MIG.match(line):
            profile = mig[1]
            current.append(
                MigDevice(index=int(mig[2]), uuid=mig[3], profile=profile, compute_slices=slices_of(profile)),
            )
    return cards


@dataclass
class Section:
    """One heading of `nvidia-smi -q` with what is indented below it."""

    name: str
    value: str
    children: list[Section]

    def child(self, name: str) -> Section | None:
        """The first heading of that name directly below."""
        return next((each for each in self.children if each.name == name), None)

    def integer(self, name: str) -> int | None:
        """The number that the value of that heading begins with ("40448 MiB"); None if there is none."""
        found = self.child(name)
        match = re.match(r"\d+", found.value) if found else None
        return int(match[0]) if match else None


def parse_query(output: str) -> list[Section]:
    """The headings of `nvidia-smi -q` at the left margin, nested by their indentation."""
    root = Section("", "", [])
    open_sections: list[tuple[int, Section]] = [(-1, root)]
    for line in output.splitlines():
        if not line.strip() or line.startswith("="):
            continue
        indent = len(line) - len(line.lstrip(" "))
        name, _, value = line.strip().partition(" : ") if " : " in line else (line.strip(), "", "")
        section = Section(name.strip(), value.strip(), [])
        while open_sections[-1][0] >= indent:
            open_sections.pop()
        open_sections[-1][1].children.append(section)
        open_sections.append((indent, section))
    return root.children


def mig_readings(query: Sequence[Section], listed: dict[str, list[MigDevice]]) -> dict[str, list[MigReading]]:
    """Every MIG device by its card's UUID, with instance ids and memory from `-q` where it shows them."""
    found = {uuid: [MigReading(mig) for mig in migs] for uuid, migs in listed.items()}
    for card in query:
        uuid = card.child("GPU UUID")
        if uuid is None:
            continue
        details = {each.integer("Index"): each for each in card.children if each.name == "MIG Device"}
        pids = _pids_by_instance(card)
        found[uuid.value] = [
            _with_details(reading.device, details.get(reading.device.index), pids)
            for reading in found.get(uuid.value, [])
        ]
    return found


def _pids_by_instance(card: Section) -> dict[int | None, set[int]]:
    """Processes by GPU instance: a heading for each says its instance, the next ones its pid."""
    found: dict[int | None, set[int]] = {}
    instance: int | None = None
    section = card.child("Processes")
    for each in section.children if section else ():
        if each.name == "GPU instance ID":
            instance = int(each.value) if each.value.isdecimal() else None
        elif each.name == "Process ID" and each.value.isdecimal():
            found.setdefault(instance, set()).add(int(each.value))
    return found


def _with_details(mig: MigDevice, section: Section | None, pids: dict[int | None, set[int]]) -> MigReading:
    if section is None:
        return MigReading(mig)
    # "FB Memory Usage" before driver 525 or so, "Shared FB Memory Usage" since.
    usage = section.child("Shared FB Memory Usage") or section.child("FB Memory Usage")
    memory = {
        name.lower(): mebibytes * MIB
        for name in ("Total", "Reserved", "Used", "Free")
        if usage is not None and (mebibytes := usage.integer(name)) is not None
    }
    device = MigDevice(
        index=mig.index,
        uuid=mig.uuid,
        gpu_instance_id=section.integer("GPU Instance ID"),
        compute_instance_id=section.integer("Compute Instance ID"),
        profile=mig.profile,
        compute_slices=mig.compute_slices,
        memory_total_bytes=memory.get("total"),
    )
    return MigReading(device, memory, frozenset(pids.get(device.gpu_instance_id, ())))
