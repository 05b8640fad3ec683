"""Which user gets mail, and where: the part of Alertmanager's routes that follows from `notify.users`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_monitoring.config import Settings

USER_NAME = "[a-z_][a-z0-9_-]*([.][a-z0-9_-]+)*"
"""Names that become a mail address by themselves. A user label is a claim that anybody can make with `docker run
--label`: with `x@evil.example,ann` in it, the mail would go to both. RE2, anchored by Alertmanager."""

DRY_RUN = "users-dry-run"
"""The administrators, who get what the users would have got."""


@dataclass(frozen=True)
class Route:
    """One sub-route: what it matches, who gets it, and whether that is a user's mail, which waits out quiet hours."""

    matcher: str
    receiver: str
    mails_user: bool


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


def user_mail(settings: Settings) -> UserMail:
    """What `notify.users` says, as routes and receivers."""
    users = settings.notify.users
    if not users.enabled:
        return UserMail(enabled=False)
    excepted = [Route(_is(entry.user), "nobody", mails_user=False) for entry in users.exceptions]
    named = [
        (Route(_is(user), f"user-{number}", mails_user=True), Receiver(f"user-{number}", address))
        for number, (user, address) in enumerate(sorted(users.addresses.items()), start=1)
    ]
    routes = [*excepted, *(route for route, _ in named)]
    receivers = [receiver for _, receiver in named]
    if users.domain:
        routes.append(Route(f'user=~"{USER_NAME}"', "users", mails_user=True))
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


def _is(user: str) -> str:
    """A matcher for exactly this name, fit for a single-quoted YAML scalar.

    Alertmanager knows the escapes of a quote and of a backslash, but none of JSON's for other letters.
    """
    return f"user={json.dumps(user, ensure_ascii=False)}".replace("'", "''")
