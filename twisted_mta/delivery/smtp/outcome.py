"""What a reply, or its absence, means for recipients.

Deferred unless the other server itself says that it is final.
"""

from dataclasses import replace

from twisted_mta.mail.reply import Reply
from twisted_mta.mail.route import Outcome, Result

# A reply can be 256 KB long; this much of it goes into rows, logs and DSNs.
_LONGEST = 1000


class Unusable(Exception):
    """This way ends here.

    @ivar outcome: for every recipient of whom nothing else was said.
    @ivar retry: whether another host may be tried in this attempt.
    """

    def __init__(self, outcome: Outcome, *, retry: bool = True) -> None:
        super().__init__(outcome.diagnostic)
        self.outcome = outcome
        self.retry = retry


class TlsFailed(Unusable):
    """The channel is not as it should be: no TLS, or not with whom it must be. With
    less asked it may work.

    @ivar result: how a report calls it (RFC 8460 4.3).
    """

    def __init__(self, outcome: Outcome, result: str = "validation-failure") -> None:
        super().__init__(outcome)
        self.result = result


def unreached(outcome: Outcome) -> Outcome:
    """The same of somebody who could not be spoken to, if he may be later."""
    if outcome.result is not Result.DEFERRED:
        return outcome
    return replace(outcome, unreached=True)


def deferred(
    status: str, text: str, remote: str = "", *, uncertain: bool = False
) -> Outcome:
    """Our own words why not now.

    @param uncertain: see L{Outcome}.
    """
    said = _short(text)
    return Outcome(Result.DEFERRED, status, said, remote, uncertain=uncertain)


def failed(status: str, text: str, remote: str = "") -> Outcome:
    """Our own words why never."""
    return Outcome(Result.FAILED, status, _short(text), remote)


def delivered(reply: Reply, remote: str, action: str) -> Outcome:
    """The server took the message.

    @param action: see L{Outcome}.
    """
    status = reply.status or "2.0.0"
    said = _short(str(reply))
    return Outcome(Result.DELIVERED, status, said, remote, True, action)


def refused(reply: Reply, remote: str, *, final: bool = True) -> Outcome:
    """The server did not do what it was asked to.

    @param final: a 5yz is believed to be final. Anything but 4yz and 5yz is no
        refusal but nonsense, and defers.
    """
    if reply.permanent and final:
        result, status = Result.FAILED, reply.status or "5.0.0"
    else:
        result, status = Result.DEFERRED, reply.status or "4.0.0"
        if reply.code < 400:
            status = "4.5.0"
    status = ("5" if result is Result.FAILED else "4") + status[1:]
    return Outcome(result, status, _short(str(reply)), remote, replied=True)


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
