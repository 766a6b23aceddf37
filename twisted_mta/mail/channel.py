"""The connection over which somebody logs in, as far as a login depends on it."""

from collections.abc import Callable
from dataclasses import dataclass


def unbound(name: str) -> bytes | None:
    """There is no channel binding."""
    return None


@dataclass(frozen=True, slots=True)
class CertifiedNames:
    """What a certificate says whose it is.

    @ivar addresses: mail addresses (RFC 5280 4.2.1.6: rfc822Name).
    @ivar common_names: of its subject.
    """

    addresses: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()


#: Of a client that showed none.
NOT_CERTIFIED = CertifiedNames()


@dataclass(frozen=True, slots=True)
class Channel:
    """A connection.

    @ivar host: the client's address, for counting failures.
    @ivar protocol: C{"smtp"}, C{"imap"} or C{"pop3"}.
    @ivar private: nobody else reads along, so that a password may be said.
    @ivar binding: gives the octets of a channel binding by its name (RFC 5929, RFC
        9266), C{None} if there are none.
    @ivar certified: by the client's certificate, if it showed one of an authority that
        is believed.
    """

    host: str
    protocol: str = ""
    private: bool = True
    binding: Callable[[str], bytes | None] = unbound
    certified: CertifiedNames = NOT_CERTIFIED
