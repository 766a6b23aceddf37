"""What the config says of listeners, seen by their clients."""

import imaplib
import poplib
import shutil
import signal
import smtplib
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from twisted_mta.app import Mta
from twisted_mta.config.check import parse
from twisted_mta.mail.address import split

CONFIG = """\
hostname: mail.example.test
directory: "{}"
domains: {{example.test: }}
postmaster: bob@example.test
listeners:
  - {{name: smtp, protocol: smtp, endpoints: ['tcp:0:interface=127.0.0.1']}}
  - {{name: imap, protocol: imap, endpoints: ['tcp:0:interface=127.0.0.1'],
     plaintext_login: true}}
  - {{name: pop3, protocol: pop3, endpoints: ['tcp:0:interface=127.0.0.1'],
     plaintext_login: true}}
"""
ADDRESS, PASSWORD = "bob@example.test", "tin whistle"


class DeskTests(TestCase):
    """Each limit of the config is the one that a client meets."""

    async def serve(self, settings: str) -> dict[str, int]:
        """Start a server with bob's account.

        @return: the ports of its listeners.
        """
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        text = CONFIG.format(Path(directory) / "state") + settings
        server = Mta(reactor, *parse("mta.yaml", text))
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        await server.office.add_account(split(ADDRESS), PASSWORD)
        return {name: port for name, _, port in server.listening()}

    async def smtp(
        self, settings: str, talk: Callable[[smtplib.SMTP], list[int]]
    ) -> list[int]:
        """The codes that an SMTP client reads."""
        port = (await self.serve(f"smtp: {{{settings}}}\n"))["smtp"]

        def work() -> list[int]:
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.ehlo("client.example")
                return talk(client)

        return await deferToThread(work)

    async def test_message_size(self) -> None:
        """SIZE says it, and more is refused at MAIL."""

        def talk(client: smtplib.SMTP) -> list[int]:
            self.assertEqual("2000", client.esmtp_features["size"])
            return [client.mail("a@b.example", ["SIZE=2001"])[0]]

        self.assertEqual([552], await self.smtp("message_size: 2000", talk))

    async def test_line_lengths(self) -> None:
        """A longer line of a message is refused, and so is a longer command."""

        def talk(client: smtplib.SMTP) -> list[int]:
            client.mail("a@b.example")
            client.rcpt(ADDRESS)
            fits, longer = b"a" * 80 + b"\r\n", b"a" * 81 + b"\r\n"
            codes = [client.data(longer)[0]]
            client.mail("a@b.example")
            client.rcpt(ADDRESS)
            codes.append(client.data(fits)[0])
            codes.append(client.docmd("NOOP " + "x" * 95)[0])
            codes.append(client.docmd("NOOP " + "x" * 96)[0])
            return codes

        codes = await self.smtp("line_length: 80, command_length: 100", talk)
        self.assertEqual([554, 250, 250, 500], codes)

    async def test_counts(self) -> None:
        """Recipients, and commands that bring no mail."""

        def talk(client: smtplib.SMTP) -> list[int]:
            client.mail("a@b.example")
            codes = [client.rcpt(one)[0] for one in (ADDRESS, f"b+{ADDRESS}")]
            codes.append(client.rcpt("bob+1@example.test")[0])
            return [*codes, *(client.noop()[0] for _ in range(3))]

        codes = await self.smtp("recipients: 1, junk_commands: 2", talk)
        self.assertEqual([250, 452, 452, 250, 250, 421], codes)

    async def test_errors(self) -> None:
        """After so many errors the client is sent away."""

        def talk(client: smtplib.SMTP) -> list[int]:
            codes = [client.docmd("FAX")[0] for _ in range(2)]
            return [*codes, client.getreply()[0]]

        self.assertEqual([500, 500, 421], await self.smtp("hard_errors: 2", talk))

    async def test_relay_from(self) -> None:
        """A network that is named may relay."""

        def talk(client: smtplib.SMTP) -> list[int]:
            client.mail("a@b.example")
            return [client.rcpt("x@elsewhere.example")[0]]

        self.assertEqual([550], await self.smtp("", talk))
        settings = "relay_from: [127.0.0.0/8]"
        self.assertEqual([250], await self.smtp(settings, talk))

    async def test_imap(self) -> None:
        """The largest APPEND, and how many bad commands there may be."""
        ports = await self.serve("imap: {append_size: 100, bad_commands: 2}\n")

        def work() -> tuple[list[str], bytes]:
            client = imaplib.IMAP4("127.0.0.1", ports["imap"])
            client.login(ADDRESS, PASSWORD)
            said = [
                client.append("INBOX", "", "", b"a" * size)[0] for size in (100, 101)
            ]
            client.send(b"a FAX\r\nb FAX\r\n")
            rest = client.readline() + client.readline() + client.readline()
            client.shutdown()
            return said, rest

        said, rest = await deferToThread(work)
        self.assertEqual(["OK", "NO"], said)
        self.assertRegex(rest, rb"a BAD .*\r\n(b BAD .*\r\n)?\* BYE ")

    async def test_pop3(self) -> None:
        """How many bad commands there may be."""
        ports = await self.serve("pop3: {bad_commands: 2}\n")

        def work() -> bytes:
            client = poplib.POP3("127.0.0.1", ports["pop3"])
            client.user(ADDRESS)
            client.pass_(PASSWORD)
            assert client.sock is not None
            client.sock.sendall(b"FAX\r\nFAX\r\nNOOP\r\n")
            said: bytes = client.file.read()
            client.close()
            return said

        said = await deferToThread(work)
        self.assertEqual([b"-ERR", b"-ERR"], [one[:4] for one in said.splitlines()])

    async def test_connections(self) -> None:
        """One more than there may be from an address is told so, and under which
        name the log has it."""
        ports = await self.serve("connections: {most_per_address: 1}\n")

        def work() -> list[bytes]:
            where = ("127.0.0.1", ports["smtp"])
            with socket.create_connection(where) as one:
                first = one.recv(3)
                with socket.create_connection(where) as two:
                    return [first, two.recv(200)]

        refused = (
            b"421 4.7.0 mail.example.test Too many connections, try again later"
            b" (smtp-2)\r\n"
        )
        self.assertEqual([b"220", refused], await deferToThread(work))
