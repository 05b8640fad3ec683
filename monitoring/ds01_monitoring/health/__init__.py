"""Whether a running stack is well: many small checks, each with its next step."""

from __future__ import annotations

from ds01_monitoring.health.checks import Check, Health, examine

__all__ = ["Check", "Health", "examine"]
