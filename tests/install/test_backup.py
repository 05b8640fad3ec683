"""`backup` and `restore`: what comes back on an empty machine."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.e2e.site import REPOSITORY, Site, free_ports, make_site, wait_until

from ds01_monitoring import api, command, inventory
from ds01_monitoring.backup import series, silences
from ds01_monitoring.backup.restore import restore
from ds01_monitoring.errors import UserError
from ds01_monitoring.http import Client, Unreachable
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import packages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.tools

BLOCK = "01ARZ3NDEKTSV4RRFFQ69G5FA"


@pytest.fixture(scope="module")
def tools() -> None:
    """Skip, with the reason, where the servers can neither be found nor fetched."""
    try:
        packages.fetch("bookworm", REPOSITORY / ".tools")
    except UserError as error:
        pytest.skip(f"no Debian packages: {error}")


def _silence(author: str) -> dict[str, object]:
    now = dt.datetime.now(dt.timezone.utc)
    return {
        "matchers": [
            {"name": "alertname", "value": "DS01GPUWaste", "isRegex": False, "isEqual": True},
            {"name": "user", "value": "ann|bob", "isRegex": True, "isEqual": False},
        ],
        "startsAt": now.isoformat(),
        "endsAt": (now + dt.timedelta(days=3)).isoformat(),
        "createdBy": author,
        "comment": "äöü",
    }


def _known(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Silences without what a server adds to each."""
    kept = ("id", "matchers", "startsAt", "endsAt", "createdBy", "comment")
    return sorted(({key: one[key] for key in kept} for one in found), key=lambda one: str(one["id"]))


class Server(Site):
    """A site that watches its own machine, which the demo is not needed for."""

    @property
    def state(self) -> StateDir:
        """The site's state directory."""
        return StateDir(self.root / "state")


def _server(root: Path) -> Server:
    site = Server(root, make_site(root).settings)
    site.configure(
        runtime="native", hardware="none", exporter={**site.settings["exporter"], "deployment": "process"}
    )
    return site


@pytest.fixture
def old(tools: None, tmp_path: Path) -> Iterator[Server]:
    """A machine on which a stack runs, with a Grafana that writes to its database, and an inventory."""
    site = _server(tmp_path / "old")
    site.manage("start", "--timeout", "120")
    inventory.write(site.state, [inventory.Card("0", "GPU-a", ("1",))])
    (site.state.data / "grafana").mkdir()
    with closing(sqlite3.connect(site.state.data / "grafana" / "grafana.db")) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table dashboard (title text)")
        database.execute("insert into dashboard values ('Ours')")
        database.commit()
        yield site
    site.manage("stop")


def test_an_empty_machine_gets_everything_back(old: Server, tmp_path: Path) -> None:
    """Series, silences with their ids, dashboards, inventory and passwords; nothing is stopped for the backup."""
    sample = wait_until(lambda: old.query('up{job="prometheus"}'), "there is a sample")[0]["value"]
    alertmanager = api.alertmanager(old.deployment())
    identifier = alertmanager.add_silence(_silence("ann"))
    before, saved = old.pids(), tmp_path / "backup"

    old.manage("backup", str(saved))

    assert old.pids() == before
    silenced = alertmanager.silences()
    new = _server(tmp_path / "new")
    new.manage("restore", str(saved))
    new.manage("start", "--timeout", "120")
    try:
        again = api.alertmanager(new.deployment()).silences()
        assert new.query('up{job="prometheus"}', time=str(sample[0]))[0]["value"][1] == "1"
    finally:
        new.manage("stop")

    assert _known(again) == _known(silenced)
    assert identifier in {one["id"] for one in again}
    with closing(sqlite3.connect(new.state.data / "grafana" / "grafana.db")) as database:
        assert database.execute("select title from dashboard").fetchall() == [("Ours",)]
    for name in ("http_password", "grafana_admin_password", "web-config.yml"):
        assert (new.state.secrets / name).read_bytes() == (old.state.secrets / name).read_bytes()
    assert (new.state.root / "inventory.json").read_bytes() == (
        old.state.root / "inventory.json"
    ).read_bytes()
    _private(saved)
    code, output = new.manage("restore", str(saved), check=False)
    assert (code, "there is data already" in output) == (1, True)
    assert old.manage("backup", str(saved), check=False)[0] == 1


