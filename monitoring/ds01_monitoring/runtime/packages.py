"""Fetches the servers' programs from the distribution's packages, without root and without installing them.

`apt-get download` with lists of its own, verified by apt as usual, then `dpkg-deb -x`: no service
is started, nothing outside the target folder is touched, and any suite of the distribution can be had.

    python -m ds01_monitoring.runtime.packages bookworm sid --into .tools
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime.relocate import relocate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SERVERS = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# What the servers' own files link to: Debian replaces bundled scripts and fonts by links into
# these packages, and Prometheus 2.42 answers 500 on its page where a link leads nowhere.
COMPANIONS = re.compile(r"(libjs-|node-|fonts-)[a-z0-9.+-]+|promtool")

LAYOUT = "layout 2"
"""First line of a complete tree's mark; a tree with another one is made anew."""

UPDATE_SECONDS = 300
DOWNLOAD_SECONDS = 600

# Read after the system's own configuration, whose proxies and credentials stay in force. Other
# people's hooks do not run, and of the indexes only the list of packages is fetched.
APT_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-hidpi::DefaultEnabled "false";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::Etc::SourceList "{root}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State "{root}/state";
Dir::State::Lists "{root}/state/lists";
Dir::State::status "/dev/null";
Dir::Cache "{root}/cache";
Dir::Log "{root}/log";
"""


@dataclass(frozen=True)
class Source:
    """Where a suite's packages come from.

    Attributes:
        suite: The distribution's code name, such as `bookworm`.
        mirror: The address that holds `dists/`.
        components: Those of its components that have the packages.
    """

    suite: str
    mirror: str
    components: tuple[str, ...]

    def line(self) -> str:
        """The suite as apt's sources.list wants it."""
        return f"deb {self.mirror} {self.suite} {' '.join(self.components)}\n"


def this_machines_suite(os_release: Path = Path("/etc/os-release")) -> str:
    """The code name of the distribution that runs here.

    Raises:
        UserError: It is none that has apt packages.
    """
    text = os_release.read_text() if os_release.is_file() else ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    if found is None or shutil.which("apt-get") is None:
        raise UserError(
            "this machine has no Debian packages to take Prometheus from",
            hint="install prometheus, promtool, alertmanager, amtool and node_exporter so that PATH finds them",
        )
    return found.group(1)


def source_of(suite: str) -> Source:
    """The suite on the mirror that this machine uses already, else on the distribution's own."""
    ubuntu = "ubuntu" in Path("/etc/os-release").read_text() if Path("/etc/os-release").is_file() else False
    default = "http://archive.ubuntu.com/ubuntu" if ubuntu else "http://deb.debian.org/debian"
    components = ("main", "universe") if ubuntu else ("main",)
    listed = command.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
        ],
        timeout=30,
        check=False,
    )
    rows = [line.split() for line in listed.stdout.splitlines()] if listed.returncode == 0 else []
    # The distribution's own repository is the one that has plain code names in `main`.
    mirrors = [
        row[0] for row in rows if len(row) == 3 and row[2] == "main" and re.fullmatch(r"[a-z]+", row[1])
    ]
    official = [mirror for mirror in mirrors if re.search(r"/(debian|ubuntu)/?$", mirror)]
    return Source(suite, (official or [default])[0], components)


def fetch(
    suite: str, into: Path, *, update: bool = False, say: Callable[[str], None] = lambda _line: None
) -> Path:
    """Unpack the servers of one suite and return the folder that holds their `usr/`.

    Does nothing when they are there. Two at once wait for each other. The old tree stands
    until the new one is complete.

    Args:
        suite: The distribution's code name.
        into: The folder that gets `<suite>/`.
        update: Look for newer packages although some are there.
        say: Told each step that takes a while.

    Raises:
        UserError: A package could not be fetched; says which, and what to do.
    """
    into.mkdir(parents=True, exist_ok=True)
    tree = into / suite
    with _alone(into / f".{suite}.lock", say):
        installed = _installed(tree)
        if installed and not update:
            return tree
        work = into / f".{suite}.work"
        shutil.rmtree(work, ignore_errors=True)
        try:
            _build(source_of(suite), work, installed=installed, say=say)
            if (work / "tree").is_dir():
                _replace(tree, work / "tree")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return tree


