"""The areas that a check looks at; one more is one line here."""

from __future__ import annotations

from ds01_monitoring.health import local, prometheus, servers

AREAS = {
    "services": local.services,
    "servers": servers.ready,
    "targets": prometheus.targets,
    "rules": prometheus.rules,
    "configuration": servers.configuration,
    "alerting": prometheus.alerting,
    "notifications": prometheus.notifications,
    "collectors": servers.collectors,
    "disk": local.disk,
}
"""Name and function of each; the function yields checks and may raise `http.Unreachable`."""
