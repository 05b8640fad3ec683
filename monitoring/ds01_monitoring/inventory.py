"""The accepted inventory: which GPUs and MIG instances this server must have, until somebody says otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ds01_monitoring.paths import StateDir

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
    """Accept these cards."""
    ordered = sorted(cards, key=lambda card: (len(card.gpu), card.gpu))
    write_atomically(file(state), json.dumps([asdict(card) for card in ordered], indent=2) + "\n", mode=0o644)
