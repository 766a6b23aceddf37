"""Where a recipient's mail goes, and what became of it."""

from dataclasses import dataclass
from enum import Enum

from twisted_mta.mail import dsn
from twisted_mta.mail.address import Address


@dataclass(frozen=True, slots=True)
class ToMailbox:
    """Into a mailbox of an account here.

    @ivar account: the account's id.
    @ivar recipient: the address it is for, after aliases.
    """

    account: int
    recipient: Address


@dataclass(frozen=True, slots=True)
class ToAgent:
    """Through a delivery agent: a row of the queue.

    @ivar agent: the name of the agent in the config, such as C{"smtp"}.
    @ivar next_hop: what the agent is to speak to: a domain for direct
        delivery, C{"[host]:port"} for a smarthost, free for other agents.
        Recipients with the same agent and next hop share a row.
    @ivar recipient: the address it is for, after aliases.
    @ivar hold: no attempt is made until an operator releases the row.
    @ivar notification: what its sender asks to be told.
    """

    agent: str
    next_hop: str
    recipient: Address
    hold: bool = False
    notification: dsn.Notification = dsn.USUAL


Route = ToMailbox | ToAgent

#: The agent of what is held until a time (RFC 4865): it goes nowhere yet.
RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What L{twisted_mta.interfaces.IRouter.route} says of a recipient.

    @ivar local: the recipient's domain is ours. A recipient that is not may
        only be accepted from whom this server relays for; one that is may be
        accepted from anybody, even if an alias sends it elsewhere.
    @ivar routes: at least one; several where an alias names several.
    """

    local: bool
    routes: tuple[Route, ...]


class Result(Enum):
    """The three outcomes of an attempt; deferred unless known to be final."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient in one attempt: all that a DSN needs.

    @ivar status: RFC 3463 status: 2.x.x, 4.x.x or 5.x.x as C{result} says.
    @ivar diagnostic: the remote server's reply as C{"550 5.1.1 No such user"},
        or our own words when there was no reply.
    @ivar remote: the remote server, C{"mx.example.org[192.0.2.1]:25"}, or empty.
    @ivar replied: C{diagnostic} is an SMTP reply, so that a DSN may carry it
        as C{Diagnostic-Code: smtp}.
    @ivar action: of what was delivered, what a sender who asked is told (RFC 3464
        2.3.3): C{"delivered"} to its end, or C{"relayed"} to a server that tells
        nobody; empty if the next server has taken it upon itself to tell.
        C{"traced"}: relayed, and he wants to hear of that in any case (RFC 2852).
    @ivar tls: how the channel was: C{"TLSv1.3 TLS_AES_256_GCM_SHA384 (dane)"}, what is
        in brackets being by what the server's certificate was verified, or C{none};
        empty: in the clear, or there was no channel.
    """

    result: Result
    status: str
    diagnostic: str
    remote: str = ""
    replied: bool = False
    action: str = "delivered"
    tls: str = ""
