"""Dashboards written as short YAML specs become Grafana's JSON."""

from __future__ import annotations

from ds01_monitoring.dashboards.expand import expand

__all__ = ["expand"]
