"""Contents in this process's memory, of the memory store."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from zope.interface import implementer

from twisted_mta.interfaces import IContent, IContentWriter, ITransaction
from twisted_mta.mail import header, mime
from twisted_mta.mail.ids import new_id


@implementer(IContent)
class MemoryContent:
    """Octets that are all there."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    async def read(self, offset: int, most: int) -> bytes:
        return self._octets[offset : offset + most]


@implementer(IContentWriter)
class MemoryWriter:
    """Content while it arrives. Memory is flat for nobody here."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._id = 0

    @property
    def size(self) -> int:
        return len(self._octets)

    @property
    def eight_bit(self) -> bool:
        return not self._octets.isascii()

    async def read(self, offset: int, most: int) -> bytes:
        return bytes(self._octets[offset : offset + most])

    def write(self, octets: bytes) -> None:
        self._octets += octets

    async def finish(self) -> None:
        """Memory is as durable as it will ever be."""

    def header(self) -> bytes:
        octets = bytes(self._octets)
        return octets[: min(header.body_start(octets), header.BLOCK_MAX)]

    def structure(self) -> mime.Structure:
        return mime.scan(bytes(self._octets))

    def digest(self) -> bytes:
        return sha256(self._octets).digest()

    def take(self, transaction: ITransaction) -> int:
        self._id = self._id or new_id()
        return self._id

    def take_all(
        self, transaction: ITransaction, contents: Sequence[IContentWriter]
    ) -> Sequence[int]:
        return [content.take(transaction) for content in contents]

    def abort(self) -> None:
        if not self._id:
            self._octets = bytearray()
