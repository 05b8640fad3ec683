"""The accepted inventory: which GPUs and MIG instances this server must have, until somebody says otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.files import write_atomically
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.paths import StateDir

EXPORTERS = ("ds01-exporter", "dcgm-exporter", "gpu-telemetry")
HINT = "`monitoring-manage inventory accept` writes it anew from what is there now"


@dataclass(frozen=True)
class Card:
    """One physical GPU.

    Attributes:
        gpu: Its index, as the label `gpu` has it.
        UUID: Its identity.
        GPU_I_IDs: GPU instance ids of its MIG instances; empty for a whole GPU.
    """

    gpu: str
    UUID: str
    GPU_I_IDs: tuple[str, ...] = ()


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
            Card(str(card["gpu"]), str(card["UUID"]), tuple(map(str, card["GPU_I_IDs"]))) for card in cards
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
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
        for _, labels, _ in reply.samples():
            if labels.get("gpu") and labels.get("UUID"):
                found = instances.setdefault((labels["gpu"], labels["UUID"]), set())
                found.update(filter(None, [labels.get("GPU_I_ID")]))
    return [
        Card(gpu, uuid, tuple(sorted(found, key=lambda name: (len(name), name))))
        for (gpu, uuid), found in instances.items()
    ]
