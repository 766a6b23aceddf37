"""How much an IMAP client may send, before and after its login."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may send.

    @ivar line: octets of a line.
    @ivar literal: octets of a literal that is no message.
    @ivar literals: how many literals a command may have.
    @ivar command: octets of a whole command, a message aside.
    @ivar forgotten: octets of a refused non-synchronising literal that are
        read and dropped; if there are more the connection is closed. (RFC 7888
        5 would have LITERAL- clients send at most 4096 this way; we offer
        LITERAL+, and clients that trust it send whole messages.)
    @ivar bad: commands in a row that cannot be understood, before BYE.
    """

    line: int
    literal: int
    literals: int
    command: int
    forgotten: int
    bad: int


#: Before the login. Dovecot: lines and literals of 8 KiB, 3 bad commands.
STRANGER = Bounds(
    line=8192, literal=8192, literals=4, command=20_480, forgotten=65_536, bad=3
)
#: After it. Dovecot: lines of 64 KiB, 20 bad commands; mox: literals of 100 kB,
#: 1000 of them, 10 times that for the whole command. Forgotten: a message twice
#: as large as most servers take (Gmail: 25 MB).
FRIEND = Bounds(
    line=65_536,
    literal=102_400,
    literals=1000,
    command=1_024_000,
    forgotten=52_428_800,
    bad=20,
)


@dataclass(frozen=True, slots=True)
class ImapLimits:
    """The bounds before and after the login."""

    before: Bounds = STRANGER
    after: Bounds = FRIEND
