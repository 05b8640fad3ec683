"""Runs all checks side by side, each within its time."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ds01_monitoring.errors import UserError
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ds01_monitoring.deployment import Deployment

LIMIT_SECONDS = 10

State = Literal["ok", "pending", "failed", "absent"]
"""`pending`: too early to tell. `absent`: left out on purpose. Both are healthy."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        area: What it belongs to: processes, servers, targets, ….
        name: What it is about.
        state: See `State`.
        detail: What was found, in one line.
        hint: What to do next; where it failed.
    """

    area: str
    name: str
    state: State
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Health:
    """All checks of one deployment, at one time."""

    deployment: Deployment
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """What is not well."""
        return [check for check in self.checks if check.state == "failed"]

    @property
    def pending(self) -> list[Check]:
        """What it is too early to judge."""
        return [check for check in self.checks if check.state == "pending"]


def examine(deployment: Deployment) -> Health:
    """Look at everything; takes as long as the slowest check, and never more than 10 s."""
    from ds01_monitoring.health import areas  # noqa: PLC0415 - it needs `Check`.

    try:
        client = Client(deployment.password())
    except UserError as error:
        unreadable = Check("servers", "password", "failed", str(error).splitlines()[0], error.hint)
        return Health(deployment, (unreadable,))
    looks = {area: _bound(look, deployment, client) for area, look in areas.AREAS.items()}
    found = _side_by_side(looks)
    return Health(deployment, tuple(check for area in looks for check in found[area]))


def _bound(
    look: Callable[[Deployment, Client], Iterable[Check]], deployment: Deployment, client: Client
) -> Callable[[], list[Check]]:
    return lambda: list(look(deployment, client))


def _side_by_side(looks: dict[str, Callable[[], list[Check]]]) -> dict[str, list[Check]]:
    """The result of each look; one that fails or takes too long is a failed check of its own."""
    done: queue.SimpleQueue[tuple[str, list[Check]]] = queue.SimpleQueue()

    def work(area: str, look: Callable[[], list[Check]]) -> None:
        try:
            done.put((area, look()))
        except Unreachable as error:
            # That the server does not answer is the servers' line; here it only means: not known.
            done.put((area, [Check(area, area, "failed", f"not known: {error}", "see `servers` above")]))
        except UserError as error:
            done.put((area, [Check(area, area, "failed", error.problem, error.hint)]))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the others.
            text = f"could not be checked: {type(error).__name__}: {error}"
            done.put((area, [Check(area, area, "failed", text, "monitoring-manage doctor")]))

    for area, look in looks.items():
        # Daemons: a check that hangs must not keep the command from ending.
        threading.Thread(target=work, args=(area, look), daemon=True).start()
    deadline = time.monotonic() + LIMIT_SECONDS
    found: dict[str, list[Check]] = {}
    while len(found) < len(looks):
        try:
            area, checks = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[area] = checks
    late = f"no answer within {LIMIT_SECONDS} s"
    hint = "is the machine overloaded? monitoring-manage logs"
    return {area: found.get(area, [Check(area, area, "failed", late, hint)]) for area in looks}
