"""Takes secrets out of a text that is going to be shown to others."""

from __future__ import annotations

import base64
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from ds01_monitoring.backup.contents import secret_files
from ds01_monitoring.secrets import USER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir

MASK = "***"
SHORT = 6
"""A secret of fewer characters is masked only where it stands as a word."""

PATTERNS = (
    # What looks like a secret, whoever's it is: a log line may hold one that no file of ours does.
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{MASK}@"),
    (re.compile(r"\b(Basic|Bearer)\s+[\w+/=.~-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\$2[abxy]\$\d\d\$[./\w]{20,}"), MASK),
    (re.compile(r"(https?://[^\s/]*(?:hooks|webhook)[^\s/]*/)[^\s\"']+"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)((?:\w*(?:password|passwd|secret|token)|api[_-]?key)[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;\"']+)"
        ),
        rf"\1{MASK}",
    ),
)


def known(
    settings: Settings | None, states: Iterable[StateDir], env: Mapping[str, str] = os.environ
) -> set[str]:
    """Every secret that this user can read: the stack's, the site's, the environment's."""
    found = {env.get("GRAFANA_ADMIN_PASSWORD", "")}
    for path in _files(settings, states):
        with suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            found |= {text.strip(), *(line.strip() for line in text.splitlines())}
    found |= {base64.b64encode(f"{USER}:{secret}".encode()).decode() for secret in found if secret}
    found |= {quote(secret, safe="") for secret in found}
    return {secret for secret in found if secret}


def _files(settings: Settings | None, states: Iterable[StateDir]) -> Iterator[Path]:
    for state in states:
        if state.secrets.is_dir() and os.access(state.secrets, os.R_OK | os.X_OK):
            yield from (path for path in state.secrets.rglob("*") if path.is_file() and path.name != "netrc")
    yield from secret_files(settings) if settings else ()


def mask(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret, and all that looks like one, replaced by asterisks."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORT:
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text
