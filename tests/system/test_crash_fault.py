"""Each system call by which the real daemon reads and writes its disk fails, one at
a time, in whatever it does (HOSTILE.md, row 52). strace makes the n-th call fail,
for each n until there is none; a limit of the size of files cuts writes short."""

import contextlib
import imaplib
import itertools
import resource
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.system.daemon import wait_until
from tests.system.diskcase import ALICE, ARCHIVE, DORA, EVE, TRASH, DiskCase, Fault
from tests.system.evidence import Places, Promise, inbox
from tests.system.load import imap, smtp
from tests.system.sink import Answer, Sink

INBOX = inbox(DORA)

Act = Callable[[], bool]
"""Does something; false if the server said that it cannot now."""


class FaultTests(DiskCase):
    """A server whose disk fails for a moment, and somebody who is logged in."""

    def setUp(self) -> None:
        super().setUp()
        session = imap(self.server.ports["imap"], DORA)
        self.client = session.__enter__()
        self.addCleanup(session.__exit__, None, None, None)
        self.client.select("INBOX")

    def check(self, prepare: Callable[[], Act], *calls: str) -> int:
        """Let the first of these calls fail, then the second, and so on until
        there are no more: clients are told the truth, and as soon as the disk
        works, so does the server.

        @param prepare: returns what is done while the disk may fail.
        @param calls: each with an error, as strace takes it.
        @return: how often one failed.
        """
        self.assertTrue(prepare()())
        failed = 0
        for call in calls:
            for when in itertools.count(1):
                act = prepare()
                fault = Fault(self.server, f"{call}:when={when}")
                try:
                    done = act()
                finally:
                    fault.stop()
                self.assertTrue(prepare()(), (call, when))
                if not fault.count:
                    self.assertTrue(done)
                    break
                failed += 1
        return failed

    def end(self) -> None:
        """What was said is true after a crash, too, and nothing is left over."""
        self.assertNotIn("Traceback", self.server.log)
        self.server.kill()
        self.server = self.start()
        self.assertEqual(self.send()[0], 250)
        self.wait_collected(self.server)
        self.assert_kept()

    # --- what is done ---

    def small(self) -> Act:
        """A message comes that is kept in the ledger."""
        return lambda: _accepted(self.send())

    def large(self) -> Act:
        """A message comes that has a file."""
        return lambda: _accepted(self.send(large=True))

    def appended(self) -> Act:
        """The same, from the person's own program."""
        return lambda: self.append(self.client) == "OK"

    def appended_large(self) -> Act:
        """The same, from the person's own program."""
        return lambda: self.append(self.client, large=True) == "OK"

    def copied(self) -> Act:
        """A message is copied."""
        return self.filed((ARCHIVE, INBOX), "COPY", "Archive")

    def moved(self) -> Act:
        """A message is moved."""
        return self.filed((TRASH,), "MOVE", "Trash")

    def expunged(self) -> Act:
        """A message goes, and then its content."""
        return self.filed((), "EXPUNGE")

    def filed(self, places: Places, command: str, *more: str) -> Act:
        """A command for a new message in INBOX.

        @param places: where it is afterwards.
        """
        self.assertEqual(self.append(self.client), "OK")
        uid = self.client.response("APPENDUID")[1][-1].split()[-1].decode()  # type: ignore[union-attr]
        self.client.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)")
        promise = self.last()

        def act() -> bool:
            if not _ok(self.client.uid(command, uid, *more)):
                return False
            promise.allowed = (places,)
            return True

        return act

    def last(self) -> Promise:
        """Of the last message."""
        return list(self.evidence.promises.values())[-1]

    def cut_short(
        self, prepare: Callable[[], Act], path: Path, ends: list[int]
    ) -> None:
        """Let a file grow to one of these lengths, and no further: the write that
        passes it is cut short (and the next fails with EFBIG).

        @param path: of the file, if it is there already.
        """

    def read(self) -> Act:
        """The last message is read; it is whole, or not given."""
        self.assertEqual(self.append(self.client), "OK")
        return self.reading()

    def read_large(self) -> Act:
        """The same, of one that has a file."""
        self.assertEqual(self.append(self.client, large=True), "OK")
        return self.reading()

    def reading(self) -> Act:
        def act() -> bool:
            try:
                with imap(self.server.ports["imap"], DORA) as client:
                    answer = client.select("INBOX", readonly=True)
                    if answer[0] == "OK":
                        answer = client.fetch("*", "BODY.PEEK[]")
            except imaplib.IMAP4.abort:
                return False  # the message had begun
            except imaplib.IMAP4.error as error:
                self.assertIn("[UNAVAILABLE]", str(error))
                return False
            if answer[0] == "OK":
                self.assertTrue(self.evidence.token(answer[1][0][1]), answer)
            return _ok(answer)

        return act

    # --- what fails ---

    def test_h52_each_write_of_the_log(self) -> None:
        """Mail comes and is filed, and each write to the log fails, and its
        fsync."""
        for prepare in (
            self.small,
            self.appended,
            self.copied,
            self.moved,
            self.expunged,
        ):
            for call in _with_errors("pwrite64", "fdatasync"):
                self.assertGreater(self.check(prepare, call), 0, (prepare, call))
        self.end()

    def test_h52_each_step_of_a_file(self) -> None:
        """Mail comes that has a file, and the making of that fails, the fsync of
        it and of its directory, and that of the log."""
        for prepare in (self.large, self.appended_large):
            for call in _with_errors("openat", "fsync", "fdatasync"):
                self.assertGreater(self.check(prepare, call), 0, (prepare, call))
        self.end()

    def test_h52_each_read(self) -> None:
        """Mail comes, is filed and read, and each read of the ledger and of a
        file fails that is made for it."""
        for prepare in (self.small, self.moved, self.expunged):
            self.check(prepare, "pread64:error=EIO")
        for prepare in (self.appended, self.read, self.read_large):
            self.assertGreater(self.check(prepare, "pread64:error=EIO"), 0, prepare)
        self.end()

    def test_h52_each_write_of_a_file(self) -> None:
        """A large message comes, and each write to its file fails: those that
        are made while it comes, and the last."""
        for call in _with_errors("write"):
            for size, when in ((200_000, 1), (700_000, 1), (700_000, 2)):
                with self.arriving(size) as (path, finish):
                    fault = Fault(self.server, f"{call}:when={when}", path)
                    self.assertFalse(finish())
                    fault.stop()
                    self.assertEqual(fault.count, 1)
                self.assertFalse(path.exists())
                self.assertTrue(self.large()())
        self.end()

    def test_h52_file_not_removed(self) -> None:
        """The file of a message that does not come to its end cannot be removed:
        the next start does that."""
        with self.arriving(200_000) as (path, _):
            fault = Fault(self.server, "unlink:error=EIO", path)
        wait_until(lambda: fault.count, "it is given up", self.server)
        fault.stop()
        self.assertTrue(self.large()())
        self.assertTrue(path.exists())
        self.end()

    @contextlib.contextmanager
    def arriving(self, size: int) -> Iterator[tuple[Path, Act]]:
        """A message of which the first part has come.

        @return: its file; and what sends the rest of it.
        """
        token, octets, _ = self.compose(large=True)
        octets += b"x" * (size - len(octets))
        promise = self.evidence.offer(token, octets)
        before = self.files()
        with smtp(self.server.ports["smtp"]) as client:
            client.mail(f"{token}@load.test")
            client.rcpt(ALICE)
            client.send(b"BDAT %d\r\n%b" % (_FIRST_OCTETS, octets[:_FIRST_OCTETS]))
            self.assertEqual(client.getreply()[0], 250)
            (path,) = self.files() - before

            def finish() -> bool:
                rest = octets[_FIRST_OCTETS:]
                client.send(b"BDAT %d LAST\r\n%b" % (len(rest), rest))
                if not _accepted(client.getreply()):
                    return False
                promise.allowed = ((inbox(ALICE),),)
                return True

            yield path, finish

    def files(self) -> set[Path]:
        """The files of content."""
        return set((self.home / "content").glob("??/*"))

    def test_h52_short_writes_of_the_log(self) -> None:
        """The log cannot grow: each write of a commit in turn is cut short."""
        log = self.home / "ledger.sqlite3-wal"
        for number in itertools.count():
            # Each page is written after a header of its own.
            page, part = divmod(number, 2)
            cut = (12, _FRAME_OCTETS // 2)[part]
            end = log.stat().st_size + page * _FRAME_OCTETS + cut
            if self.within(end, self.small()):
                break
            self.assertEqual(log.stat().st_size, end)
            self.assertTrue(self.small()())
        self.assertGreater(number, 10)
        self.end()

    def test_h52_short_writes_of_a_file(self) -> None:
        """The same for the file of a large message."""
        for size, end in ((200_000, 1), (200_000, 199_999), (700_000, 300_000)):
            with self.arriving(size) as (path, finish):
                self.assertFalse(self.within(end, finish))
            self.assertFalse(path.exists())
            self.assertTrue(self.large()())
        self.end()

    def within(self, end: int, act: Act) -> bool:
        """Do something while no file can grow beyond this length: a write past
        it is cut short, and the next fails (with EFBIG, as it would with
        ENOSPC)."""
        pid = self.server.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (end, hard))
        try:
            return act()
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


