"""The allocator's state file, read again when it changes, and bridged while it is being rewritten in place."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from ds01_exporter.files import Signature, read_bounded, signature
from ds01_exporter.health import CollectorError, Health
from ds01_exporter.state_format import State, StateFormatError, parse_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT_BYTES = 16 << 20
"""A longer file is refused: 10 000 allocations take 2 MiB."""

GRACE_SECONDS = 60.0
"""How long the last whole reading stands in for a file that is half written."""

_RETRY_SECONDS = 0.02


class _HalfWrittenError(CollectorError):
    """The content is no JSON: perhaps somebody is writing it just now."""


class StateFile:
    """Reads `path`. `state` is None while the file cannot be used; `version` changes with the content."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.health = Health("state")
        self.state: State | None = None
        self.modified: float | None = None
        self.version = 0
        self._clock = clock
        self._whole_at = -GRACE_SECONDS
        self._signature: Signature | None = None
        self._content = 0

    def refresh(self) -> None:
        """Bring `state` up to date; cheap where the file has not changed."""
        with self.health.watch():
            try:
                self._refresh()
            except CollectorError:
                self._set(None, 0)
                raise

    def _refresh(self) -> None:
        self.modified = None
        try:
            status = os.stat(self.path)  # noqa: PTH116 - called at every scrape, and Path.stat takes twice as long
        except OSError as error:
            raise CollectorError(f"{self.path}: {error.strerror}") from error
        self.modified = status.st_mtime
        if self._signature is None or signature(status) != self._signature:
            try:
                self._read()
            except _HalfWrittenError:
                if self.state is None or self._clock() - self._whole_at > GRACE_SECONDS:
                    raise
                return
        self._whole_at = self._clock()

    def _read(self) -> None:
        self._signature = None
        content, status = read_bounded(self.path, LIMIT_BYTES)
        if self.state is None or hash(content) != self._content:
            try:
                state = self._parse(content)
            except _HalfWrittenError:
                time.sleep(_RETRY_SECONDS)  # most writers are done by now
                content, status = read_bounded(self.path, LIMIT_BYTES)
                state = self._parse(content)
            self._set(state, hash(content))
        self._signature = signature(status)

    def _parse(self, content: bytes) -> State:
        try:
            return parse_state(json.loads(content.decode("utf-8-sig")))
        except StateFormatError as error:
            raise CollectorError(f"{self.path}: {error}") from error
        except (ValueError, RecursionError) as error:  # ValueError covers bad JSON and bad UTF-8
            raise _HalfWrittenError(f"{self.path}: not valid JSON", str(error)) from error

    def _set(self, state: State | None, content: int) -> None:
        if state is not self.state:
            self.version += 1
        self.state, self._content = state, content
        if state is None:
            self._signature = None
