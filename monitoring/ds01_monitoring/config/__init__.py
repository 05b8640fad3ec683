"""The one configuration file, read and validated."""

from __future__ import annotations

from ds01_monitoring.config.load import config_path, load_settings
from ds01_monitoring.config.model import Settings
from ds01_monitoring.config.types import duration_seconds

__all__ = ["Settings", "config_path", "duration_seconds", "load_settings"]
