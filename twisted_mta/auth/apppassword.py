"""Passwords for programs: made here, so that they are long, and each can be taken
back."""

import secrets
from dataclasses import dataclass
from hashlib import sha256

#: What such a password may be used for.
PROTOCOLS = ("smtp", "imap", "pop3")

# Letters and digits that nobody takes for another; five bits each.
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 6, 4  # 120 bits


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One of them, without itself.

    @ivar name: what the person calls it.
    @ivar protocols: of L{PROTOCOLS}, with spaces between.
    @ivar created_at: seconds since the epoch.
    @ivar used_at: when it was used last, to the hour; 0: never.
    """

    name: str
    protocols: str
    created_at: float
    used_at: float


def new_app_password() -> str:
    """A new one, in groups that can be typed."""
    groups = [
        "".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS)
    ]
    return "-".join(groups)


def app_hash(password: str) -> str:
    """What is stored of one, however its groups were typed; empty for what can be
    none."""
    letters = password.replace("-", "").replace(" ", "").lower()
    if len(letters) != _GROUPS * _GROUP or not set(letters) <= set(_LETTERS):
        return ""
    return sha256(letters.encode()).hexdigest()
