"""What a session's connection is to a login."""

from __future__ import annotations

from functools import partial

from twisted_mta.interfaces import IAuthenticator
from twisted_mta.mail.channel import Channel
from twisted_mta.net.stream import Stream
from twisted_mta.net.tls import certified, channel_binding

# The mechanisms that say a password.
_PASSWORDS = frozenset({"PLAIN", "LOGIN"})


def channel(stream: Stream, protocol: str, private: bool) -> Channel:
    """The channel of a connection as it is now.

    @param private: a password may be said in the clear.
    """
    host = stream.peer()[0]
    handle = stream.handle() if stream.secure else None
    if handle is None:  # in the clear, or gone while a command was still to be answered
        return Channel(host, protocol, private)
    binding = partial(channel_binding, handle)
    return Channel(host, protocol, True, binding, certified(handle))


def takes_passwords(authenticator: IAuthenticator, channel: Channel) -> bool:
    """Whether the protocols' own commands may log in: they are the mechanisms with a
    password by other names."""
    return not _PASSWORDS.isdisjoint(authenticator.mechanisms(channel))
