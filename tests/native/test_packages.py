"""Programs from the distribution's packages, without root."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import packages
from ds01_monitoring.runtime.binaries import features

TOOLS = Path(__file__).resolve().parents[2] / ".tools"


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A folder that has a suite already."""
    tree = tmp_path / "bookworm"
    tree.mkdir()
    (tree / ".packages").write_text("layout 2\nprometheus 1.0\n")
    return tmp_path


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> packages.Source:
    """A mirror where nobody listens."""
    source = packages.Source("bookworm", "http://127.0.0.1:9/debian", ("main",))
    monkeypatch.setattr(packages, "source_of", lambda _suite: source)
    return source


@pytest.mark.tools
@pytest.mark.parametrize(
    "program", ["prometheus", "promtool", "prometheus-alertmanager", "amtool", "prometheus-node-exporter"]
)
def test_every_program_runs_from_where_it_was_unpacked(bookworm: Path, program: str) -> None:
    """Each server and tool starts from the unpacked tree and says its version."""
    done = command.run([str(bookworm / "usr/bin" / program), "--version"], timeout=30)

    assert "version" in done.stdout


@pytest.mark.tools
def test_no_link_of_the_web_page_leads_nowhere(bookworm: Path) -> None:
    """The scripts and fonts that Debian replaced by links are unpacked too."""
    links = [path for path in (bookworm / "usr/share/prometheus/web").rglob("*") if path.is_symlink()]

    assert links
    assert [str(link) for link in links if not link.exists()] == []


@pytest.mark.tools
def test_alertmanager_finds_its_templates(bookworm: Path, tmp_path: Path) -> None:
    """Debian's build, which looks for them below /usr/share, loads a configuration where nothing is installed."""
    configuration = tmp_path / "alertmanager.yml"
    configuration.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")

    # Port 1 is privileged or free; it stops either way once the configuration is loaded.
    done = command.run(
        [
            str(bookworm / "usr/bin/prometheus-alertmanager"),
            f"--config.file={configuration}",
            f"--storage.path={tmp_path}",
            "--cluster.listen-address=",
            "--web.listen-address=256.0.0.1:1",
        ],
        timeout=30,
        check=False,
    )

    assert "Completed loading of configuration file" in done.stdout
    assert "failed to parse templates" not in done.stdout
    assert "Listening on" in done.stdout or "listen" in done.stdout.lower()


@pytest.mark.tools
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_prometheus_knows_the_features_that_it_is_asked_for(suite: str, tmp_path: Path) -> None:
    """Both generations start without a word about an unknown feature; the newer one says that it is on."""
    try:
        program = packages.fetch(suite, TOOLS) / "usr/bin/prometheus"
    except UserError as error:
        pytest.skip(f"no Debian packages: {error}")
    (tmp_path / "prometheus.yml").touch()

    # No such address: it stops once everything else is set up.
    done = command.run(
        [
            str(program),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=256.0.0.1:1",
            *features("prometheus", program),
        ],
        timeout=60,
        check=False,
    )

    assert "Unknown option" not in done.stdout
    assert ("concurrent rule evaluation enabled" in done.stdout) == (suite == "sid")


def test_a_tree_of_another_version_is_made_anew(complete: Path, unreachable: packages.Source) -> None:
    """After an upgrade of ours that unpacks differently, an old tree is not taken for a complete one."""
    (complete / "bookworm/.packages").write_text("prometheus 1.0\n")

    with pytest.raises(UserError, match="could not be fetched"):
        packages.fetch("bookworm", complete)


def test_what_is_there_is_not_fetched_again(complete: Path, unreachable: packages.Source) -> None:
    """A complete tree is used as it is, so that a second start needs no network."""
    assert complete / "bookworm" == packages.fetch("bookworm", complete)


@pytest.mark.tools
def test_without_a_network_the_mirror_and_the_way_out_are_named(
    tmp_path: Path, unreachable: packages.Source
) -> None:
    """The message has the address that failed and what to do instead."""
    with pytest.raises(UserError) as caught:
        packages.fetch("bookworm", tmp_path)

    assert unreachable.mirror in caught.value.problem
    assert "PATH" in caught.value.hint


@pytest.mark.tools
def test_a_failed_update_leaves_what_is_there(complete: Path, unreachable: packages.Source) -> None:
    """A mirror that is down does not cost the programs that one has."""
    with pytest.raises(UserError):
        packages.fetch("bookworm", complete, update=True)

    assert (complete / "bookworm/.packages").read_text() == "layout 2\nprometheus 1.0\n"


def test_two_at_once_wait_for_each_other(complete: Path, unreachable: packages.Source) -> None:
    """The second says that it waits, and finds the work of the first."""
    said: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    with (complete / ".bookworm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: packages.fetch("bookworm", complete, say=say))
        second.start()
        assert waiting.wait(30)
    second.join(30)

    assert not second.is_alive()
    assert said == ["waiting for another download of the same packages"]


def test_a_machine_without_apt_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another distribution the message lists the programs that PATH must have."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UserError, match="no Debian packages") as caught:
        packages.this_machines_suite()

    assert "node_exporter" in caught.value.hint
