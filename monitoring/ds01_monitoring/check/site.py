"""What would fail later: secrets, receivers that the installed Alertmanager lacks, dates that have passed."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import TYPE_CHECKING

from ds01_monitoring.check.findings import Finding, error, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.config.notify import Notify
    from ds01_monitoring.tree import RenderedTree

PLACEHOLDER = re.compile(
    r"(?i)<.*>|.*((change|replace)[-_ ]?(me|this|it)|placeholder|your[-_ ]?\w*[-_ ]?(password|secret|token|key|here)"
    r"|password[-_ ]?here|example\.(com|org|net)|\.{3}|x{4,}).*|password|secret|admin|ds01admin|todo|fix[-_ ]?me|dummy|\*+"
)
WEB_ADDRESS = re.compile(r"https?://([^\s/?#@]+@)?(\[[\da-fA-F:.]+\]|[^\s/?#@:]+)(:\d+)?([/?#]\S*)?")
NEEDS_ALERTMANAGER = {
    "notify.teams": ("msteamsv2_configs", (0, 28)),
    "notify.webhook": ("webhook_configs.url_file", (0, 26)),
    "notify.heartbeat": ("webhook_configs.url_file", (0, 26)),
}


def check(tree: RenderedTree, alertmanager: tuple[int, ...], today: dt.date | None = None) -> list[Finding]:
    """Findings about the site's own settings.

    Args:
        tree: What was rendered from them.
        alertmanager: The version that will run; empty when unknown.
        today: The date to judge by; today's by default.
    """
    settings = tree.context.settings
    day = today or dt.datetime.now(tz=dt.timezone.utc).date()
    return [
        *(finding for key, path in secret_files(settings) for finding in _secret(key, path)),
        *_login(settings.notify),
        *_authority(settings.notify),
        *refused(settings.notify, alertmanager),
        *_holidays(settings.notify, day),
    ]


def refused(notify: Notify, alertmanager: tuple[int, ...]) -> list[Finding]:
    """What Alertmanager does not start with: receivers that this version lacks (empty: unknown), time zones that are none."""
    return [
        *_lacking(notify, alertmanager),
        *_zone("notify.quiet_hours", notify.quiet_hours.time_zone),
        *_zone("notify.digest", notify.digest.time_zone),
    ]


def _lacking(notify: Notify, alertmanager: tuple[int, ...]) -> Iterator[Finding]:
    found = ".".join(map(str, alertmanager))
    for key, (feature, needed) in NEEDS_ALERTMANAGER.items():
        if getattr(notify, key.partition(".")[2]) is not None and alertmanager and alertmanager < needed:
            wanted = ".".join(map(str, needed))
            problem = f"Alertmanager {found} has no {feature}; {wanted} or later is needed"
            hint = f"install Alertmanager {wanted} or later, or use notify.mail or notify.slack"
            yield error(problem, place=key, hint=hint)


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Key and path of every file with a secret that the site named."""
    notify = settings.notify
    named = {
        "notify.mail.password_file": notify.mail and notify.mail.password_file,
        "notify.slack.url_file": notify.slack and notify.slack.url_file,
        "notify.teams.url_file": notify.teams and notify.teams.url_file,
        "notify.webhook.url_file": notify.webhook and notify.webhook.url_file,
        "notify.heartbeat.url_file": notify.heartbeat and notify.heartbeat.url_file,
        "grafana.admin_password_file": settings.grafana.admin_password_file,
    }
    for index, server in enumerate(settings.prometheus.remote_write):
        named[f"prometheus.remote_write.{index}.password_file"] = server.password_file
    for key, path in named.items():
        if path:
            yield key, path


def _secret(key: str, path: Path) -> Iterator[Finding]:
    try:
        content = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as failure:
        yield _unread(key, path, failure, f"write the secret there: install -m 0600 /dev/stdin {path}")
        return
    if not content:
        yield error(f"{path} is empty", place=key, hint="write the secret into it")
    elif PLACEHOLDER.fullmatch(content):
        yield error(f"{path} holds a placeholder", place=key, hint="write the real secret into it")
    elif key.endswith("url_file") and not WEB_ADDRESS.fullmatch(content):
        yield error(
            f"{path} holds no http address", place=key, hint="write the receiver's whole address into it"
        )
    if mode & 0o077:
        yield warning(
            f"{path} can be read by others (mode {mode & 0o777:04o})", place=key, hint=f"chmod 0600 {path}"
        )


def _unread(key: str, path: Path, failure: OSError | UnicodeDecodeError, hint: str) -> Finding:
    reason = failure.strerror if isinstance(failure, OSError) else "is not text"
    if isinstance(failure, IsADirectoryError):
        hint = "it is a folder; name the file in it"
    return error(f"{path}: {reason}", place=key, hint=hint)


def _login(notify: Notify) -> Iterator[Finding]:
    if notify.mail and notify.mail.password_file and not notify.mail.username:
        yield warning(
            "is empty, so that nobody logs in with the password of password_file",
            place="notify.mail.username",
            hint="set it, or take password_file out for a relay that asks for none",
        )


def _authority(notify: Notify) -> Iterator[Finding]:
    """Whether the mail server's certificate authority is there; Alertmanager looks only when it sends."""
    if notify.mail is None or notify.mail.ca_file is None:
        return
    path = notify.mail.ca_file
    key, hint = "notify.mail.ca_file", "write the authority's certificate there, as PEM"
    try:
        if "-----BEGIN CERTIFICATE-----" not in path.read_text(encoding="ascii"):
            yield error(f"{path}: holds no certificate", place=key, hint=hint)
    except (OSError, UnicodeDecodeError) as failure:
        yield _unread(key, path, failure, hint)


def _holidays(notify: Notify, today: dt.date) -> Iterator[Finding]:
    holidays = notify.quiet_hours.holidays
    if holidays and max(holiday.last for holiday in holidays) < today:
        yield warning(
            "all have passed", place="notify.quiet_hours.holidays", hint="add those of the coming year"
        )


def _zone(section: str, name: str) -> Iterator[Finding]:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield error(
            f"there is no time zone {name!r}",
            place=f"{section}.time_zone",
            hint="use a name like Europe/Berlin, or UTC",
        )
