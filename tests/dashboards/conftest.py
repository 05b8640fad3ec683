"""The dashboards that ship, expanded once."""

import json
from pathlib import Path

import pytest

from ds01_monitoring import paths
from ds01_monitoring.config import Settings
from ds01_monitoring.dashboards import expand
from ds01_monitoring.templates import Templates

HERE = Path(__file__).parent
SPECS = sorted((paths.data_root() / "grafana/dashboards").glob("*.yml.j2"))


def dashboard(path, settings=None):
    """One dashboard that ships, with the default settings unless others are given."""
    settings = settings or Settings()
    text = Templates().render(f"grafana/dashboards/{path.name}", settings.variables())
    return expand(text, path.name, settings)


@pytest.fixture(scope="session")
def dashboards():
    """All dashboards that ship, by uid."""
    made = [dashboard(path) for path in SPECS]
    return {each["uid"]: each for each in made}


@pytest.fixture(params=[*(path.name for path in SPECS), "kinds.json"])
def any_dashboard(request):
    """Each dashboard that ships, and the one with every kind of panel."""
    if request.param == "kinds.json":
        return json.loads((HERE / "kinds.json").read_text())
    return dashboard(Path(request.param))
