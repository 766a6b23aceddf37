"""What the real daemon tells its clients when the disk fails, or when it is
killed at one step of taking one message (HOSTILE.md, row 52). strace makes the
system calls of the running server fail, and then no more."""

import imaplib
import itertools
from collections.abc import Callable

from tests.system.diskcase import ALICE, DORA, TRASH, DiskCase, Fault
from tests.system.evidence import inbox
from tests.system.load import imap


class FailingTests(DiskCase):
    """The disk fails for a while."""

    def test_h52_nothing_can_be_kept(self) -> None:
        """While it fails clients are told so, and why, and nothing is kept; what
        was there can be read. As soon as it works again, so does the server. A
        crash brings nothing back that was refused."""
        for call, large in (
            ("pwrite64", False),
            ("fsync,fdatasync", False),
            ("fsync,fdatasync", True),
        ):
            for error, code in (("EIO", 451), ("ENOSPC", 452)):
                self.check(f"{call}:error={error}", code, large)
        self.assertNotIn("Traceback", self.server.log)
        self.server.kill()
        self.server = self.start()
        self.assertEqual(self.send()[0], 250)
        self.assert_kept()

    def check(self, inject: str, code: int, large: bool) -> None:
        """See L{test_h52_nothing_can_be_kept}."""
        before = self.count(ALICE)
        with imap(self.server.ports["imap"], DORA) as client:
            client.select("INBOX")
            self.assertEqual(self.send(large)[0], 250)
            fault = Fault(self.server, inject)
            try:
                for bdat in (False, True):
                    self.assertEqual(self.send(large, bdat)[0], code)
                self.assertEqual(self.append(client, large), "NO")
                self.assertEqual(self.count(ALICE), before + 1)
            finally:
                fault.stop()
            self.assertEqual(self.send(large)[0], 250)
            self.assertEqual(self.append(client, large), "OK")
        self.assertEqual(self.count(ALICE), before + 2)

    def test_h52_killed_while_it_fails(self) -> None:
        """What was refused because it could not be synchronised does not come
        back by a crash either, although it was written."""
        fault = Fault(self.server, "fsync,fdatasync:error=EIO")
        self.assertEqual(self.send()[0], 451)
        self.server.kill()
        fault.stop()
        self.server = self.start()
        self.assertEqual(self.send()[0], 250)
        self.assert_kept()

    def count(self, address: str) -> int:
        """How many messages a client sees in INBOX."""
        with imap(self.server.ports["imap"], address) as client:
            return int(client.select("INBOX", readonly=True)[1][0] or 0)


class KilledAtTests(DiskCase):
    """The server is killed at one system call."""

    def check(
        self, call: str, prepare: Callable[[], Callable[[], None]], step: int = 1
    ) -> None:
        """Killed at the first of these calls, the second, and so on until it
        needs no more of them: what was acknowledged is there, and what was not
        is done everywhere or nowhere.

        @param prepare: returns what to do when the server may be killed.
        @param step: from one to the next.
        """
        killed = 0
        for when in itertools.count(1, step):
            act = prepare()
            fault = Fault(self.server, f"{call}:signal=KILL:when={when}")
            try:
                act()
            except (OSError, imaplib.IMAP4.abort):
                killed += 1
                self.server.process.wait()
            fault.stop()
            if self.server.process.poll() is None:
                break
            self.server.kill()
            self.server = self.start()
        self.assertGreater(killed, 0)
        self.assertEqual(self.send()[0], 250)
        self.assert_kept()

    def small(self) -> Callable[[], None]:
        """A message that is kept in the ledger."""
        return lambda: self.assertEqual(self.send()[0], 250)

    def large(self) -> Callable[[], None]:
        """A message that has a file."""
        return lambda: self.assertEqual(self.send(large=True)[0], 250)

    def move(self) -> Callable[[], None]:
        """A message from INBOX to Trash."""
        session = imap(self.server.ports["imap"], DORA)
        client = session.__enter__()
        self.addCleanup(session.__exit__, None, None, None)
        client.select("INBOX")
        self.assertEqual(self.append(client), "OK")
        promise = list(self.evidence.promises.values())[-1]

        def act() -> None:
            promise.allowed = (inbox(DORA),), (TRASH,)
            self.assertEqual(client.uid("MOVE", "*", "Trash")[0], "OK")
            promise.allowed = ((TRASH,),)

        return act

    def test_h52_at_writes_of_the_log(self) -> None:
        """Before a header and a page in turn are written to the ledger's log."""
        self.check("pwrite64", self.small, 3)

    def test_h52_at_each_fsync(self) -> None:
        """Before each fsync."""
        self.check("fsync,fdatasync", self.small)

    def test_h52_at_each_fsync_of_a_file(self) -> None:
        """Before that of the file and of its directory."""
        self.check("fsync", self.large)

    def test_h52_at_each_write_of_a_file(self) -> None:
        """Before each write to a file."""
        self.check("write", self.large)

    def test_h52_at_writes_of_a_move(self) -> None:
        """The same of a MOVE."""
        self.check("pwrite64", self.move, 3)
