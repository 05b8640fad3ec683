"""The building blocks of the configuration model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Callable

DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_UNIT_SECONDS = (365 * 86400, 7 * 86400, 86400, 3600, 60, 1)
_SIZE = re.compile(r"\d+(B|KB|MB|GB|TB|PB|EB)")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_MAIL = re.compile(r"(?!.*\{\{)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DOMAIN = re.compile(r"([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)?")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Section(BaseModel):
    """A mapping of the configuration file: frozen, unknown keys refused, an empty value means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value


def duration_seconds(text: str) -> int:
    """Seconds in a Prometheus duration such as `30m` or `1h30m`.

    Raises:
        ValueError: It is none.
    """
    match = DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration; write it like 30s, 5m, 1h30m or 7d")
    return sum(int(count) * unit for count, unit in zip(match.groups(), _UNIT_SECONDS, strict=True) if count)


def _duration(text: str) -> str:
    if duration_seconds(text) == 0:
        raise ValueError("must be longer than zero")
    return text


def _holding(readings: int, every: int) -> Callable[[str], str]:
    def validate(text: str) -> str:
        if duration_seconds(text) < readings * every:
            least = f"{readings * every // 60}m at least"
            raise ValueError(f"{text} holds too few readings, which come every {every} s; {least}")
        return text

    return validate


def _matches(pattern: re.Pattern[str], wanted: str) -> AfterValidator:
    def validate(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not {wanted}")
        return text

    return AfterValidator(validate)


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError(f"{text!r} is no address; write it as host:port")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not absolute; start it with /")
    return path


Duration = Annotated[str, AfterValidator(_duration)]
"""A Prometheus duration, kept as it was written; `duration_seconds` converts."""

window = _holding(4, every=15)
"""Passes on a duration over which readings can be looked at together; refuses a shorter one with a ValueError."""

Window = Annotated[Duration, AfterValidator(window)]
"""A duration over which readings are looked at together; 1m at least."""

Trend = Annotated[Duration, AfterValidator(_holding(10, every=60))]
"""A duration over which what is recorded once a minute is looked at together; 10m at least."""

Size = Annotated[str, _matches(_SIZE, "a size; write it like 512MB or 20GB")]
"""A Prometheus size (powers of 1024), kept as it was written."""

Ratio = Annotated[float, Field(ge=0, le=1)]
"""A share, 0..1."""

Celsius = Annotated[float, Field(ge=0, le=150)]
"""A temperature in degrees Celsius."""

Port = Annotated[int, Field(ge=1, le=65535)]

Address = Annotated[str, AfterValidator(_address)]
"""`host:port`."""

MailAddress = Annotated[str, _matches(_MAIL, "a mail address with a domain, like admin@example.org")]
"""Without `{{`, which begins a template where Alertmanager sends."""

MailDomain = Annotated[
    str, _matches(_DOMAIN, "a mail domain; write what stands behind the @, like example.org")
]
"""What stands behind the `@`; empty = none."""

LabelName = Annotated[str, _matches(_LABEL, "a label name: letters, digits and underscores")]

NotBlank = Annotated[str, AfterValidator(_not_blank)]
"""A text with more in it than spaces."""

AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
