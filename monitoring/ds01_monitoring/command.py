"""The control plane's one door to other programs."""

from __future__ import annotations

import logging
import shlex
import subprocess  # noqa: TID251 - this module is the door.
from typing import TYPE_CHECKING, Any

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]


class CommandFailed(UserError):  # noqa: N818 - reads better where it is caught.
    """A program ended with an error; `output` holds what it printed."""

    def __init__(self, args: Sequence[str], code: int, output: str) -> None:
        last = output.strip().splitlines()[-1:] or ["(it printed nothing)"]
        super().__init__(f"{shlex.join(args)} ended with {code}: {last[0]}")
        self.code = code
        self.output = output


def run(
    args: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    as_user: tuple[int, int, Sequence[int]] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output, standard error included in `stdout`.

    Args:
        args: The program and its arguments; never a shell line.
        timeout: Seconds after which it is killed.
        cwd: Working directory.
        env: Whole environment; the caller's by default.
        stdin: Text to feed it; nothing by default.
        check: Raise when the exit code is not 0.
        as_user: Its user, group and further groups; the caller's by default, and only root may choose.

    Raises:
        CommandFailed: It ended with another code than 0 and `check` is set, or ran out of time.
        UserError: There is no such program.
    """
    log.debug("run: %s", shlex.join(args))
    user, group, groups = as_user or (None, None, None)
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell.
            list(args),
            cwd=cwd,
            env=None if env is None else dict(env),
            input=stdin if stdin is not None else "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            user=user,
            group=group,
            extra_groups=groups,
        )
    except FileNotFoundError as error:
        raise UserError(
            f"program not found: {args[0]}", hint=f"install the package that has {args[0]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        output = (
            error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else (error.stdout or "")
        )
        raise CommandFailed(args, 124, f"{output}\nno end after {timeout:g} s") from error
    if check and done.returncode != 0:
        raise CommandFailed(args, done.returncode, done.stdout)
    return done


def spawn(args: Sequence[str], **options: Any) -> Process:
    """Start a program and return without waiting for it; options are `subprocess.Popen`'s."""
    log.debug("spawn: %s", shlex.join(args))
    return subprocess.Popen(list(args), **options)  # noqa: S603


def spawn_detached(args: Sequence[str], *, env: Mapping[str, str], output: Path) -> Process:
    """Start a program that outlives this one, in a session of its own, without input; it prints to `output`."""
    with output.open("wb") as stream:
        return spawn(
            args,
            env=dict(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def let_go(process: Process) -> None:
    """Forget a detached program that runs well, so that nothing warns about a child left behind."""
    process.returncode = 0
