"""Who is told, and how: mail, chat, webhook, heartbeat, the users themselves."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from ds01_monitoring.config.types import (
    AbsolutePath,
    Address,
    Duration,
    MailAddress,
    MailDomain,
    NotBlank,
    Section,
    Window,
    duration_seconds,
)

LONGEST_PAUSE = 7 * 86400
"""Seconds between two notifications at most: half of Alertmanager's `--data.retention`, which is 14 days."""

LATEST_DIGEST = "23:00"
"""It is sent before midnight, at one of Alertmanager's looks, five minutes apart."""

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def _clock(text: str) -> str:
    try:
        dt.time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time of day; write it like '18:00'") from None
    return text


ClockTime = Annotated[str, Field(pattern=r"^\d\d:\d\d$"), AfterValidator(_clock)]


class Mail(Section):
    """The administrators' mail, and the server that also carries the users' mail."""

    smarthost: Address
    sender: MailAddress = Field(alias="from")
    to: list[MailAddress] = Field(min_length=1)
    username: str = ""
    password_file: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None
    require_tls: bool = True

    @model_validator(mode="after")
    def _name_has_password(self) -> Mail:
        if self.username and not self.password_file:
            raise ValueError("username is given and password_file is not")
        return self


class Chat(Section):
    """An incoming webhook of Slack or Microsoft Teams; the address is the secret."""

    url_file: AbsolutePath
    channel: str = ""


class Teams(Section):
    """A Microsoft Teams workflow; its address is the secret."""

    url_file: AbsolutePath


class Webhook(Section):
    """Any program that takes Alertmanager's JSON; its address may hold a secret, so it lies in a file."""

    url_file: AbsolutePath


class Heartbeat(Section):
    """An outside service that raises the alarm when this address is no longer called."""

    url_file: AbsolutePath
    interval: Duration = "5m"


class Digest(Section):
    """The weekly mail about what has `notify: digest`: sent on this day, from this time on."""

    day: Day = "monday"
    begin: ClockTime = "08:00"
    time_zone: str = "UTC"

    @field_validator("begin")
    @classmethod
    def _leaves_time(cls, begin: str) -> str:
        if begin > LATEST_DIGEST:
            raise ValueError(
                f"{begin} leaves too little of the day to send it; {LATEST_DIGEST} at the latest"
            )
        return begin


class UserException(Section):
    """Somebody who gets no waste mail, and why."""

    user: NotBlank
    reason: NotBlank


class Users(Section):
    """Mail to the person who holds an idle GPU."""

    enabled: bool = False
    dry_run: bool = False
    domain: MailDomain = ""
    after: Window = "2h"
    at_most_every: Duration = "24h"
    addresses: dict[str, MailAddress] = Field(default_factory=dict)
    exceptions: list[UserException] = Field(default_factory=list)

    @field_validator("at_most_every")
    @classmethod
    def _remembered(cls, every: str) -> str:
        if duration_seconds(every) > LONGEST_PAUSE:
            raise ValueError(f"{every} is longer than Alertmanager remembers what it sent; 7d at most")
        return every

    @field_validator("exceptions")
    @classmethod
    def _nobody_twice(cls, exceptions: list[UserException]) -> list[UserException]:
        users = [entry.user for entry in exceptions]
        for user in users:
            if users.count(user) > 1:
                raise ValueError(f"{user} is there twice")
        return exceptions


class Holiday(Section):
    """Days without mail to users, both ends included."""

    first: dt.date
    last: dt.date
    name: str = ""

    @model_validator(mode="after")
    def _first_comes_first(self) -> Holiday:
        if self.last < self.first:
            raise ValueError(f"{self.first} is after {self.last}")
        return self


class QuietHours(Section):
    """When users get no mail."""

    time_zone: str = "UTC"
    begin: ClockTime | None = None
    end: ClockTime | None = None
    days: list[Day] = Field(default_factory=list)
    holidays: list[Holiday] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_both_ends(self) -> QuietHours:
        if (self.begin is None) != (self.end is None):
            raise ValueError("begin and end belong together; one of them is missing")
        if self.begin is not None and self.begin == self.end:
            raise ValueError(f"begin and end are both {self.end}; for whole days there is `days`")
        return self


class Notify(Section):
    """Every receiver; none set means that alerts are visible and nothing is sent."""

    mail: Mail | None = None
    slack: Chat | None = None
    teams: Teams | None = None
    webhook: Webhook | None = None
    heartbeat: Heartbeat | None = None
    digest: Digest = Digest()
    users: Users = Users()
    quiet_hours: QuietHours = QuietHours()

    @model_validator(mode="after")
    def _users_can_be_reached(self) -> Notify:
        if self.users.enabled and self.mail is None:
            raise ValueError("users.enabled needs notify.mail, whose server carries the users' mail too")
        if self.users.enabled and not self.users.domain and not self.users.addresses:
            raise ValueError("users.enabled needs users.domain or users.addresses to know whom to write to")
        return self
