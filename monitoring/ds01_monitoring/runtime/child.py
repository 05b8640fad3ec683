"""Runs one program of the stack in this process's place.

`supervisord` starts
`python -m ds01_monitoring.runtime.child NAME [--env-file FILE] [--after HOST:PORT] -- PROGRAM ARGUMENT…` with DS01_RUN (the folder for locks and records) and PATH set. Before the program takes over:

- a lock that the program inherits makes a second one of the same name impossible;
- the process is recorded by pid and start time, so that `start` and `stop` find it again
  after supervisord itself was killed;
- root's rights are given up where `accounts` decided so.

Standard library only: this runs at every start of every service.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import binaries, processes

ACCOUNTS = "accounts.json"
"""In `run`, where root has decided as whom a service runs."""

ALREADY_RUNS = 75
NOT_FOUND = 127
AFTER_SECONDS = 20


def read_environment(file: Path) -> dict[str, str]:
    """The assignments of an environment file, in the form that systemd's EnvironmentFile= reads."""
    pairs = (line.partition("=") for line in file.read_text().splitlines() if not line.startswith(("#", ";")))
    return {key.strip(): _unquoted(value.strip()) for key, separator, value in pairs if separator}


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        inner = value[1:-1]
        return inner.replace('\\"', '"').replace("\\\\", "\\") if value[0] == '"' else inner
    return value


def digest(values: dict[str, str]) -> str:
    """A short name for a set of assignments."""
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:16] if values else ""


def mark(uid: int) -> str:
    """What the record of a process says of the user it runs as; nothing for root, or where there is no choice."""
    return f"user {uid}" if uid else ""


def _only_one(run: Path, name: str) -> None:
    """Take the lock of this service and leave it to the program, which holds it until it ends."""
    lock = os.open(run / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{name} runs already, so it is not started a second time", file=sys.stderr)  # noqa: T201
        sys.exit(ALREADY_RUNS)
    os.set_inheritable(lock, True)


def _wait_for(address: str) -> None:
    """Wait until somebody listens there; after 20 s go on without, as the program itself will tell what it lacks."""
    deadline = time.monotonic() + AFTER_SECONDS
    while not _listens(address) and time.monotonic() < deadline:
        time.sleep(0.05)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _account(run: Path, name: str) -> dict[str, Any]:
    """As whom root decided that the service runs; empty where this is not root, or nothing was decided."""
    file = run / ACCOUNTS
    if os.geteuid() != 0 or not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text()).get(name, {})
    return found if found.get("uid") else {}


def _become(account: dict[str, Any]) -> None:
    """Go on as that user, for good."""
    if account:
        os.setgroups(account["groups"])
        os.setgid(account["gid"])
        os.setuid(account["uid"])


def _features(name: str, program: Path) -> list[str]:
    """What its version has; it starts without where it does not say that."""
    try:
        return binaries.features(name, program)
    except UserError as failure:
        print(f"started without what depends on the version: {failure}", file=sys.stderr)  # noqa: T201
        return []


def main() -> None:
    """Become the program that the command line names."""
    # A reload that comes before the program listens for it must not end it; Prometheus listens again later.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    own, arguments = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    name, run = own[0], Path(os.environ["DS01_RUN"])
    options = dict(zip(own[1::2], own[2::2], strict=True))
    settings = read_environment(Path(options["--env-file"])) if "--env-file" in options else {}
    environment = {**os.environ, **settings}
    program = binaries.find(arguments[0], os.environ.get("PATH", os.defpath))
    if program is None:
        print(f"program not found: {arguments[0]} (PATH is {os.environ.get('PATH')})", file=sys.stderr)  # noqa: T201
        sys.exit(NOT_FOUND)
    _only_one(run, name)
    before = processes.read(run, name)
    starts = [*(before.starts if before else []), time.time()]
    account = _account(run, name)
    started_with = digest(settings) or mark(account.get("uid", 0))
    processes.write(run, processes.this_process(name, environment=started_with, starts=starts))
    if "--after" in options:
        _wait_for(options["--after"])
    rest = [*arguments[1:], *binaries.own_options(arguments[0], program)]
    _become(account)
    rest += _features(arguments[0], program)
    os.execve(program, [str(program), *rest], environment)  # noqa: S606 - becoming it is the point.


if __name__ == "__main__":
    main()
