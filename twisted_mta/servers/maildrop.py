"""POP3's maildrop (RFC 1939 section 3): the INBOX as it was at login.

It gives the messages of one mailbox numbers, remembers which are marked as
deleted, and brings their octets, the next ones ahead of time for a client that
reads in order. It knows a mailbox and no protocol. Others may change the
mailbox meanwhile; a message that they removed is gone from here, and its number
stays.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from twisted_mta.interfaces import IContent, IMailbox
from twisted_mta.mail.placement import FlagChange, Part

# Small messages are fetched ahead: a trip to the ledger's thread for many
# instead of for each.
_AHEAD_MESSAGES = 100
_AHEAD_OCTETS = 256 * 1024


class Maildrop:
    """The messages, by numbers that count from 1.

    @ivar deleted: the numbers marked as deleted.
    @ivar read: the numbers that were sent whole.
    """

    def __init__(self, mailbox: IMailbox, uids: array[int], sizes: array[int]) -> None:
        """
        @param uids: ascending.
        @param sizes: octets, of the same messages.
        """
        self.deleted: set[int] = set()
        self.read: set[int] = set()
        self._mailbox = mailbox
        self._uids = uids
        self._sizes = sizes
        self._ahead: dict[int, bytes] = {}
        self._last = 0  # the number that was asked for last

    def __contains__(self, number: int) -> bool:
        return 1 <= number <= len(self._uids) and number not in self.deleted

    def __iter__(self) -> Iterator[int]:
        """The numbers not marked as deleted."""
        numbers = range(1, len(self._uids) + 1)
        return (number for number in numbers if number not in self.deleted)

    def total(self) -> tuple[int, int]:
        """Count and octets of the messages not marked as deleted."""
        deleted = sum(self.size(number) for number in self.deleted)
        return len(self._uids) - len(self.deleted), sum(self._sizes) - deleted

    def size(self, number: int) -> int:
        """A message's octets."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> str:
        """What UIDL says (RFC 1939 section 7): at most 41 characters of its 70,
        and the same as long as the message is in this mailbox."""
        return f"{self._mailbox.uidvalidity}.{self._uids[number - 1]}"

    async def octets(self, number: int) -> bytes | None:
        """A message; C{None} if it is large or gone: see L{content}."""
        ready = self._ahead.pop(number, None)
        if ready is None and self.size(number) <= _AHEAD_OCTETS:
            await self._fetch(number)
            ready = self._ahead.pop(number, None)
        self._last = number
        return ready

    async def content(self, number: int) -> tuple[bytes, IContent]:
        """A message to be streamed: its prefix, then its content.

        @raise NoSuchMessage: it is gone.
        """
        return await self._mailbox.content(self._uids[number - 1])

    async def update(self) -> int:
        """The UPDATE state (RFC 1939 section 6): remove what is marked, and
        show in IMAP, as Dovecot does, what was read.

        @return: how many messages were removed.
        @raise Temporary: none or some were.
        """
        read = self._marked(self.read - self.deleted)
        if read:
            await self._mailbox.store(read, FlagChange.ADD, frozenset({"\\Seen"}))
        deleted = self._marked(self.deleted)
        return len(await self._mailbox.expunge(deleted)) if deleted else 0

    def _marked(self, numbers: set[int]) -> list[int]:
        return [self._uids[number - 1] for number in sorted(numbers)]

    async def _fetch(self, number: int) -> None:
        """Bring a message, if it is there and not in a file, and those after it
        if the client reads in order."""
        numbers = [number]
        if number == self._last + 1:
            numbers += self._following(number)
        by_uid = {self._uids[each - 1]: each for each in numbers}
        messages = await self._mailbox.fetch(list(by_uid), frozenset({Part.OCTETS}))
        self._ahead = {
            by_uid[message.uid]: message.octets
            for message in messages
            if message.octets is not None
        }

    def _following(self, number: int) -> Iterator[int]:
        octets = self.size(number)
        last = min(number + _AHEAD_MESSAGES, len(self._uids) + 1)
        for following in range(number + 1, last):
            octets += self.size(following)
            if octets > _AHEAD_OCTETS:
                return
            if following not in self.deleted:
                yield following


async def open_maildrop(mailbox: IMailbox) -> Maildrop:
    """The maildrop of a mailbox as it is now.

    @raise NoSuchMailbox: it was deleted meanwhile.
    """
    rows = (await mailbox.changes(0)).rows
    uids = array("Q", (row.uid for row in rows))
    return Maildrop(mailbox, uids, array("Q", (row.size for row in rows)))
