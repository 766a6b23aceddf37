"""What the memory store remembers: emails, and boxes in which they are placed.

Emails and placements are values, a box is not: who changes it sets its modseq first
and calls its watchers last. It trusts its callers, which are L{the store
<twisted_mta.store.memory>} alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from twisted_mta import errors
from twisted_mta.mail import header
from twisted_mta.mail.placement import Message, Part
from twisted_mta.mail.summary import Summary

#: Different keywords in a mailbox (Cyrus: MAX_USER_FLAGS 128).
MAX_KEYWORDS = 128

#: Messages larger than this are given out as content, not as octets, as by a
#: store that keeps them in files.
INLINE_OCTETS = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredEmail:
    """An immutable message, shared by its copies."""

    id: int
    thread: int
    prefix: bytes
    octets: bytes
    received_at: float
    summary: Summary

    @property
    def size(self) -> int:
        return len(self.prefix) + len(self.octets)


@dataclass(frozen=True, slots=True)
class Placement:
    """An email in a mailbox."""

    email: StoredEmail
    modseq: int
    flags: frozenset[str]


@dataclass(slots=True)
class Box:
    """What a mailbox is; L{MemoryMailbox
    <twisted_mta.store.memory.MemoryMailbox>} is what one may do with it.

    @ivar vanished: modseq by UID.
    """

    id: int
    name: str
    special_use: str
    uidvalidity: int
    modseq: int
    uidnext: int = 1
    recent_uid: int = 1
    gone: bool = False
    placements: dict[int, Placement] = field(default_factory=dict)
    vanished: dict[int, int] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def octets(self) -> int:
        return sum(placement.email.size for placement in self.placements.values())

    def add(self, email: StoredEmail, flags: frozenset[str]) -> int:
        uid = self.uidnext
        self.uidnext += 1
        self.placements[uid] = Placement(email, self.modseq, flags)
        return uid

    def remove(self, uid: int) -> None:
        del self.placements[uid]
        self.vanished[uid] = self.modseq

    def existing(self, uids: Iterable[int]) -> list[int]:
        return sorted({uid for uid in uids if uid in self.placements})

    def room_for(self, flags: frozenset[str]) -> None:
        """@raise TooMany: with these, there were too many keywords."""
        keywords = {flag for flag in flags if not flag.startswith("\\")}
        if not keywords:
            return
        for placement in self.placements.values():
            keywords |= placement.flags
        if sum(not flag.startswith("\\") for flag in keywords) > MAX_KEYWORDS:
            raise errors.TooMany("There are too many keywords in this mailbox")

    def notify(self) -> None:
        """Tell all who watch it."""
        for callback in list(self.watchers):
            callback()


def message(uid: int, placement: Placement, parts: frozenset[Part]) -> Message:
    """What is asked for of a message, as L{IMailbox.fetch
    <twisted_mta.interfaces.IMailbox.fetch>} gives it."""
    email = placement.email
    summary = email.summary
    sectioned = not parts.isdisjoint({Part.SECTIONS, Part.HEADER, Part.OCTETS})
    structured = Part.STRUCTURE in parts
    whole = email.prefix + email.octets
    header_end = len(email.prefix) + header.body_start(email.octets)
    inline = Part.OCTETS in parts and email.size <= INLINE_OCTETS
    return Message(
        uid=uid,
        modseq=placement.modseq,
        flags=placement.flags,
        size=email.size,
        received_at=email.received_at,
        email=email.id,
        thread=email.thread,
        envelope=summary.envelope if Part.ENVELOPE in parts else None,
        bodystructure=summary.bodystructure if structured else None,
        body=summary.body if structured else None,
        sections=summary.sections if Part.SECTIONS in parts else None,
        prefix=len(email.prefix) if sectioned else 0,
        header=whole[:header_end] if Part.HEADER in parts else None,
        octets=whole if inline else None,
    )