def unpack(
    suite: str, names: Sequence[str], into: Path, *, say: Callable[[str], None] = lambda _line: None
) -> Path:
    """Unpack some packages of a suite, without what they depend on, and return the folder `into`.

    Does nothing when it is there, whatever newer versions there may be. Two at once wait for each other.

    Args:
        suite: The distribution's code name.
        names: The packages.
        into: The folder that gets their files.
        say: Told each step that takes a while.

    Raises:
        UserError: One could not be fetched; says which, and what to do.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    with _alone(into.with_name(f".{into.name}.lock"), say):
        if into.is_dir():
            return into
        work = into.with_name(f".{into.name}.work")
        shutil.rmtree(work, ignore_errors=True)
        try:
            apt = _Apt(source_of(suite), work)
            say(f"downloading {', '.join(names)} of {suite}")
            apt.get("update", timeout=UPDATE_SECONDS)
            apt.unpack(list(names), work)
            (work / "tree").rename(into)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return into


def _installed(tree: Path) -> list[str]:
    """`name version` of each package of a complete tree; none where it was made by another version of us."""
    mark = tree / ".packages"
    layout, *packages = mark.read_text().splitlines() if mark.is_file() else [""]
    return packages if layout == LAYOUT else []


def _build(source: Source, work: Path, *, installed: list[str], say: Callable[[str], None]) -> None:
    """Make `work/tree`, unless what the suite offers is what is installed."""
    apt = _Apt(source, work)
    say(f"reading the package lists of {source.suite} from {source.mirror}")
    apt.get("update", timeout=UPDATE_SECONDS)
    offered = apt.offered()
    if offered == installed:
        return
    say(f"downloading {len(offered)} packages of {source.suite}")
    tree = apt.unpack([entry.replace(" ", "=") for entry in offered], work)
    relocate(tree)
    (tree / ".packages").write_text("".join(f"{entry}\n" for entry in [LAYOUT, *offered]))


def _replace(tree: Path, new: Path) -> None:
    old = new.with_name("old")
    if tree.exists():
        tree.rename(old)
    new.rename(tree)


class _Apt:
    """apt with lists, cache and state of its own for one suite."""

    def __init__(self, source: Source, work: Path) -> None:
        self.source = source
        for folder in ("apt/state/lists/partial", "apt/cache/archives/partial", "apt/log"):
            (work / folder).mkdir(parents=True)
        root = (work / "apt").absolute()
        (root / "sources.list").write_text(source.line())
        self.configuration = root / "apt.conf"
        self.configuration.write_text(APT_CONFIGURATION.format(root=root))

    def get(self, *args: str, timeout: float, cwd: Path | None = None) -> None:
        try:
            command.run(
                ["apt-get", "-qq", "-c", str(self.configuration), *args],
                timeout=timeout,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C"},
            )
        except command.CommandFailed as error:
            raise self._explained(error) from error

    def unpack(self, packages: list[str], work: Path) -> Path:
        """Download packages (`name` or `name=version`) and unpack them all into `work/tree`."""
        debs, tree = work / "debs", work / "tree"
        debs.mkdir()
        self.get("download", *packages, cwd=debs, timeout=DOWNLOAD_SECONDS)
        for deb in sorted(debs.glob("*.deb")):
            command.run(["dpkg-deb", "-x", str(deb), str(tree)], timeout=120)
        tree.chmod(0o755)  # Packages carry the mode of `/`; some of them a narrow one.
        return tree

    def offered(self) -> list[str]:
        """`name version` of each package that the servers need, sorted."""
        quiet = [
            f"--no-{kind}"
            for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        ]
        listing = self._cache("depends", "--recurse", *quiet, *SERVERS)
        names = {line for line in listing.splitlines() if re.fullmatch(r"[a-z0-9.+-]+", line)}
        wanted = sorted(name for name in names if name in SERVERS or COMPANIONS.fullmatch(name))
        versions: dict[str, str] = {}
        for line in self._cache("madison", *wanted).splitlines():
            name, version, _ = (part.strip() for part in line.split("|", 2))
            versions.setdefault(name, version)  # The first line is the candidate.
        return [f"{name} {versions[name]}" for name in wanted if name in versions]

    def _cache(self, *args: str) -> str:
        try:
            return command.run(["apt-cache", "-c", str(self.configuration), *args], timeout=60).stdout
        except command.CommandFailed as error:
            raise self._explained(error) from error

    def _explained(self, error: command.CommandFailed) -> UserError:
        lines = [line for line in error.output.splitlines() if line.startswith(("E:", "W:"))]
        said = (lines or error.output.splitlines() or ["no words"])[0]
        return UserError(
            f"the packages of {self.source.suite} could not be fetched from {self.source.mirror}: {said[2:].strip()}",
            hint="is that mirror reachable (apt's proxy settings are used)? "
            "Without a network, install prometheus, alertmanager and node_exporter so that PATH finds them",
        )


@contextmanager
def _alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another download of the same packages")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the suites that the command line names and print where each lies."""
    parser = argparse.ArgumentParser(prog="python -m ds01_monitoring.runtime.packages", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("suites", nargs="+", metavar="SUITE", help="a code name, such as bookworm or sid")
    parser.add_argument("--into", type=Path, required=True, help="the folder that gets one folder per suite")
    parser.add_argument("--update", action="store_true", help="look for newer packages")
    options = parser.parse_args(arguments)
    say = partial(print, file=sys.stderr)
    for suite in options.suites:
        try:
            tree = fetch(suite, options.into, update=options.update, say=say)
        except UserError as error:
            sys.exit(f"error: {error}")
        say(f"{suite}: {tree}")


if __name__ == "__main__":
    main()
