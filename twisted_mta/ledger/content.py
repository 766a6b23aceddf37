"""Content while it arrives, and content that a transaction has taken.

Small content is held in memory and becomes part of its row; large content goes
to a L{file <twisted_mta.ledger.files>} as it comes, so that memory stays flat.
A hash of the octets, made before any of them reaches the disk, is kept beside
them; L{an audit <twisted_mta.ledger.audit>} compares the two. It knows that a row
of the table C{content} without octets means a file. It trusts callers to end each
writer with C{abort}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from zope.interface import implementer

from twisted_mta.errors import LedgerUnavailable, MailError, NoSuchMessage
from twisted_mta.interfaces import IContent, IContentWriter, ITransaction
from twisted_mta.ledger.files import ArrivingFile, Files, StoredFile
from twisted_mta.mail import header, mime
from twisted_mta.mail.ids import new_id

if TYPE_CHECKING:
    from twisted_mta.ledger.ledger import Ledger

# Above this content has a file of its own. A row is the faster at any size that
# was measured, 20 callers at once (16 KB: 11,600 a second against 2,200; 64 KB:
# 5,500 against 2,000; 1 MB: 480 against 210), since a file costs two fsyncs that
# nobody shares; over SMTP, 100 KB: 810 to 880 a second against 480 to 575. So this
# bounds memory: what each message that arrives may hold, and a group of them in the
# writer's transaction.
INLINE_OCTETS = 128 * 1024

# Finds out that octets have changed. Measured for 2 KB (64 KB), in us: SHA-256 1.5
# (49), where the processor has instructions for it, as nearly all have; BLAKE2b 2.5
# (79), MD5 3.4 (92), CRC-32 0.6 (16). A CRC finds a flipped bit, too, but among
# millions of messages not that one stands in another's place.
HASH = sha256


@implementer(IContentWriter)
class ContentWriter:
    """See L{IContentWriter}."""

    def __init__(self, ledger: Ledger, files: Files) -> None:
        self._ledger = ledger
        self._files = files
        self._id = new_id()
        self._pieces: list[bytes] = []
        self._octets = b""
        self._hash = HASH()
        self._file: ArrivingFile | None = None
        self._scanner: mime.Scanner | None = None
        self._structure: mime.Structure | None = None
        self._offered = False
        self._aborted = False
        self.size = 0
        self.eight_bit = False

    def write(self, octets: bytes) -> None:
        """See L{IContentWriter.write}."""
        if not self.eight_bit and not octets.isascii():
            self.eight_bit = True
        self.size += len(octets)
        if self._file is None or self._scanner is None:
            self._pieces.append(octets)
            if self.size > INLINE_OCTETS:
                self._spill()
        else:
            self._grow(self._file, self._scanner, octets)

    def _spill(self) -> None:
        """It has become large."""
        self._file = self._files.create(self._id)
        self._scanner = mime.Scanner()
        octets = b"".join(self._pieces)
        self._pieces.clear()
        self._grow(self._file, self._scanner, octets)

    def _grow(self, file: ArrivingFile, scanner: mime.Scanner, octets: bytes) -> None:
        self._ledger.room.grow(len(octets))
        file.write(octets)
        scanner.feed(octets)
        self._hash.update(octets)

    async def finish(self) -> None:
        """See L{IContentWriter.finish}."""
        if self._file is None or self._scanner is None:
            self._octets = b"".join(self._pieces)
            self._pieces.clear()
            self._hash.update(self._octets)
            return
        self._structure = self._scanner.finish()
        try:
            await self._ledger.in_background(self._file.synchronise)
        except MailError:
            self.abort()
            raise

    async def read(self, offset: int, most: int) -> bytes:
        """See L{IContent.read}."""
        if self._file is None:
            return self._octets[offset : offset + most]
        file = self._file
        return await self._ledger.in_background(lambda: file.read(offset, most))

    def header(self) -> bytes:
        """See L{IContentWriter.header}."""
        if self._file is not None:
            return self.structure().root.header
        end = header.body_start(self._octets)
        return self._octets[: min(end, header.BLOCK_MAX)]

    def structure(self) -> mime.Structure:
        """See L{IContentWriter.structure}."""
        if self._structure is None:
            self._structure = mime.scan(self._octets)
        return self._structure

    def digest(self) -> bytes:
        """See L{IContentWriter.digest}."""
        return self._hash.digest()

    def take(self, transaction: ITransaction) -> int:
        """See L{IContentWriter.take}."""
        return self.take_all(transaction, (self,))[0]

    def take_all(
        self, transaction: ITransaction, contents: Sequence[IContentWriter]
    ) -> Sequence[int]:
        """See L{IContentWriter.take_all}. May run in the writer's thread."""
        rows = [cast(ContentWriter, content)._offer() for content in contents]
        transaction.executemany(
            "INSERT INTO content (id, size, octets, hash) VALUES (?, ?, ?, ?)", rows
        )
        return [row[0] for row in rows]

    def _offer(self) -> tuple[int, int, bytes | None, bytes]:
        """The row, for a unit of work that takes it."""
        # The order matters, see abort(): it runs in the reactor's thread, maybe
        # now, because whoever waited for the unit was cancelled.
        self._offered = True
        octets = None if self._file is not None else self._octets
        if self._aborted:
            raise LedgerUnavailable("The content was given up")
        return self._id, self.size, octets, self._hash.digest()

    def abort(self) -> None:
        """See L{IContentWriter.abort}."""
        if self._aborted:
            return
        self._aborted = True
        self._pieces.clear()
        self._octets = b""
        self._scanner = None
        if self._file is None:
            return
        if self._offered:
            self._ledger.settle_file(self._id, self._file)
        else:
            self._file.discard()


@implementer(IContent)
class StoredContent:
    """Content that a transaction has taken. Its file is opened once and closed with
    this, so a reader that has begun reads to the end, whoever deletes it."""

    __slots__ = ("_file", "_files", "_id", "_in_file", "_ledger", "_octets", "size")

    def __init__(self, ledger: Ledger, files: Files, id: int, size: int) -> None:
        self._ledger = ledger
        self._files = files
        self._id = id
        self._in_file = False
        self._file: StoredFile | None = None
        self._octets: bytes | None = None
        self.size = size

    async def read(self, offset: int, most: int) -> bytes:
        """See L{IContent.read}."""
        if self._octets is None and not self._in_file:
            self._octets = await self._ledger.lookup(self._row)
            self._in_file = self._octets is None
        if self._octets is not None:
            return self._octets[offset : offset + most]
        return await self._ledger.in_background(partial(self._read, offset, most))

    def _read(self, offset: int, most: int) -> bytes:
        """Read the file; in a thread."""
        file = self._file
        if file is None:
            file = self._files.open(self._id)
            if self._files.kept_open(file):
                self._file = file
        return file.read(offset, most)

    def _row(self, transaction: ITransaction) -> bytes | None:
        for (octets,) in transaction.execute(
            "SELECT octets FROM content WHERE id = ?", (self._id,)
        ):
            return None if octets is None else bytes(octets)
        raise NoSuchMessage()
