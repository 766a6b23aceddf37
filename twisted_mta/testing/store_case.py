"""What the tests of a mailbox backend share: messages, and how to come by
accounts and mailboxes. It knows nothing of the backend but the interfaces."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from unittest import TestCase

from twisted_mta.interfaces import (
    IAccount,
    IContent,
    IMailbox,
    IMailStore,
)
from twisted_mta.mail.account import Account
from twisted_mta.mail.placement import Appended, Changes, Message, Part

SEEN, DELETED = frozenset({"\\Seen"}), frozenset({"\\Deleted"})
NO_FLAGS: frozenset[str] = frozenset()


PLAIN = b"From: a@example.test\r\nSubject: hello\r\n\r\nA short body.\r\n"
MULTIPART = (
    b"From: Ann <a@example.test>\r\n"
    b"Subject: two parts\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="=="\r\n'
    b"\r\n"
    b"--==\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"\r\n"
    b"first\r\n"
    b"--==\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"AAECAwQ=\r\n"
    b"--==--\r\n"
)
EIGHT_BIT = bytes(range(256)) + b"\r\n"

if TYPE_CHECKING:
    _Case = TestCase
else:
    _Case = object


async def appended(
    account: IAccount,
    name: str = "INBOX",
    octets: bytes = PLAIN,
    flags: frozenset[str] = NO_FLAGS,
    received_at: float = 1_000_000_000.0,
) -> Appended:
    """Put a message into a mailbox."""
    content = account.content()
    try:
        for at in range(0, len(octets), 30_000):
            content.write(octets[at : at + 30_000])
        await content.finish()
        return await account.append(name, content, flags, received_at)
    finally:
        content.abort()


async def read_all(content: IContent, piece: int = 50_000) -> bytes:
    """All octets of a content, in pieces."""
    pieces = []
    offset = 0
    while offset < content.size:
        octets = await content.read(offset, piece)
        if not octets:
            raise AssertionError(f"ends at {offset} of {content.size} octets")
        pieces.append(octets)
        offset += len(octets)
    return b"".join(pieces)


async def message(mailbox: IMailbox, uid: int, *parts: Part) -> Message:
    """One message."""
    (found,) = await mailbox.fetch([uid], frozenset(parts))
    return found


def uids_of(changes: Changes) -> list[int]:
    """The UIDs of what is new or changed."""
    return [row.uid for row in changes.rows]


class StoreCase(_Case):
    """What the tests of a store share."""

    async def build(self) -> tuple[IMailStore, Account, Account]:
        """A fresh store, and two accounts that exist in it. What must be ended
        afterwards is left to C{addCleanup}."""
        raise NotImplementedError

    async def open_account(self) -> IAccount:
        store, account, _ = await self.build()
        return await store.account(account)

    async def filled(self, count: int = 3) -> tuple[IAccount, IMailbox, list[int]]:
        """An account, its INBOX with some messages, and their UIDs."""
        account = await self.open_account()
        uids = [(await appended(account)).uid for _ in range(count)]
        return account, await account.open("INBOX"), uids

    async def refused(self, error: type[Exception], awaited: Awaitable[object]) -> None:
        """What is awaited fails with this error."""
        try:
            await awaited
        except error:
            return
        self.fail(f"{error.__name__} was not raised")

    async def listed(self, account: IAccount) -> list[str]:
        """The names of an account's mailboxes."""
        return [info.name for info in await account.mailboxes()]

    async def id_of(self, account: IAccount, name: str = "INBOX") -> int:
        """The id under which a mailbox is listed."""
        (found,) = [each.id for each in await account.mailboxes() if each.name == name]
        return found

    async def octets(self, mailbox: IMailbox, uid: int) -> bytes:
        """A message whole, by content, and compared with what fetch gives."""
        prefix, content = await mailbox.content(uid)
        whole = prefix + await read_all(content)
        found = await message(mailbox, uid, Part.OCTETS)
        self.assertEqual(found.size, len(whole))
        if found.octets is not None:
            self.assertEqual(found.octets, whole)
            self.assertEqual(found.prefix, len(prefix))
        return whole
