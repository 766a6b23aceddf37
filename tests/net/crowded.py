"""A listener in a process with few descriptors; run by the tests.

It prints its port, echoes lines, and ends when its input does.
"""

import resource
import sys
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO

from tests.net.lines import Lines
from tests.net.test_stream import echo
from twisted_mta.net.admission import Admission
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.poller import polled


class Until(Protocol):
    """Ends the process with its input."""

    def connectionLost(self, reason: object = None) -> None:
        reactor.callLater(0, reactor.stop)


def main(limit: int, behind_poller: bool) -> None:
    """Listen until told otherwise.

    @param limit: of open files.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    listener = Listener(
        polled(reactor) if behind_poller else cast(IReactorTime, reactor),
        "crowded",
        ["tcp:0:interface=127.0.0.1"],
        Spoken(Lines, echo, lambda name: b"later\r\n"),
        Admission(10 * limit),  # more than there are: the worst case
    )
    starting = Deferred.fromCoroutine(listener.start())
    starting.addCallback(lambda _: print(listener.where[0][1], flush=True))
    StandardIO(Until())
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), "polled" in sys.argv[2:])
