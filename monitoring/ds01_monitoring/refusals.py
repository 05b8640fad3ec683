"""Why notifications were not taken, read from Alertmanager's log: the server's words stand nowhere else."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ERROR = re.compile(r' err="((?:[^"\\]|\\.)*)"')
_FOR_GOOD = re.compile(
    r"(?P<receiver>[^/;\s]+)/(?P<integration>\w+)\[\d+\]: notify retry canceled.*? after \d+ attempts: "
)
_FIELD = re.compile(r"\b(ts|receiver|integration)=(\S+)")


@dataclass(frozen=True)
class Refusal:
    """Why a notification was not taken: the server's words, and whether the line says that it is about this alert."""

    words: str
    certain: bool


def refusals(log: str, mark: str, receiver: str, since: dt.datetime) -> dict[str, Refusal]:
    """The newest refusal by integration, from log lines about the alert with this mark.

    Alertmanager writes `… receiver=admins integration=email[0] aggrGroup=… err="…"` of what it tries again, where
    the group holds the mark, and `aggrGroup=… err="admins/email[0]: notify retry canceled …"` of what it does not.
    0.25 names no group, so that the receiver and the time have to do. The server's words stand in `err` alone.
    """
    found: dict[str, Refusal] = {}
    since = since.replace(microsecond=0)
    for line in log.splitlines():
        error = _ERROR.search(line)
        certain = mark in line
        if not error or not (certain or ("aggrGroup=" not in line and _after(line, since))):
            continue
        said = json.loads(f'"{error[1]}"', strict=False)
        for name, integration, words in _causes(dict(_FIELD.findall(line)), said):
            if name == receiver:
                found[integration] = Refusal(words, certain)
    return found


def _causes(fields: Mapping[str, str], said: str) -> Iterator[tuple[str, str, str]]:
    """Receiver, integration and the server's words; of several integrations that failed for good, each."""
    if "integration" in fields:
        yield fields.get("receiver", ""), fields["integration"].partition("[")[0], said
        return
    heads = list(_FOR_GOOD.finditer(said))
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        end = following.start() if following else len(said)
        yield head["receiver"], head["integration"], said[head.end() : end].rstrip("; \n")


def _after(line: str, since: dt.datetime) -> bool:
    stamp = dict(_FIELD.findall(line)).get("ts", "")
    try:
        return dt.datetime.fromisoformat(stamp.replace("Z", "+00:00")) >= since
    except ValueError:
        return False
