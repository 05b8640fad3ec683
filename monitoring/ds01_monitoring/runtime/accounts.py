"""As whom the native runtime's servers run where root starts it: as the user that containers would run as.

The exporters stay root's, as root may read what the allocator, the driver and the Engine keep to themselves; so does the
demo. A server also stays root's where that user cannot reach what it has to read, and `status` says why.
"""

from __future__ import annotations

import configparser
import json
import os
import pwd
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_monitoring import command
from ds01_monitoring.files import write_atomically
from ds01_monitoring.runtime import binaries, owner
from ds01_monitoring.runtime.child import ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.paths import StateDir

SERVERS = ("prometheus", "alertmanager", "grafana", "node-exporter")
CONFIGURATIONS = {
    "prometheus": "prometheus/prometheus.yml",
    "alertmanager": "alertmanager/alertmanager.yml",
    "grafana": "grafana/provisioning",
}
SECONDS = 20

# Asks as that user, so that access lists and network file systems have their say too.
ASK = 'while [ $# -gt 0 ]; do [ "$1" "$2" ] || echo "$2"; shift 2; done'
FILE_REFERENCE = re.compile(r"\$__file\{([^}]*)\}")


@dataclass(frozen=True)
class Account:
    """As whom one server runs.

    Attributes:
        uid: 0 where it stays root's.
        gid: Its group.
        groups: Further groups.
        why: Why it stays root's; empty where it does not.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    why: str = ""


def assign(state: StateDir, path: str) -> dict[str, Account]:
    """Decide for every server of the rendered configuration, make its data its own, and write that down for `child`.

    Args:
        state: The state directory.
        path: Where the servers' programs are looked for, as PATH.
    """
    programs = _programs(state)
    names = [name for name in SERVERS if name in programs]
    if os.geteuid() != 0 or "ds01-demo" in programs or not names:
        return {}
    uid, gid = owner.ids(state)
    folders = [state.data / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    owner.give(state.secrets, *state.secrets.glob("*"), state.data, uid=uid, gid=gid)
    owner.hand_over_data(folders, uid, gid)
    plain = Account(uid, gid, _groups(uid, gid))
    found = {name: _account(plain, _needs(state, name, programs[name], path)) for name in names}
    write_atomically(
        state.run / ACCOUNTS, json.dumps({name: asdict(one) for name, one in found.items()}), mode=0o600
    )
    return found


def read(state: StateDir) -> dict[str, Account]:
    """What was decided last; nothing where root does not run the servers."""
    try:
        return {
            name: Account(**values) for name, values in json.loads((state.run / ACCOUNTS).read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _account(plain: Account, needs: list[tuple[str, Path]]) -> Account:
    words = [word for test, file in needs for word in (test, str(file))]
    done = command.run(
        ["/bin/sh", "-c", ASK, "sh", *words],
        timeout=SECONDS,
        check=False,
        cwd=Path("/"),
        as_user=(plain.uid, plain.gid, plain.groups),
    )
    closed = done.stdout.splitlines()
    if not closed:
        return plain
    return Account(0, 0, (), f"runs as root, as user {_name(plain.uid)} cannot reach {closed[0]}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _groups(uid: int, gid: int) -> tuple[int, ...]:
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return (gid,)


def _programs(state: StateDir) -> dict[str, str]:
    """The section of each program of the rendered supervisord.conf, as text."""
    parser = configparser.RawConfigParser(interpolation=None)
    parser.read(state.current / "supervisord.conf")
    return {
        name.partition(":")[2]: "\n".join(parser[name].values())
        for name in parser.sections()
        if name.startswith("program:")
    }


def _needs(state: StateDir, name: str, section: str, path: str) -> list[tuple[str, Path]]:
    """What a server needs, each as an option of test(1) and a path."""
    words = shlex.split(section.splitlines()[0])
    program = binaries.find(words[words.index("--") + 1], path)
    needs = [("-x", program.resolve())] if program else []
    needs += [(option, state.data / name) for option in ("-r", "-w", "-x")]
    if name in CONFIGURATIONS:
        needs.append(("-r", state.current / CONFIGURATIONS[name]))
    if "web-config.yml" in section:
        needs.append(("-r", state.secrets / "web-config.yml"))
    if CONFIGURATIONS.get(name, "").endswith(".yml"):
        needs += [("-r", file) for file in _named(state.current / CONFIGURATIONS[name])]
    root = str(state.root)
    needs += [
        ("-r", Path(file.replace("%(ENV_DS01_STATE)s", root).replace("%%", "%")))
        for file in FILE_REFERENCE.findall(section)
    ]
    return list(dict.fromkeys(needs))


def _named(configuration: Path) -> Iterator[Path]:
    """The secrets and certificates that a server's configuration names."""
    import yaml  # noqa: PLC0415 - only where root starts servers.

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = configuration.read_text(encoding="utf-8") if configuration.is_file() else ""
    for value in _walk(yaml.load(text, Loader=loader)):  # noqa: S506 - a safe one.
        yield configuration.parent / value


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).endswith("_file") and isinstance(inner, str):
                yield inner
            else:
                yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)
