"""The power fails at the very moment when the real daemon says 250 or OK
(HOSTILE.md, row 52): kill -9 cannot show that, for what a process wrote
outlives it."""

from collections.abc import Iterator, Sequence

from tests.system.disk import OPTIONS, Disk
from tests.system.diskcase import ARCHIVE, DORA, PLACES, TRASH, DiskCase, Trace
from tests.system.evidence import Ledger, Places, Promise, faults, inbox
from tests.system.load import imap

INBOX = inbox(DORA)

Deed = tuple[bytes, Promise, Places]
"""The words that promise it; and where the message is from then on."""


class PowerTests(DiskCase):
    """Of the disk there is only what was synchronised."""

    def deeds(self) -> Iterator[Deed]:
        """Mail comes, small and large, by DATA, BDAT and APPEND; and is
        filed."""
        for large in (False, True):
            for bdat in (False, True):
                self.assertEqual(self.send(large, bdat)[0], 250)
                yield b"250 2.0.0 Ok: queued", self.last(), PLACES
        with imap(self.server.ports["imap"], DORA) as client:
            client.select("INBOX")
            for large in (False, True):
                self.assertEqual(self.append(client, large), "OK")
                yield b"[APPENDUID", self.last(), (INBOX,)
            promise = self.last()
            client.uid("COPY", "*", "Archive")
            yield b"[COPYUID", promise, (ARCHIVE, INBOX)
            client.uid("MOVE", "*", "Trash")
            yield b"[COPYUID", promise, (ARCHIVE, TRASH)
            client.store("*", "+FLAGS.SILENT", r"(\Deleted)")
            client.expunge()
            yield b" EXPUNGE\r\n", next(self.before(promise)), ()

    def last(self) -> Promise:
        """Of the last message."""
        return list(self.evidence.promises.values())[-1]

    def before(self, promise: Promise) -> Iterator[Promise]:
        """Of the messages before, the last first."""
        promises = list(self.evidence.promises.values())
        return reversed(promises[: promises.index(promise)])

    def lost(self, *options: str) -> Sequence[Sequence[str]]:
        """Do all that, and cut the power when each is acknowledged.

        @param options: of strace.
        @return: what was wrong then, each time.
        """
        record = self.home.with_name("trace")
        trace = Trace(self.server, "-o", str(record), *OPTIONS, *options)
        # Now: what is written before it is traced must be in it. The ledger opens
        # its connection when the listeners listen already.
        disk = Disk(self.home)
        deeds = list(self.deeds())
        trace.stop()
        for promise in self.evidence.promises.values():
            promise.allowed = ((),)
        found = []
        image = self.home.with_name("image")
        words, promise, places = deeds[0]
        for sent in disk.replay(record.read_text()):
            if words in sent:
                promise.allowed = (places,)
                disk.save(image)
                found.append(faults(self.evidence, Ledger(image, self.evidence)))
                if len(found) == len(deeds):
                    return found
                words, promise, places = deeds[len(found)]
                promise.allowed = *promise.allowed, places
        raise AssertionError(f"never said: {words!r}")

    def test_h52_power_cut(self) -> None:
        """What was acknowledged is as it was acknowledged, and what was not is
        done or not."""
        for wrong in self.lost():
            self.assertEqual(wrong, [])

    def test_power_cut_unsynchronised(self) -> None:
        """If the system only pretends to synchronise, something is wrong each
        time: so the test above sees what it should."""
        for wrong in self.lost("-e", "inject=fsync,fdatasync:retval=0"):
            self.assertNotEqual(wrong, [])
