"""A server to which strace is attached while it runs, and messages for it whose
fate is noted."""

import imaplib
import itertools
import os
import random
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.system.crashcase import CrashCase
from tests.system.daemon import Program, Server, need, wait_until
from tests.system.evidence import Evidence, Ledger, Promise, faults, inbox
from tests.system.load import ELSEWHERE, FILERS, READERS, message, smtp

ALICE, BOB, DORA, EVE = *READERS[:2], FILERS[0], ELSEWHERE[0]

TRASH = f"{DORA}/Trash"
ARCHIVE = f"{DORA}/Archive"

# Local mailboxes and the queue, in one transaction.
PLACES = (inbox(ALICE), inbox(BOB), f"queue/{EVE}")


class Trace(Program):
    """strace on a running server, from here until it is ended.

    @param options: of strace.
    """

    def __init__(self, server: Server, *options: str) -> None:
        super().__init__(["strace", "-f", *options, "-p", str(server.process.pid)])
        self.drain()
        self._traced = server
        wait_until(self._everywhere, "all threads are traced")

    def _everywhere(self) -> bool:
        if self.process.poll() is not None:
            if self._was_killed():
                return True
            failure = f"strace cannot trace here:\n{self.log}"
            if os.environ.get("CI") == "true":
                raise AssertionError(failure)
            raise unittest.SkipTest(failure)
        tasks = Path(f"/proc/{self._traced.process.pid}/task")
        traced = f"TracerPid:\t{self.process.pid}\n"
        try:
            return all(
                traced in (one / "status").read_text() for one in tasks.iterdir()
            )
        except OSError:  # a thread, or the server, has just gone
            return False

    def _was_killed(self) -> bool:
        """The server has gone, and its tracer with it: it made the call before
        all of its threads were seen to be traced."""
        try:
            return self._traced.process.wait(5) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False


class Fault(Trace):
    """A failure of a server's system calls, from here until it is ended.

    @param inject: as C{strace -e inject=} takes it. What it counts it counts in
        each thread.
    @param path: only of calls that have to do with this file.
    """

    def __init__(self, server: Server, inject: str, path: Path | None = None) -> None:
        self._record = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  lives as long as we
        only = ("-P", str(path)) if path is not None else ()
        super().__init__(
            server,
            *("-o", self._record.name, *only, "-e", f"inject={inject}"),
        )

    @property
    def count(self) -> int:
        """Calls that were made to fail so far."""
        text = Path(self._record.name).read_text(errors="replace")
        return text.count("(INJECTED)")


class DiskCase(CrashCase):
    """A server and strace, which traces one process: there are no others."""

    index = False

    def setUp(self) -> None:
        need("strace")
        super().setUp()
        self.evidence = Evidence()
        self.server = self.start()
        self._numbers = itertools.count(1)

    def compose(self, large: bool) -> tuple[str, bytes, Promise]:
        """A message that nobody has yet."""
        token = f"disk-{next(self._numbers)}"
        octets = message(token, random.Random(token), large)
        return token, octets, self.evidence.offer(token, octets)

    def send(self, large: bool = False, bdat: bool = False) -> tuple[int, bytes]:
        """Send a message to two mailboxes here and one elsewhere, and note what
        became of it.

        @return: the answer to the whole message, or the one that refused it
            before.
        @raise SMTPServerDisconnected: none came.
        """
        token, octets, promise = self.compose(large)
        with smtp(self.server.ports["smtp"]) as client:
            client.mail(f"{token}@load.test")
            for recipient in (ALICE, BOB, EVE):
                reply = client.rcpt(recipient)
                if reply[0] != 250:
                    return reply
            promise.allowed = (), PLACES
            if bdat:
                client.send(b"BDAT %d LAST\r\n%b" % (len(octets), octets))
                reply = client.getreply()
            else:
                reply = client.data(octets)
        promise.allowed = (PLACES,) if reply[0] == 250 else ((),)
        return reply

    def append(self, client: imaplib.IMAP4, large: bool = False) -> str:
        """The same with APPEND.

        @return: OK or NO.
        """
        _, octets, promise = self.compose(large)
        answer, _ = client.append("INBOX", None, None, octets)
        promise.allowed = ((inbox(DORA),),) if answer == "OK" else ((),)
        return answer

    def assert_kept(self) -> None:
        """After the server's end: what was promised is there, and no more."""
        self.server.stop()
        self.assertEqual(
            faults(self.evidence, Ledger(self.home, self.evidence)),
            [],
        )
        self.assert_sound()
