"""What Grafana finds when it starts: the dashboards, their folder, the data source, the home page."""

import os
import re
from pathlib import Path

import pytest
import yaml

from ds01_monitoring.config import Settings
from ds01_monitoring.paths import StateDir
from ds01_monitoring.render import render


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The rendered tree of a native stack on a machine with Grafana, made under a strict umask."""
    program = tmp_path / "bin" / "grafana"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    old = os.umask(0o077)
    try:
        yield render(Settings(), StateDir(tmp_path / "state"), runtime="native", hardware="dcgm")
    finally:
        os.umask(old)


def test_the_provider_leads_to_the_dashboards(tree, dashboards):
    """The provider's folder in the version in force holds every dashboard, and nothing can be saved over them."""
    tree.activate()
    (provider,) = yaml.safe_load((tree.path / "grafana/provisioning/dashboards/ds01.yml").read_text())[
        "providers"
    ]
    folder = Path(provider["options"]["path"])

    assert {path.stem for path in folder.glob("*.json")} == set(dashboards)
    assert provider["folder"] == "DS01"
    assert provider["allowUiUpdates"] is False


def test_the_datasource_is_the_one_that_panels_name(tree, dashboards):
    """Every uid that a panel asks for is provisioned."""
    sources = yaml.safe_load((tree.path / "grafana/provisioning/datasources/prometheus.yml").read_text())
    provisioned = {source["uid"] for source in sources["datasources"]}

    asked = {
        panel["datasource"]["uid"]
        for each in dashboards.values()
        for panel in each["panels"]
        if "targets" in panel
    }
    assert asked <= provisioned


def test_whatever_the_umask_grafana_can_read_it(tree):
    """Files and folders are readable for everybody."""
    for path in [tree.path / "grafana", *(tree.path / "grafana").rglob("*")]:
        wanted = 0o755 if path.is_dir() else 0o644
        assert path.stat().st_mode & 0o777 == wanted, path


def test_the_home_page_is_the_overview(tree):
    """Grafana's home dashboard is a file that exists once the tree is in force."""
    tree.activate()
    found = re.search(
        r'GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="([^"]+)"', (tree.path / "supervisord.conf").read_text()
    )

    assert found
    path = Path(found[1].replace("%(ENV_DS01_STATE)s", str(tree.context.state.root)))
    assert path.name == "ds01-overview.json"
    assert path.exists()


@pytest.mark.parametrize(("anonymous", "enabled"), [("none", "false"), ("viewer", "true")])
def test_anonymous_viewing_is_off_by_default(tmp_path, monkeypatch, anonymous, enabled):
    """Nobody looks without logging in, unless the configuration says so; and then as a viewer."""
    program = tmp_path / "grafana"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = Settings.model_validate({"grafana": {"anonymous": anonymous}})
    text = (
        render(settings, StateDir(tmp_path / "state"), runtime="native", hardware="dcgm").path
        / "supervisord.conf"
    ).read_text()

    assert f'GF_AUTH_ANONYMOUS_ENABLED="{enabled}"' in text
    assert 'GF_AUTH_ANONYMOUS_ORG_ROLE="Viewer"' in text
