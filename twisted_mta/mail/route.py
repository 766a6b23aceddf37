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
    @ivar forwarder: the address of ours, as it was written to, that sends it there;
        C{None} if it was written to C{recipient}.
    @ivar sender: who sends it on this way; C{None}: the envelope's sender.
    """

    agent: str
    next_hop: str
    recipient: Address
    hold: bool = False
    notification: dsn.Notification = dsn.USUAL
    forwarder: Address | None = None
    sender: Address | None = None


Route = ToMailbox | ToAgent

#: The agent of what is held until a time (RFC 4865): it goes nowhere yet.
RELEASE = "release"

#: The agent of what came round to an address that had sent it on.
LOOP = "loop"

#: The agent that reads reports of complaints (RFC 5965).
COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class Mailing:
    """What a route may ask of a message, beside its recipient.

    @ivar sender: the reverse-path, C{None} for the null one.
    @ivar login: who submitted it, by the address that he logged in as; empty if
        nobody logged in.
    """

    sender: Address | None = None
    login: str = ""


#: Of no message yet, as when somebody asks whether an address exists.
NO_MAILING = Mailing()


@dataclass(frozen=True, slots=True)
class Resolved:
    """What L{twisted_mta.interfaces.IRouter.route} says of a recipient.

    @ivar local: the recipient's domain is ours. A recipient that is not may
        only be accepted from whom this server relays for; one that is may be
        accepted from anybody, even if an alias sends it elsewhere.
    @ivar routes: at least one; several where an alias names several.
    @ivar ask: whether the recipient exists is known only where the one route leads
        (L{twisted_mta.interfaces.ICallout}).
    @ivar returns: it is a return address: mail from nobody but the null sender may
        go there.
    @ivar relayed: the domain is another server's that takes mail when it is there,
        and we for it meanwhile. Whether the recipient exists was not asked.
    """

    local: bool
    routes: tuple[Route, ...]
    ask: bool = False
    returns: bool = False
    relayed: bool = False


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
    @ivar unreached: it was deferred before anything was said of this mail: nobody
        there could be spoken to.
    @ivar tls: how the channel was: C{"TLSv1.3 TLS_AES_256_GCM_SHA384 (dane)"}, what is
        in brackets being by what the server's certificate was verified, or C{none};
        empty: in the clear, or there was no channel.
    @ivar uncertain: the message was sent to its end, and then there was no answer: the
        remote server may have it (RFC 1047).
    """

    result: Result
    status: str
    diagnostic: str
    remote: str = ""
    replied: bool = False
    action: str = "delivered"
    unreached: bool = False
    tls: str = ""
    uncertain: bool = False
