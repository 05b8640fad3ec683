"""What was started from a state directory: enough to ask after it and to end it without the configuration."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.files import write_atomically
from ds01_monitoring.install.place import STATE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Runtime

FILE = "deployment.json"


class Damaged(UserError):  # noqa: N818 - reads better where it is caught.
    """A record that cannot be understood; the next `start` writes a new one."""


@dataclass(frozen=True)
class Deployment:
    """One stack that was started and not stopped since.

    A field that is new in a version has a default, for the records that older versions wrote.

    Attributes:
        state: Its state directory.
        runtime: `compose` or `native`.
        hardware: `dcgm`, `nvml` or `none`.
        demo: Whether it is the simulated server.
        local_auth: Whether its ports ask for the password.
        host: The label on its series.
        addresses: Where this machine reaches each job, `host:port`.
        without: Sources of the exporter that this machine does not have, with the reason.
    """

    state: StateDir
    runtime: str
    hardware: str
    demo: bool
    local_auth: bool
    host: str
    addresses: Mapping[str, str]
    without: Mapping[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Record that this is meant to run."""
        self.state.run.mkdir(parents=True, exist_ok=True)
        values = {key: value for key, value in vars(self).items() if key != "state"}
        write_atomically(self.state.run / FILE, json.dumps(values, indent=1), mode=0o644)

    def forget(self) -> None:
        """Record that this is meant to run no longer."""
        (self.state.run / FILE).unlink(missing_ok=True)

    def password(self) -> str | None:
        """The password of its ports; None where they ask for none.

        Raises:
            UserError: This user may not read it.
        """
        if not self.local_auth:
            return None
        file = self.state.secrets / "http_password"
        try:
            return file.read_text().strip()
        except OSError as error:
            raise UserError(
                f"the password cannot be read: {error.strerror}",
                place=str(file),
                hint="run this as the user who started it",
            ) from error

    def control(self, *, programs: Path | None = None) -> Runtime:
        """The runtime that runs it; `programs` is where the native one keeps unpacked programs."""
        return runtime_for(self.runtime, self.state, programs or _programs(self.state, demo=self.demo))


def runtime_for(name: str, state: StateDir, programs: Path) -> Runtime:
    """The runtime called `name`, `compose` or `native`, for one state directory.

    Raises:
        UserError: This version has none of that name.
    """
    from ds01_monitoring.runtime.programs import Programs  # noqa: PLC0415 - one of two runtimes is needed.

    if name == "compose":
        from ds01_monitoring.runtime.compose import ComposeRuntime  # noqa: PLC0415

        return ComposeRuntime(state, Programs(programs))
    if name == "native":
        from ds01_monitoring.runtime.native import NativeRuntime  # noqa: PLC0415

        return NativeRuntime(state, Programs(programs))
    raise UserError(f"this version has no {name} runtime", hint="set runtime: compose or native", exit_code=2)


def _programs(state: StateDir, *, demo: bool) -> Path:
    """The demo lies inside the state directory whose programs it uses."""
    return state.root.parent / "bin" if demo else state.bin


def load(state: StateDir) -> Deployment | None:
    """What was started from this state directory, or None.

    Raises:
        Damaged: The record says nothing.
        UserError: The record is there and this user may not read it.
    """
    file = state.run / FILE
    try:
        values = json.loads(file.read_text())
        # What a later version knows beyond this one does not keep this one from stopping it.
        known = {one.name: values[one.name] for one in fields(Deployment) if one.name in values}
        return Deployment(state=state, **known)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise UserError(
            "belongs to another user", place=str(state.root), hint="run this as its owner, or as root"
        ) from error
    except (ValueError, TypeError) as error:
        raise Damaged(
            f"is not a record of what runs: {error}", place=str(file), hint="monitoring-manage start"
        ) from error


def find(state: StateDir, *, demo: bool) -> list[Deployment]:
    """What was started from a state directory: the real stack and the demo, or only the demo."""
    places = [state.demo] if demo else [state, state.demo]
    return [found for place in places if (found := load(place)) is not None]


def one(state: StateDir, *, demo: bool) -> Deployment:
    """The stack that a command is about: the real one where it was started, else the demo.

    Raises:
        UserError: Nothing was started here.
    """
    found = find(state, demo=demo)
    if not found:
        raise nothing(state, demo=demo)
    return found[0]


def nothing(state: StateDir, *, demo: bool) -> UserError:
    """Nothing was started from this state directory."""
    what = "the demo was" if demo else "nothing was"
    hint = "monitoring-manage start --demo" if demo else "monitoring-manage start"
    if not demo and os.geteuid() != 0 and state.root != STATE and os.access(STATE / "run", os.F_OK):
        hint = f"with sudo, for this server's own stack in {STATE}; or {hint}, for another one"
    return UserError(f"{what} {'not ' if demo else ''}started here", place=str(state.root), hint=hint)
