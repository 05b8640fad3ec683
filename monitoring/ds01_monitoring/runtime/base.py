"""What a runtime is: the way in which the stack's services are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ds01_monitoring.context import Context

State = Literal["running", "starting", "failing", "stopped", "stray", "not installed"]
"""`failing`: it ends again and again, and is tried again with pauses. `stray`: it runs, but nobody keeps it up."""

Say: TypeAlias = "Callable[[str], None]"
"""Told each step that takes a while, in a few words without a full stop."""


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is.

    Attributes:
        name: `prometheus`, `ds01-exporter`, ….
        state: See `State`.
        pid: The process on this host; None where none runs or the runtime does not tell.
        since: Unix time of the start, seconds; None where none runs.
        detail: One line for people: why it fails, in which version it runs.
    """

    name: str
    state: State
    pid: int | None = None
    since: float | None = None
    detail: str = ""


class Runtime(Protocol):
    """One way of running the services of one state directory."""

    name: str

    def prepare(self, context: Context, say: Say) -> None:
        """Everything that can fail before anything is changed: programs, ports, permissions.

        Raises:
            UserError: The stack cannot run here as configured; says what is in the way.
        """

    def search_path(self) -> str | None:
        """Where promtool and amtool are looked for, as PATH; None = where the check looks by itself."""

    def up(self, say: Say) -> None:
        """Start what does not run, and apply the rendered configuration to what does; safe to repeat.

        Raises:
            UserError: It cannot be done; says what to do. What ran keeps running.
        """

    def down(self, say: Say) -> None:
        """End everything that `up` started; data stays. No process is left when this returns."""

    def services(self) -> list[str]:
        """Names that `restart` and `logs` take, by the configuration in force; that may be none."""

    def restart(self, service: str | None, say: Say) -> None:
        """Stop and start one service, or all, with the rendered configuration.

        Raises:
            UserError: There is no such service; names those that there are.
        """

    def reload(self, say: Say) -> None:
        """Tell the servers that read their configuration anew on a signal to do so now."""

    def status(self) -> list[ServiceStatus]:
        """Each service that should run, and those that are left out with the reason."""

    def logs(self, service: str | None, *, tail: int | None, follow: bool) -> Iterator[str]:
        """Lines of one service or all; with `follow`, until the reader stops. None = a screenful.

        Raises:
            UserError: There is no such service; names those that there are.
        """

    def update(self, say: Say) -> None:
        """Get newer programs and run them."""


def known(service: str, names: Iterable[str]) -> str:
    """The service, which is one of `names`.

    Raises:
        UserError: It is not; names those that there are.
    """
    names = list(dict.fromkeys(names))
    if service in names:
        return service
    raise UserError(f"there is no service {service}", hint=f"one of: {', '.join(names)}", exit_code=2)
