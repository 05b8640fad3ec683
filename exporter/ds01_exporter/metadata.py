"""What the allocator keeps per container: container-metadata/<name>.json in its directory."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_exporter.files import Signature, read_bounded, signature
from ds01_exporter.health import CollectorError
from ds01_exporter.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_CHECK_SECONDS = 60.0
"""How often each file is looked at; files that come and go are seen at once."""

LIMIT_BYTES = 64 << 10

log = logging.getLogger("ds01_exporter")


@dataclass(frozen=True)
class Metadata:
    """One container's file; empty strings and None are what it does not say."""

    user: str = ""
    interface: str = ""
    since: float | None = None


class MetadataFolder:
    """Reads the folder `path`; `by_container` is empty where there is none, `version` changes with it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.by_container: dict[str, Metadata] = {}
        self.version = 0
        self._clock = clock
        self._checked_at: float | None = None
        self._folder: Signature | None = None
        self._files: dict[str, tuple[Signature | None, Metadata | None]] = {}

    def refresh(self) -> None:
        """Bring `by_container` up to date; a file that cannot be read is logged once and left out."""
        try:
            folder = signature(os.stat(self.path))  # noqa: PTH116 - called at every scrape
        except OSError:
            self._publish({})
            self._folder = None
            return
        checked_lately = (
            self._checked_at is not None and self._clock() - self._checked_at < FULL_CHECK_SECONDS
        )
        if folder is not None and folder == self._folder and checked_lately:
            return
        self._folder, self._checked_at = folder, self._clock()
        try:
            with os.scandir(self.path) as entries:
                found = {entry.name: self._file(entry) for entry in entries if entry.name.endswith(".json")}
        except OSError as error:
            log.warning("%s: %s", self.path, error.strerror)
            found = {}
        self._publish(found)

    def _publish(self, found: dict[str, tuple[Signature | None, Metadata | None]]) -> None:
        self._files = found
        known = {name.removesuffix(".json"): one for name, (_, one) in found.items() if one is not None}
        if known != self.by_container:
            self.by_container = known
            self.version += 1

    def _file(self, entry: os.DirEntry[str]) -> tuple[Signature | None, Metadata | None]:
        kept = self._files.get(entry.name)
        try:
            if kept is not None and kept[0] is not None and signature(entry.stat()) == kept[0]:
                return kept
            content, status = read_bounded(Path(entry.path), LIMIT_BYTES)
            return signature(status), _parse(content, entry.path)
        except (CollectorError, OSError) as error:
            if kept is None or kept[1] is not None:
                log.warning("container metadata: %s", error.args[0])
            return None, None


def _parse(content: bytes, path: str) -> Metadata:
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CollectorError(f"{path}: not valid JSON") from error
    if not isinstance(document, dict):
        raise CollectorError(f"{path}: not a JSON object")
    texts = {key: value for key in ("user", "interface") if isinstance(value := document.get(key), str)}
    return Metadata(**texts, since=parse_timestamp(document.get("allocated_at")))
