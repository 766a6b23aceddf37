"""POP3's TRANSACTION state (RFC 1939 section 5): a maildrop is listed and read.

It answers the commands of a client that logged in, short ones at once, messages
in runs as fast as the client reads them. It knows a maildrop and a stream, and
nothing of logins; what is marked as deleted here is removed by whoever brings
about the UPDATE state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.logger import Logger

from twisted_mta.errors import MailError
from twisted_mta.interfaces import IContent
from twisted_mta.net.stream import Stream
from twisted_mta.servers.maildrop import Maildrop
from twisted_mta.wire import pop3
from twisted_mta.wire.pop3 import Command, err, ok

# One read of a large message.
_RUN_OCTETS = 64 * 1024

# Lines of a listing between two looks whether the client reads them.
_LISTING_LINES = 2000


class Abandoned(Exception):
    """A message was begun and cannot be sent to its end: the connection must
    be cut, since more words would be read as part of the message."""


class Transaction:
    """The commands of a client that logged in. Each gives what is left to be
    written.

    @ivar octets: of messages, sent so far.
    @ivar sending: a message is being sent in runs.
    """

    log = Logger()

    def __init__(self, stream: Stream, maildrop: Maildrop) -> None:
        self.octets = 0
        self.sending = False
        self._stream = stream
        self.maildrop = maildrop

    async def do_STAT(self, command: Command) -> bytes:
        count, octets = self.maildrop.total()
        return ok(f"{count} {octets}")

    async def do_NOOP(self, command: Command) -> bytes:
        return ok()

    async def do_RSET(self, command: Command) -> bytes:
        self.maildrop.deleted.clear()
        return ok()

    async def do_DELE(self, command: Command) -> bytes:
        number = command.numbers[0]
        if number not in self.maildrop:
            return _no_message(number)
        self.maildrop.deleted.add(number)
        return ok(f"Message {number} will be deleted")

    async def do_LIST(self, command: Command) -> bytes:
        return await self._list(command, self.maildrop.size)

    async def do_UIDL(self, command: Command) -> bytes:
        return await self._list(command, self.maildrop.unique_id)

    async def _list(self, command: Command, told: Callable[[int], object]) -> bytes:
        if command.numbers:
            number = command.numbers[0]
            if number not in self.maildrop:
                return _no_message(number)
            return ok(f"{number} {told(number)}")
        self._stream.write(ok(f"{self.maildrop.total()[0]} messages"))
        lines: list[str] = []
        for number in self.maildrop:
            lines.append(f"{number} {told(number)}\r\n")
            if len(lines) == _LISTING_LINES:
                self._stream.write("".join(lines).encode())
                lines.clear()
                if not await self._stream.drain():
                    return b""
        return "".join(lines).encode() + pop3.END

    async def do_RETR(self, command: Command) -> bytes:
        number = command.numbers[0]
        if number not in self.maildrop:
            return _no_message(number)
        answer = await self._send(number, None)
        self.maildrop.read.add(number)
        return answer

    async def do_TOP(self, command: Command) -> bytes:
        number, lines = command.numbers
        if number not in self.maildrop:
            return _no_message(number)
        return await self._send(number, pop3.Top(lines))

    async def _send(self, number: int, top: pop3.Top | None) -> bytes:
        """Answer with a message, or what C{top} leaves of it.

        @raise NoSuchMessage: another session removed it.
        """
        text = pop3.MessageText()
        first = ok(f"{self.maildrop.size(number)} octets")
        octets = await self.maildrop.octets(number)
        if octets is not None:
            if top is not None:
                octets = top.feed(octets)
            self.octets += len(octets)
            return first + text.feed(octets) + text.finish()
        prefix, content = await self.maildrop.content(number)
        self.sending = True
        self._stream.write(first)
        await self._send_run(prefix, text, top)
        await self._send_content(content, text, top)
        self.sending = False
        return text.finish()

    async def _send_content(
        self, content: IContent, text: pop3.MessageText, top: pop3.Top | None
    ) -> None:
        offset = 0
        while offset < content.size and not (top is not None and top.done):
            try:
                run = await content.read(offset, _RUN_OCTETS)
            except MailError as error:
                self.log.warn(
                    "{session}: abandoned within a message: {error}",
                    session=self._stream.name,
                    error=str(error),
                )
                raise Abandoned
            if not run:
                raise Abandoned
            offset += len(run)
            await self._send_run(run, text, top)

    async def _send_run(
        self, run: bytes, text: pop3.MessageText, top: pop3.Top | None
    ) -> None:
        if top is not None:
            if top.done:
                return
            run = top.feed(run)
        self.octets += len(run)
        self._stream.write(text.feed(run))
        if not await self._stream.drain():
            raise Abandoned


TRANSACTION: dict[str, Callable[[Transaction, Command], Awaitable[bytes]]] = {
    "DELE": Transaction.do_DELE,
    "LIST": Transaction.do_LIST,
    "NOOP": Transaction.do_NOOP,
    "RETR": Transaction.do_RETR,
    "RSET": Transaction.do_RSET,
    "STAT": Transaction.do_STAT,
    "TOP": Transaction.do_TOP,
    "UIDL": Transaction.do_UIDL,
}


def _no_message(number: int) -> bytes:
    return err(f"No message {number}")
