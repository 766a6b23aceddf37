"""What the tests with mail programs share: one daemon for the tests of a class,
and the ways to put a message into it and to see what is there.

A test begins with empty mailboxes, and fails if the server logged a bug while it
ran. It trusts Python's own mail modules to see what another program did.
"""

from __future__ import annotations

import atexit
import contextlib
import imaplib
import poplib
import smtplib
import ssl
import unittest
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.system.daemon import PATIENCE_S, Daemon, Directory

HOST = "127.0.0.1"
ALICE = "alice@example.test"
BOB = "bob@example.test"
STRANGER = "stranger@elsewhere.test"

# What the log of a server shows only when it is wrong itself.
_BUGS = ("a bug", "Traceback", "CRITICAL", "ERROR")

# The mailboxes that an account begins with.
GIVEN = frozenset({"INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"})


class _Current:
    """The daemon of the class whose tests run now. (trial calls no setUpClass.)"""

    def __init__(self) -> None:
        self._owner: type[Served] | None = None
        self._daemon: Daemon | None = None
        self._directory = Directory()
        atexit.register(self.end)

    def daemon(self, owner: type[Served]) -> Daemon:
        """The daemon of a class; that of another ends."""
        if self._owner is not owner or self._daemon is None:
            self.end()
            self._owner = owner
            self._directory = Directory()
            where = self._directory.path / "server"
            self._daemon = owner.started(where)
        return self._daemon

    def end(self) -> None:
        """Stop it."""
        daemon, self._daemon = self._daemon, None
        status = daemon.stop() if daemon is not None else 0
        self._directory.remove()
        if status and daemon is not None:
            raise AssertionError(f"the server ended with {status}:\n{daemon.log}")


_current = _Current()


class Served(unittest.TestCase):
    """Tests of a client beside a running server.

    @cvar options: more words for C{twisted-mta try}.
    @ivar home: an empty directory, for the client's files.
    """

    options: Sequence[str] = ()

    @classmethod
    def started(cls, where: Path) -> Daemon:
        """A server for this class.

        @param where: its directory, yet to be made.
        """
        return Daemon(where, *cls.options)

    def setUp(self) -> None:
        self.daemon = _current.daemon(type(self))
        own = Directory()
        self.addCleanup(own.remove)
        self.home = own.path
        self._read = len(self.daemon.log)
        self.addCleanup(self._no_bugs)
        for address in (ALICE, BOB):
            self.empty(address)

    def _no_bugs(self) -> None:
        log = self.daemon.log[self._read :]
        for bug in _BUGS:
            self.assertNotIn(bug, log)

    # --- where things are ---

    @property
    def certificate(self) -> Path:
        """What a client has to trust."""
        return self.daemon.directory / "certificate.pem"

    def trust(self) -> ssl.SSLContext:
        """A context that checks the server's certificate and name."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def port(self, name: str) -> int:
        """Of a listener."""
        return self.daemon.ports[name]

    def other_host(self) -> str:
        """For wrong passwords: who guesses is slowed down, and it should be
        nobody else."""
        hosts = {one["host"] for one in self.daemon.facts["listeners"]}
        return "::1" if "::1" in hosts else HOST

    def password(self, address: str) -> str:
        """Of an account that C{try} made."""
        return self.daemon.passwords[address]

    def file(self, name: str, *lines: str) -> Path:
        """A client's config, readable by its owner alone."""
        path = self.home / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path

    # --- sessions ---

    @contextlib.contextmanager
    def submission(self, address: str = ALICE) -> Iterator[smtplib.SMTP]:
        """A session that may send as an account."""
        with smtplib.SMTP_SSL(
            HOST, self.port("submissions"), timeout=PATIENCE_S, context=self.trust()
        ) as session:
            session.login(address, self.password(address))
            yield session

    @contextlib.contextmanager
    def imap(self, address: str = ALICE) -> Iterator[imaplib.IMAP4_SSL]:
        """A session of an account, with nothing selected."""
        with imaplib.IMAP4_SSL(
            HOST, self.port("imaps"), ssl_context=self.trust(), timeout=PATIENCE_S
        ) as session:
            session.login(address, self.password(address))
            yield session

    @contextlib.contextmanager
    def pop3(self, address: str = ALICE) -> Iterator[poplib.POP3_SSL]:
        """A session of an account; it ends without QUIT."""
        session = poplib.POP3_SSL(
            HOST, self.port("pop3s"), timeout=PATIENCE_S, context=self.trust()
        )
        try:
            session.user(address)
            session.pass_(self.password(address))
            yield session
        finally:
            session.close()

    # --- mail ---

    def deliver(
        self, subject: str, *recipients: str, body: str = "Hello.\n"
    ) -> EmailMessage:
        """Bring a message as another server would; to alice unless said."""
        mail = message(STRANGER, recipients or (ALICE,), subject, body)
        with smtplib.SMTP(HOST, self.port("smtp"), timeout=PATIENCE_S) as session:
            session.send_message(mail)
        return mail

    def messages(self, address: str = ALICE, mailbox: str = "INBOX") -> list[bytes]:
        """All messages of a mailbox."""
        with self.imap(address) as session:
            good(session.select(quote(mailbox), readonly=True))
            _, parts = session.uid("FETCH", "1:*", "(BODY.PEEK[])")
            return [part[1] for part in parts if isinstance(part, tuple)]

    def subjects(self, address: str = ALICE, mailbox: str = "INBOX") -> list[str]:
        """Of all messages of a mailbox, in order."""
        return [subject(octets) for octets in self.messages(address, mailbox)]

    def only(self, address: str = ALICE, mailbox: str = "INBOX") -> str:
        """The one message of a mailbox, with line ends as Python's."""
        (octets,) = self.messages(address, mailbox)
        return octets.decode().replace("\r\n", "\n")

    def empty(self, address: str) -> None:
        """Remove all messages, and the mailboxes that it did not begin with."""
        with self.imap(address) as session:
            listed = good(session.list())
            names = [line.rsplit(b" ", 1)[1].strip(b'"').decode() for line in listed]
            for name in names:
                if name in GIVEN:
                    good(session.select(name))
                    good(session.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)"))
                    good(session.expunge())
                    good(session.close())
            for name in sorted(set(names) - GIVEN, key=len, reverse=True):
                good(session.delete(name))


def message(
    sender: str, recipients: Sequence[str], about: str, body: str = "Hello.\n"
) -> EmailMessage:
    """A message without the fields that the server adds."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = about
    mail.set_content(body)
    return mail


def subject(octets: bytes) -> str:
    """Of a message."""
    found: str = message_from_bytes(octets).get("Subject", "")
    return found


def quote(mailbox: str) -> str:
    """A mailbox's name, as imaplib wants it."""
    return f'"{mailbox}"'


def good(answer: tuple[str, Any]) -> list[bytes]:
    """What an IMAP command answered.

    @raise AssertionError: it was not OK.
    """
    status, lines = answer
    if status != "OK":
        raise AssertionError(f"{status}: {lines!r}")
    return [line for line in lines if isinstance(line, bytes)]
