"""A backup of the stack on a real Engine, brought back on a machine that has nothing."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import api
from ds01_monitoring.runtime import owner

from .engine_site import EngineSite, a_silence, ids, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine


@pytest.fixture
def old(site: EngineSite) -> Iterator[EngineSite]:
    """The stack, with a password of the site's own and a dashboard in Grafana's database; it runs again afterwards."""
    secret = site.root / "relay"
    secret.write_text("first word")
    secret.chmod(0o600)
    mail = {"smarthost": "mail.invalid:587", "from": "a@b.org", "to": ["c@d.org"], "username": "u"}
    site.configure(notify={"mail": {**mail, "password_file": str(secret)}})
    site.start()
    with closing(sqlite3.connect(site.state.data / "grafana" / "grafana.db")) as database:
        database.execute("create table if not exists dashboard (title text)")
        database.execute("insert into dashboard values ('Ours')")
        database.commit()
    yield site
    secret.write_text("first word")
    site.configure(notify=None)
    site.start()


def test_an_empty_machine_gets_everything_back(old: EngineSite, tmp_path: Path) -> None:
    """Series, silences, dashboards, configuration and secrets, each readable for its server and for nobody else."""
    wait_until(lambda: old.query('up{job="prometheus"}'), "a sample")
    silences = api.alertmanager(old.deployment())
    identifier, seen, before = silences.add_silence(a_silence()), time.time(), ids()

    old.manage("backup", str(tmp_path / "backup"))

    assert ids() == before
    old.manage("stop")
    (old.root / "relay").unlink()
    new = EngineSite(tmp_path / "new", old.images, old.docker_config, old.settings)
    new.root.mkdir()
    new.manage("restore", str(tmp_path / "backup"))
    new.start()
    try:
        reply = new.get("prometheus", "/api/v1/query", query='up{job="prometheus"}', time=str(seen))
        again = api.alertmanager(new.deployment()).silences()
        failed = [key for key, state in new.checks().items() if state == "failed"]
    finally:
        new.manage("stop")

    assert reply.json()["data"]["result"][0]["value"][1] == "1"
    assert {one["id"]: one["comment"] for one in again}[identifier] == "holidays"
    assert failed == []
    with closing(sqlite3.connect(new.state.data / "grafana" / "grafana.db")) as database:
        assert ("Ours",) in database.execute("select title from dashboard").fetchall()
    assert (new.root / "monitoring.yaml").read_text() == (old.root / "monitoring.yaml").read_text()
    assert (old.root / "relay").read_text() == "first word"
    for name in ("http_password", "grafana_admin_password", "web-config.yml", "netrc"):
        restored = new.state.secrets / name
        assert restored.read_bytes() == (old.state.secrets / name).read_bytes()
        assert stat.S_IMODE(restored.stat().st_mode) == 0o600
        assert restored.stat().st_uid == owner.ids(new.state)[0] != 0