class RelayFaultTests(DiskCase):
    """The same while mail is sent on."""

    def more(self) -> str:
        """Mail for elsewhere goes to a sink."""
        self.sink = Sink(self.home.with_name("sink"))
        self.addCleanup(self.sink.kill)
        return f'routes: [{{domain: "*", next_hop: "127.0.0.1:{self.sink.port}"}}]\n'

    def test_h52_each_write_while_relayed(self) -> None:
        """Mail comes for others and their server takes it at once, and each write
        to the log fails, and its fsync: what was accepted goes there once, and
        leaves the queue."""
        accepted = []
        for call in _with_errors("pwrite64", "fdatasync"):
            for when in itertools.count(1):
                fault = Fault(self.server, f"{call}:when={when}")
                sender, reply = self.relayed()
                accepted += [sender] * reply
                wait_until(
                    lambda fault=fault, sender=sender: (
                        fault.count or self.settled(sender)
                    ),
                    "a call fails, or it is settled",
                    self.server,
                )
                fault.stop()
                if not fault.count:
                    break
            # One is its acceptance, another the settlement.
            self.assertGreater(when, 2)
        wait_until(lambda: self.settled("%"), "all is settled", self.server)
        taken = [one["sender"] for one in self.sink.events(Answer.ACCEPT)]
        self.assertEqual(sorted(taken), sorted(accepted))
        self.server.kill()
        self.server = self.start()
        self.wait_collected(self.server)
        self.assert_kept()
        self.assertEqual(len(self.sink.events()), len(accepted))

    def relayed(self) -> tuple[str, bool]:
        """Send a message.

        @return: its sender, and whether it was accepted.
        """
        token, octets, _ = self.compose(large=False)
        sender = f"{token}@load.test"
        with smtp(self.server.ports["smtp"]) as client:
            client.mail(sender)
            client.rcpt(EVE)
            return sender, _accepted(client.data(octets))

    def settled(self, sender: str) -> bool:
        """Whether nothing of a sender (a pattern) is in the queue."""
        ledger = self.home / "ledger.sqlite3"
        with contextlib.closing(sqlite3.connect(ledger)) as database:
            ((count,),) = database.execute(
                "SELECT COUNT(*) FROM queued WHERE sender LIKE ?", (sender,)
            )
            return count == 0


# Of a page in the log, with its header.
_FRAME_OCTETS = 24 + 8192

# Enough that the message has a file.
_FIRST_OCTETS = 200_000


def _with_errors(*calls: str) -> Iterator[str]:
    for call in calls:
        for error in ("EIO", "ENOSPC"):
            yield f"{call}:error={error}"


def _accepted(reply: tuple[int, bytes]) -> bool:
    if reply[0] not in (250, 451, 452):
        raise AssertionError(f"the server said {reply}")
    return reply[0] == 250


def _ok(answer: tuple[str, list[bytes]]) -> bool:
    if answer[0] not in ("OK", "NO"):
        raise AssertionError(f"the server said {answer}")
    return answer[0] == "OK"
