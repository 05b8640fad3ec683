"""Which user gets mail, and where: the part of Alertmanager's routes that follows from `notify.users`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_monitoring.config.notify import Users

USER_NAME = "[a-z_][a-z0-9_-]*([.][a-z0-9_-]+)*"
"""Names that become a mail address by themselves. A user label is a claim that anybody can make with `docker run
--label`: with `x@evil.example,ann` in it, the mail would go to both. RE2, anchored by Alertmanager."""

DRY_RUN = "users-dry-run"
"""The administrators, who get what the users would have got."""


@dataclass(frozen=True)
class Route:
    """One sub-route: whose mail it takes, who gets that, and whether it is a user's, which waits out quiet hours.

    Attributes:
        user: The user's name, or None for every name that is like USER_NAME.
    """

    user: str | None
    receiver: str
    mails_user: bool

    @property
    def matcher(self) -> str:
        """What Alertmanager is told, fit for a single-quoted YAML scalar.

        It knows the escapes of a quote and of a backslash, but none of JSON's for other letters.
        """
        if self.user is None:
            return f'user=~"{USER_NAME}"'
        return f"user={json.dumps(self.user, ensure_ascii=False)}".replace("'", "''")

    def takes(self, user: str) -> bool:
        """What Alertmanager makes of the matcher."""
        return user == self.user if self.user is not None else bool(re.fullmatch(USER_NAME, user))


@dataclass(frozen=True)
class Receiver:
    """One receiver of users' mail; `to` may be an Alertmanager template."""

    name: str
    to: str


@dataclass(frozen=True)
class UserMail:
    """Everything that the template needs.

    Attributes:
        enabled: Whether waste alerts are mailed to users at all.
        routes: Sub-routes in the order in which they are tried.
        receivers: The receivers that these routes name, besides `nobody` and `users-dry-run`.
        told: Matchers of the users who get their own mail, or by exception none; empty in a dry run.
    """

    enabled: bool
    routes: tuple[Route, ...] = ()
    receivers: tuple[Receiver, ...] = ()
    told: tuple[str, ...] = ()

    def route(self, user: str) -> Route | None:
        """The way of this user's mail; None where it goes to the administrators."""
        return next((route for route in self.routes if route.takes(user)), None)


def user_mail(users: Users) -> UserMail:
    """What `notify.users` says, as routes and receivers."""
    if not users.enabled:
        return UserMail(enabled=False)
    excepted = [Route(entry.user, "nobody", mails_user=False) for entry in users.exceptions]
    named = [
        (Route(user, f"user-{number}", mails_user=True), Receiver(f"user-{number}", address))
        for number, (user, address) in enumerate(sorted(users.addresses.items()), start=1)
    ]
    routes = [*excepted, *(route for route, _ in named)]
    receivers = [receiver for _, receiver in named]
    if users.domain:
        routes.append(Route(None, "users", mails_user=True))
        receivers.append(Receiver("users", "{{ .GroupLabels.user }}@" + users.domain))
    if users.dry_run:
        rehearsed = (replace(route, receiver=DRY_RUN) if route.mails_user else route for route in routes)
        return UserMail(enabled=True, routes=tuple(rehearsed))
    return UserMail(
        enabled=True,
        routes=tuple(routes),
        receivers=tuple(receivers),
        told=tuple(route.matcher for route in routes),
    )