def _private(folder: Path) -> None:
    """Nobody else reads anything in it."""
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_alertmanager_reads_the_silences_that_we_write(tools: None, tmp_path: Path, suite: str) -> None:
    """The oldest Alertmanager that is supported and a new one; an expired silence does not come back."""
    program = packages.fetch(suite, REPOSITORY / ".tools") / "usr" / "bin" / "prometheus-alertmanager"
    now = dt.datetime.now(dt.timezone.utc)
    wanted = {**_silence("bob"), "id": "8f0b2b4e-52a0-4cfb-a29a-0d1b5cdf3c21", "updatedAt": now.isoformat()}
    expired = {**wanted, "id": "8f0b2b4e-52a0-4cfb-a29a-0d1b5cdf3c22", "status": {"state": "expired"}}
    (tmp_path / "silences").write_bytes(silences.encode([{**wanted, "status": {"state": "active"}}, expired]))
    (tmp_path / "a.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    (port,) = free_ports(1)

    arguments = [
        f"--config.file={tmp_path / 'a.yml'}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    process = command.spawn([str(program), *arguments])
    try:
        found = wait_until(lambda: _ask(port), "Alertmanager answers")
    finally:
        process.terminate()
        process.wait(30)

    (one,) = found
    for key in ("id", "createdBy", "comment"):
        assert one[key] == wanted[key]
    assert {json.dumps(m, sort_keys=True) for m in one["matchers"]} == {
        json.dumps(m, sort_keys=True) for m in wanted["matchers"]
    }
    assert _seconds(one["endsAt"]) == pytest.approx(_seconds(wanted["endsAt"]), abs=0.01)


def _ask(port: int) -> list[dict[str, object]]:
    try:
        reply = Client(None).get(f"127.0.0.1:{port}", "/api/v2/silences")
    except Unreachable:
        return []
    return reply.json() if reply.status == 200 else []


def _seconds(text: object) -> float:
    return dt.datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()


def test_a_compaction_in_the_midst_of_a_copy_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is merged away while it is copied is replaced by the one that it went into."""
    storage, target = tmp_path / "storage", tmp_path / "copy"
    for name in ("A", "B"):
        (storage / f"{BLOCK}{name}").mkdir(parents=True)
        (storage / f"{BLOCK}{name}" / "meta.json").write_text("{}")
    (storage / "wal").mkdir()
    (storage / "wal" / "00000001").write_text("samples")
    (storage / "chunks_head").mkdir()
    real, seen = shutil.copytree, []

    def copytree(source: Path, *args: object, **options: object) -> object:
        if source.name.endswith("B") and not seen:
            seen.append(source)
            source.rename(storage / f"{BLOCK}C")
        return real(source, *args, **options)

    monkeypatch.setattr(shutil, "copytree", copytree)

    series.copy(storage, target)

    assert seen
    assert {path.name for path in target.iterdir()} == {"wal", f"{BLOCK}A", f"{BLOCK}C"}


def test_what_is_not_a_backup_is_refused(tmp_path: Path) -> None:
    """Another folder, and a backup of a later form, are each named as what they are."""
    site = Site(tmp_path)
    site.configure()
    assert "is not a backup" in site.manage("restore", str(tmp_path), check=False)[1]
    described = {"schema": "ds01-monitoring/backup/9", "created": "", "version": "9.1", "host": "h"}
    (tmp_path / "backup.json").write_text(
        json.dumps({**described, "demo": False, "site_files": {}, "parts": []})
    )

    assert "restore it with version 9.1" in site.manage("restore", str(tmp_path), check=False)[1]


def test_the_sites_own_passwords_come_back_to_their_place(tmp_path: Path) -> None:
    """A file that the configuration names is restored with mode 0600; one that is there is kept and named."""
    site = Site(tmp_path)
    password, webhook = tmp_path / "etc" / "smtp", tmp_path / "etc" / "slack"
    password.parent.mkdir()
    password.write_text("q7Lw-mail-91")
    webhook.write_text("https://hooks.example/1")
    mail = {"smarthost": "mail.example:587", "from": "a@b.example", "to": ["c@d.example"]}
    site.configure(
        runtime="native",
        hardware="none",
        notify={
            "mail": {**mail, "username": "u", "password_file": str(password)},
            "slack": {"url_file": str(webhook)},
        },
    )
    site.manage("render")
    site.manage("backup", str(tmp_path / "backup"))
    shutil.rmtree(tmp_path / "state")
    password.unlink()
    webhook.write_text("another")

    _, output = site.manage("restore", str(tmp_path / "backup"))

    assert password.read_text() == "q7Lw-mail-91"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert f"kept {webhook}" in output
    assert webhook.read_text() == "another"


def test_a_configuration_that_is_restored_is_named_and_everybodys_to_read(tmp_path: Path) -> None:
    """Also where the site's passwords lie in its folder, which an empty machine does not have yet."""
    place = tmp_path / "etc" / "monitoring.yaml"
    password = place.with_name("smtp")
    mail = {"smarthost": "mail.example:587", "from": "a@b.example", "to": ["c@d.example"], "username": "u"}
    site = Site(tmp_path)
    site.configure(
        runtime="native", hardware="none", notify={"mail": {**mail, "password_file": str(password)}}
    )
    password.parent.mkdir()
    password.write_text("q7Lw-mail-91")
    site.manage("render")
    site.manage("backup", str(tmp_path / "backup"))
    shutil.rmtree(place.parent)

    notes = restore(tmp_path / "backup", place, StateDir(tmp_path / "new"), lambda _text: None)

    assert notes == [f"wrote {place}"]
    assert place.read_text() == (tmp_path / "monitoring.yaml").read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place, password)] == [
        0o755,
        0o644,
        0o600,
    ]
