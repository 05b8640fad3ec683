"""The accepted inventory: which GPUs and MIG instances this server must have, until somebody says otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.files import write_atomically
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.paths import StateDir

EXPORTERS = ("ds01-exporter", "dcgm-exporter", "gpu-telemetry")
SLOT = "ds01_gpu_slot_info"
"""A slot that the driver offers."""
HINT = "`monitoring-manage inventory accept` writes it anew from what is there now"


@dataclass(frozen=True)
class Card:
    """One physical GPU.

    Attributes:
        gpu: Its index, as the label `gpu` has it.
        UUID: Its identity.
        GPU_I_IDs: GPU instance ids of its MIG instances; empty for a whole GPU.
        slotless: Those of them that the driver offers as no slot (a GPU instance without a compute instance); an empty
            id is the card itself (in MIG mode without instances). Only telemetry can tell that these are there.
    """

    gpu: str
    UUID: str
    GPU_I_IDs: tuple[str, ...] = ()
    slotless: tuple[str, ...] = ()


def file(state: StateDir) -> Path:
    """Where the inventory lies; it is no secret and no sample, so it lies at the top."""
    return state.root / "inventory.json"


def read(state: StateDir) -> list[Card]:
    """The accepted cards; none where nothing was accepted yet.

    Raises:
        UserError: The file is not what `write` made.
    """
    path = file(state)
    try:
        cards = json.loads(path.read_text(encoding="utf-8"))
        return [
            Card(
                str(card["gpu"]),
                str(card["UUID"]),
                tuple(map(str, card["GPU_I_IDs"])),
                tuple(map(str, card.get("slotless", ()))),
            )
            for card in cards
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"is no inventory: {error}", place=str(path), hint=HINT) from error


def write(state: StateDir, cards: Sequence[Card]) -> None:
    """Accept these cards; in force with the next rendering."""
    text = json.dumps([asdict(card) for card in ordered(cards)], indent=2) + "\n"
    write_atomically(file(state), text, mode=0o644)


def ordered(cards: Sequence[Card]) -> list[Card]:
    """By index, as numbers."""
    return sorted(cards, key=lambda card: (len(card.gpu), card.gpu, card.UUID))


def seen(deployment: Deployment) -> list[Card]:
    """The cards and instances that the exporters show now: what the driver says and what is measured, together.

    Raises:
        UserError: An exporter of the stack does not answer, so that what it knows would be missing.
    """
    client = Client(deployment.password())
    instances: dict[tuple[str, str], set[str]] = {}
    slots: set[tuple[str, str]] = set()
    for job in EXPORTERS:
        if job not in deployment.addresses:
            continue
        try:
            reply = client.get(deployment.addresses[job], "/metrics")
        except Unreachable as error:
            raise UserError(
                f"does not answer: {error}", place=job, hint="monitoring-manage status"
            ) from error
        if reply.status != 200:
            raise UserError(f"answers {reply.status}", place=job, hint="monitoring-manage status")
        for name, labels, _ in reply.samples():
            if _shows_a_card(name, labels):
                found = instances.setdefault((labels["gpu"], labels["UUID"]), set())
                found.update(filter(None, [labels.get("GPU_I_ID")]))
                if name == SLOT:
                    slots.add((labels["UUID"], labels.get("GPU_I_ID", "")))
    return [_card(gpu, uuid, found, slots) for (gpu, uuid), found in instances.items()]


def _shows_a_card(name: str, labels: Mapping[str, str]) -> bool:
    """Whether a sample proves that its card is there; errors are counted for cards that fell off the bus, too."""
    return bool(labels.get("gpu") and labels.get("UUID")) and "XID" not in name.upper()


def _card(gpu: str, uuid: str, instances: set[str], slots: set[tuple[str, str]]) -> Card:
    """One card; where no slot of the machine is known, none is held against it."""
    ids = tuple(sorted(instances, key=lambda name: (len(name), name)))
    slotless = (name for name in ids or ("",) if slots and (uuid, name) not in slots)
    return Card(gpu, uuid, ids, tuple(slotless))
