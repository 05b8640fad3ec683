"""Who listens on a port, asked of the kernel."""

from __future__ import annotations

import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
_LISTEN = "0A"


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections.

    Attributes:
        port: 1..65535.
        inode: The kernel's number for the socket.
        user: Name of the user that owns it, else the number.
        pid: The process that has it open; None where the kernel does not let us see.
        program: Its name; empty where `pid` is None.
    """

    port: int
    inode: int
    user: str
    pid: int | None = None
    program: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user}"
        return f"{self.program} (pid {self.pid}, user {self.user})"


def listeners(ports: Iterable[int]) -> dict[int, Listener]:
    """Those of the ports that somebody listens on, on any address of this host."""
    wanted = set(ports)
    found = {listener.port: listener for listener in _sockets() if listener.port in wanted}
    if not found:
        return {}
    owners = _owners({listener.inode for listener in found.values()})
    return {port: _with_owner(listener, owners.get(listener.inode)) for port, listener in found.items()}


def _sockets() -> Iterator[Listener]:
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (PROC / table).read_text().splitlines()[1:]
        except OSError:  # A kernel without IPv6 has no tcp6.
            continue
        for line in lines:
            column = line.split()
            if column[3] == _LISTEN:
                port = int(column[1].rpartition(":")[2], 16)
                yield Listener(port, int(column[9]), _user(int(column[7])))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owners(inodes: set[int]) -> dict[int, int]:
    """The process that has each socket open; others' processes show theirs to root alone."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, int] = {}
    for folder in PROC.glob("[0-9]*/fd"):
        for link in _links(folder) & wanted.keys():
            owners.setdefault(wanted[link], int(folder.parent.name))
    return owners


def _links(folder: Path) -> set[str]:
    """What a process has open; what it closes meanwhile, or hides from us, is left out."""
    found: set[str] = set()
    with suppress(OSError):
        for descriptor in folder.iterdir():
            found.add(str(descriptor.readlink()))
    return found


def _with_owner(listener: Listener, pid: int | None) -> Listener:
    if pid is None:
        return listener
    try:
        name = (PROC / str(pid) / "comm").read_text().strip()
        words = (PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return listener
    return Listener(listener.port, listener.inode, listener.user, pid, _full_name(name, words))


def _full_name(name: str, words: list[str]) -> str:
    """A program's name as people know it: the kernel keeps 15 characters, and calls scripts after their interpreter."""
    program, *arguments = (word.rpartition("/")[2] for word in words if word)
    if name.startswith("python") and arguments:
        return next((argument for argument in arguments if not argument.startswith("-")), name)
    return program if program.startswith(name) else name
