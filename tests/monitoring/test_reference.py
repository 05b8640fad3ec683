"""The configuration file that ships and its page in the documentation."""

from __future__ import annotations

from ds01_monitoring import paths
from ds01_monitoring.config import yamlfile
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.config.model import Settings
from ds01_monitoring.config.reference import documented_text, leaves, reference, uncommented

PAGE = paths.data_root() / "docs" / "configuration.md"


def test_the_file_that_ships_changes_nothing():
    """With every setting commented out it is the default configuration."""
    assert parse_settings(documented_text()).variables() == Settings().variables()


def test_every_key_stands_in_the_file_with_its_default():
    """Whoever takes the comment signs off gets the defaults, spelled out."""
    text = uncommented(documented_text())
    document = yamlfile.read(text, "monitoring.yaml")
    settings = parse_settings(text)

    for leaf in leaves():
        assert leaf.path in document.lines, f"config/monitoring.yaml lacks {'.'.join(leaf.path)}"
        value = settings
        for part in leaf.path:
            value = getattr(value, {"from": "sender"}.get(part, part))
        optional = leaf.path[0] == "notify" and leaf.path[1] in {
            "mail",
            "slack",
            "teams",
            "webhook",
            "heartbeat",
        }
        if not optional and leaf.path != ("site", "host"):
            assert value == leaf.default, ".".join(leaf.path)


def test_every_key_has_a_meaning():
    """No row of the reference is empty."""
    rows = [line for line in reference().splitlines() if line.startswith("| `")]

    assert len(rows) > 60
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_page_is_up_to_date(update_golden):
    """docs/configuration.md is what the model and the file say; `make golden` renews it."""
    if update_golden:
        PAGE.write_text(reference(), encoding="utf-8")

    assert PAGE.read_text(encoding="utf-8") == reference()
