"""What the real daemon tells its clients when the disk fails, or when it is
killed at one step of taking one message (HOSTILE.md, row 52). strace makes the
system calls of the running server fail, and then no more."""

import imaplib
import itertools
import os
import random
from pathlib import Path

from tests.system.crashcase import CrashCase
from tests.system.daemon import Program, Server, need, wait_until
from tests.system.evidence import Evidence, Ledger, Promise, faults, inbox
from tests.system.load import ELSEWHERE, FILERS, READERS, imap, message, smtp

ALICE, BOB, DORA, EVE = *READERS[:2], FILERS[0], ELSEWHERE[0]

# Local mailboxes and the queue, in one transaction.
PLACES = (inbox(ALICE), inbox(BOB), f"queue/{EVE}")


class Fault(Program):
    """A failure of a server's system calls, from here until it is ended.

    @param inject: as C{strace -e inject=} takes it.
    """

    def __init__(self, server: Server, inject: str) -> None:
        super().__init__(
            [
                *("strace", "-f", "-o", os.devnull, "-e", f"inject={inject}"),
                *("-p", str(server.process.pid)),
            ]
        )
        self.drain()
        self._traced = server
        wait_until(self._everywhere, "all threads are traced")

    def _everywhere(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"strace cannot trace here:\n{self.log}")
        tasks = Path(f"/proc/{self._traced.process.pid}/task")
        traced = f"TracerPid:\t{self.process.pid}\n"
        return all(traced in (one / "status").read_text() for one in tasks.iterdir())


class DiskCase(CrashCase):
    """A server and strace."""

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

        @return: the answer to the whole message.
        @raise SMTPServerDisconnected: none came.
        """
        token, octets, promise = self.compose(large)
        with smtp(self.server.ports["smtp"]) as client:
            client.mail(f"{token}@load.test")
            for recipient in (ALICE, BOB, EVE):
                client.rcpt(recipient)
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


class FailingTests(DiskCase):
    """The disk fails for a while."""

    def check(self, inject: str, code: int, large: bool = False) -> None:
        """While it fails clients are told so, and nothing is kept; what was
        there can be read. As soon as it works again, so does the server. A
        crash brings nothing back that was refused."""
        with imap(self.server.ports["imap"], DORA) as client:
            client.select("INBOX")
            self.assertEqual(self.send(large)[0], 250)
            fault = Fault(self.server, inject)
            try:
                for bdat in (False, True):
                    self.assertEqual(self.send(large, bdat)[0], code)
                self.assertEqual(self.append(client, large), "NO")
                self.assertEqual(self.count(ALICE), 1)
            finally:
                fault.stop()
            self.assertEqual(self.send(large)[0], 250)
            self.assertEqual(self.append(client, large), "OK")
        self.assertEqual(self.count(ALICE), 2)
        self.assertNotIn("Traceback", self.server.log)
        self.server.kill()
        self.server = self.start()
        self.assertEqual(self.send(large)[0], 250)
        self.assert_kept()

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

    def test_h52_commit_not_synchronised(self) -> None:
        """EIO when the commit is synchronised: 451."""
        self.check("fsync,fdatasync:error=EIO", 451)

    def test_h52_no_space_when_synchronised(self) -> None:
        """ENOSPC when the commit is synchronised: 452."""
        self.check("fsync,fdatasync:error=ENOSPC", 452)

    def test_h52_no_space_for_the_log(self) -> None:
        """ENOSPC when the commit is written: 452."""
        self.check("pwrite64:error=ENOSPC", 452)

    def test_h52_log_not_written(self) -> None:
        """EIO when the commit is written: 451."""
        self.check("pwrite64:error=EIO", 451)

    def test_h52_large_not_synchronised(self) -> None:
        """EIO when a file of content is synchronised: 451."""
        self.check("fsync,fdatasync:error=EIO", 451, large=True)

    def test_h52_no_space_for_large(self) -> None:
        """ENOSPC when a file of content is synchronised: 452."""
        self.check("fsync,fdatasync:error=ENOSPC", 452, large=True)


class KilledAtTests(DiskCase):
    """The server is killed at one system call."""

    def check(self, call: str, large: bool) -> None:
        """Killed at the first of these calls, the second, and so on until a
        message needs no more of them: whoever read 250 finds his message, and
        it is everywhere or nowhere if the answer did not come."""
        killed = 0
        for when in itertools.count(1):
            fault = Fault(self.server, f"{call}:signal=KILL:when={when}")
            try:
                reply = self.send(large)
            except OSError:
                killed += 1
                self.server.process.wait()
            else:
                self.assertEqual(reply[0], 250)
            fault.stop()
            if self.server.process.poll() is None:
                break
            self.server.kill()
            self.server = self.start()
        self.assertGreater(killed, 0)
        self.assertEqual(self.send(large)[0], 250)
        self.assert_kept()

    def test_h52_at_each_write_of_the_log(self) -> None:
        """A small message, killed before each write to the ledger's log."""
        self.check("pwrite64", False)

    def test_h52_at_each_fsync(self) -> None:
        """A small message, killed before each fsync."""
        self.check("fsync,fdatasync", False)

    def test_h52_at_each_fsync_of_a_file(self) -> None:
        """A large message: its file and the directory of that."""
        self.check("fsync", True)

    def test_h52_at_each_write_of_a_file(self) -> None:
        """A large message, killed before each write to its file."""
        self.check("write", True)
