"""Which of the four interfaces a container was started through."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERFACES = ("orchestration", "atomic", "docker", "other")

_OTHER_NAMES = ("vscode-", "devcontainer", "compose", "jupyter")
_BY_CONTAINER_TYPE = {"docker": "docker", "devcontainer": "other", "compose": "other", "jupyter": "other"}


def detect_interface(name: str, labels: Mapping[str, str], claimed: str = "") -> str:
    """Return the interface of the container `name`.

    The label `ds01.interface` decides; then `ds01.container_type`; then `claimed`, what the state file or the
    container's metadata say; then `ds01.managed` or `._.` in the name (atomic); then the patterns of names that
    tools give (other); else docker. An interface that is none of the four counts as other.
    """
    if explicit := labels.get("ds01.interface"):
        return _known(explicit)
    if by_type := _BY_CONTAINER_TYPE.get(labels.get("ds01.container_type", "").lower()):
        return by_type
    if claimed:
        return _known(claimed)
    if labels.get("ds01.managed", "").lower() == "true" or "._." in name:
        return "atomic"
    if any(part in name.lower() for part in _OTHER_NAMES):
        return "other"
    return "docker"


def _known(interface: str) -> str:
    lowered = interface.lower()
    return lowered if lowered in INTERFACES else "other"
