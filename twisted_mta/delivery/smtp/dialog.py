"""Commands and answers on one connection to a server, each in its time.

It trusts no answer: each must come in time, is bounded by the engine, and what it
does not say is not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from twisted_mta.delivery.smtp.exchanger import Host
from twisted_mta.delivery.smtp.outcome import Unusable, deferred, refused
from twisted_mta.delivery.smtp.settings import Settings, Timeouts
from twisted_mta.mail.reply import Reply
from twisted_mta.net.client import Connection
from twisted_mta.net.stream import TimedOut
from twisted_mta.wire.engine import RemoteProtocolError
from twisted_mta.wire.smtp.capabilities import Capabilities


class Stage(Enum):
    """What is waited for, as logs and DSNs say it."""

    GREETING = "the greeting"
    HELLO = "the answer to EHLO"
    TLS = "the answer to STARTTLS"
    AUTH = "the answer to AUTH"
    RSET = "the answer to RSET"
    ORIGIN = "the answer to XFORWARD"
    MAIL = "the answer to MAIL FROM"
    RCPT = "the answer to RCPT TO"
    DATA = "the answer to DATA"
    BLOCK = "the server to read the message"
    FINAL = "the answer to the end of the message (it may arrive twice)"


class Dialog:
    """What is said to a server.

    @ivar remote: the server, as logs and DSNs name it.
    @ivar offers: in its last answer to EHLO.
    @ivar ahead: the commands were sent already (PIPELINING).
    @ivar unfinished: content was begun and not ended.
    @ivar whole: all of a message was sent already.
    """

    def __init__(self, connection: Connection, host: Host, settings: Settings) -> None:
        self.connection = connection
        self.remote = str(host)
        self.offers = Capabilities()
        self.ahead = False
        self.unfinished = False
        self.whole = False
        self._seconds = _seconds(settings.timeouts)

    async def ask(self, command: bytes, stage: Stage) -> Reply:
        """The answer to a command, which is sent unless it was already.

        @raise Unusable: see L{reply}.
        """
        if not self.ahead:
            self.connection.write(command)
        return await self.reply(stage)

    async def reply(self, stage: Stage) -> Reply:
        """The next answer.

        @raise Unusable: there is none, or it is the last (421).
        """
        # What may have been delivered is not sent to another host at once. What
        # ended before it was answered at all was not: it had been idle.
        sent = stage is Stage.FINAL or (self.whole and stage is not Stage.RSET)
        # The last chunk has left before its neighbour is answered.
        sent = sent or (stage is Stage.BLOCK and not self.unfinished)
        retry = not sent
        self.connection.limit(self._seconds[stage])
        # A server that sends each answer in a packet of its own waits for our
        # kernel's word on the last: 40 ms for each message.
        self.connection.prompt = self.ahead
        try:
            event = await self.connection.next_event()
        except RemoteProtocolError as error:
            self.connection.abort()
            text = f"The server broke the protocol: {error}"
            outcome = deferred("4.5.0", text, self.remote, uncertain=sent)
            raise Unusable(outcome, retry=retry)
        if isinstance(event, Reply):
            if event.code == 421:
                raise Unusable(refused(event, self.remote))
            return event
        if isinstance(event, TimedOut):
            self.connection.abort()
            text = f"Timed out while waiting for {stage.value}"
        else:
            reason = self.connection.reason
            text = f"Lost the connection while waiting for {stage.value}: {reason}"
        # RFC 3463 3.5: no answer from the host; or it broke off what it had begun.
        status = "4.4.1" if stage is Stage.GREETING else "4.4.2"
        outcome = deferred(status, text, self.remote, uncertain=sent)
        raise Unusable(outcome, retry=retry)


def _seconds(timeouts: Timeouts) -> Mapping[Stage, float]:
    return {
        Stage.GREETING: timeouts.greeting_s,
        Stage.HELLO: timeouts.hello_s,
        Stage.TLS: timeouts.tls_s,
        Stage.AUTH: timeouts.auth_s,
        Stage.RSET: timeouts.rset_s,
        Stage.ORIGIN: timeouts.mail_s,
        Stage.MAIL: timeouts.mail_s,
        Stage.RCPT: timeouts.rcpt_s,
        Stage.DATA: timeouts.data_s,
        Stage.BLOCK: timeouts.block_s,
        Stage.FINAL: timeouts.final_s,
    }
