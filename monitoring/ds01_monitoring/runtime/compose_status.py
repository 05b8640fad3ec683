"""What the Engine says about a container, in the words of `status`."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import engine
from ds01_monitoring.runtime.base import ServiceStatus

if TYPE_CHECKING:
    from ds01_monitoring.runtime.engine import Container

OFTEN_STARTS, OFTEN_SECONDS = 3, 600
WORDS = 200


def described(name: str, container: Container | None) -> ServiceStatus:
    """The status of one service; None where there is no container of it."""
    if container is None:
        return ServiceStatus(name, "stopped", detail="there is no container of it")
    state = container.state
    since, restarts = started(container), int(container.data.get("RestartCount", 0))
    if not container.running:
        if state.get("Restarting"):
            return ServiceStatus(
                name, "failing", detail=f"started {restarts + 1} times; {last_words(container)}"
            )
        why = state.get("Error") or f"ended with {state.get('ExitCode')}; {last_words(container)}"
        return ServiceStatus(name, "stopped", detail=why)
    pid = int(state["Pid"])
    if restarts >= OFTEN_STARTS and time.time() - since < OFTEN_SECONDS:
        return ServiceStatus(
            name, "failing", pid, since, f"started {restarts + 1} times; {last_words(container)}"
        )
    health = (state.get("Health") or {}).get("Status", "none")
    if health == "unhealthy":
        said = ((state["Health"].get("Log") or [{}])[-1].get("Output") or "no answer").strip()
        return ServiceStatus(name, "failing", pid, since, f"unhealthy: {said[:WORDS]}")
    return ServiceStatus(name, "starting" if health == "starting" else "running", pid, since)


def started(container: Container) -> float:
    """Unix time of the last start, seconds. The Engine writes nanoseconds, which Python does not read."""
    text = container.state["StartedAt"].partition(".")[0].rstrip("Z")
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc).timestamp()


def last_words(container: Container) -> str:
    """What it printed last, and what that means where it is known."""
    try:
        said = engine.docker("logs", "--tail", "5", container.id)
    except UserError:
        return "its log cannot be read"
    known = engine.meaning(said)
    if known is not None:
        return f"{known.problem}; next: {known.hint}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"last words: {lines[-1][:WORDS]}" if lines else "it printed nothing"
