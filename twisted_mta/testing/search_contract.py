"""The contract of mailboxes that are L{ISearchable}: an index is only ever faster.

A backend that has one derives its test case from this class as well.
"""

from __future__ import annotations

import itertools

from twisted_mta.interfaces import IAccount, IMailbox, ISearchable
from twisted_mta.mail import date, header, mime, text
from twisted_mta.mail.criterion import (
    Criterion,
    DayCriterion,
    Found,
    Place,
    TextCriterion,
)
from twisted_mta.mail.placement import FlagChange
from twisted_mta.testing.store_case import MULTIPART, SEEN, StoreCase, appended

DAY = 86_400.0

MESSAGES = (
    MULTIPART,
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus K\xc3\xb6ln\r\n"
    b"From: Ann <ann@example.test>\r\nTo: Bob <bob@example.test>, c@example.test\r\n"
    b"Date: Fri, 1 Mar 2002 23:30:00 -0800\r\nX-Empty:\r\n\r\nText, plain text.\r\n",
    b"Subject: one\r\nSubject: two\r\nCc: d@example.test\r\n\r\nThe quarterly report.",
    b"Subject: html\r\nContent-Type: text/html; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
    b"PHA+R3L832UgdG8gPGI+YWxsPC9iPjwvcD4=\r\n",
    b"Subject: long\r\nMessage-ID: <long.1@example.test>\r\n\r\n"
    + b"0123456789abcdef" * 20
    + b" end\r\n",
    b"Content-Type: message/rfc822\r\n\r\nSubject: within\r\n\r\nanother report\r\n",
    b"no header, no end",
    b"",
)

TEXTS = ("report", "grüsse", "GRÜSSE", "grüße", "text, plain", "y r", "xt", "example")
MORE = ("0123", "cdef0123456789abcdef0123456789abcdef01234567 end", "within", "p>gr")
NAMES = (b"subject", b"from", b"to", b"cc", b"x-empty", b"message-id", b"empty", b"x")
PIECES = ("", "an", "ann", "one\ntwo", "one", "@example.test>, c", "long.1@", "bob")


def criteria() -> list[Criterion]:
    """Every kind of them."""
    found: list[Criterion] = [
        TextCriterion(place, text.fold(each))
        for place in (Place.BODY, Place.TEXT)
        for each in (*TEXTS, *MORE, *PIECES[1:])
    ]
    found += [
        TextCriterion(Place.FIELD, each, name)
        for name, each in itertools.product(NAMES, PIECES)
    ]
    day = date.day_of(DAY * 12_000).toordinal()
    sent = 730_910  # 2002-03-01
    for first, last in ((1, day), (day, day), (day + 1, 3_652_059)):
        found.append(DayCriterion(False, first, last))
    for first, last in ((1, sent), (sent, sent), (sent + 1, 3_652_059)):
        found.append(DayCriterion(True, first, last))
    return found


def matches(octets: bytes, received_at: float, criterion: Criterion) -> bool:
    """Whether a message matches, by looking at it."""
    block = octets[: header.body_start(octets)]
    if isinstance(criterion, DayCriterion):
        if not criterion.sent:
            day = date.day_of(received_at)
        elif (said := date.parse(header.first(block, b"date") or b"")) is not None:
            day = said.day
        else:
            return False
        return criterion.first <= day.toordinal() <= criterion.last
    if criterion.place is Place.FIELD:
        if not criterion.text:
            return text.has_field(block, criterion.field)
        return criterion.text in text.header_text(block, criterion.field)
    pulled = text.pull_texts(mime.scan(octets))
    bodies = []
    step = next(pulled, None)
    while step is not None:
        try:
            if isinstance(step, str):
                bodies.append(step)
                step = next(pulled)
            else:
                step = pulled.send(octets[step[0] : step[1]])
        except StopIteration:
            break
    if criterion.place is Place.TEXT:
        bodies.append(text.block_text(block))
    return any(criterion.text in each for each in bodies)


class SearchContract(StoreCase):
    """L{ISearchable}."""

    async def settle(self) -> None:
        """To be overridden: when this returns, an index that lags has caught
        up."""

    async def searchable(self, account: IAccount, name: str = "INBOX") -> ISearchable:
        """A mailbox to be searched."""
        return ISearchable(await account.open(name))

    async def right(self, mailbox: ISearchable, there: dict[int, bytes]) -> int:
        """What the index says is right, whatever it says.

        @param there: messages by UID; they came on days since 12,000.
        @return: for how many messages it said neither yes nor no, all criteria
            together.
        """
        asked = criteria()
        unsure = 0
        for criterion, found in zip(asked, await mailbox.find(asked), strict=True):
            said = found or Found(frozenset(), frozenset(there))
            expected = {
                uid
                for uid, octets in there.items()
                if matches(octets, DAY * (12_000 + uid), criterion)
            }
            self.assertLessEqual(said.sure, expected, criterion)
            self.assertLessEqual(expected, said.sure | said.unsure, criterion)
            self.assertLessEqual(said.sure | said.unsure, there.keys(), criterion)
            unsure += len(said.unsure)
        return unsure

    async def put(self, account: IAccount, name: str, first: int) -> dict[int, bytes]:
        """All messages into a mailbox whose next UID is C{first}."""
        return {
            uid: octets
            for uid, octets in enumerate(MESSAGES, first)
            if await appended(account, name, octets, SEEN, DAY * (12_000 + uid))
        }

    async def test_answers_are_right(self) -> None:
        """Before the index has seen the messages, and after; then it answers."""
        account = await self.open_account()
        mailbox = await self.searchable(account)
        there = await self.put(account, "INBOX", 1)
        before = await self.right(mailbox, there)
        await self.settle()
        after = await self.right(mailbox, there)
        self.assertLess(after, before / 2)

    async def test_what_came_since(self) -> None:
        """Messages that the index has not seen have to be looked at, and those
        whose flags have changed are none of them."""
        account = await self.open_account()
        mailbox = await self.searchable(account)
        there = await self.put(account, "INBOX", 1)
        await self.settle()
        settled = await self.right(mailbox, there)
        opened = await account.open("INBOX")
        await opened.store(list(there), FlagChange.REMOVE, SEEN)
        self.assertEqual(await self.right(mailbox, there), settled)
        there |= await self.put(account, "INBOX", len(there) + 1)
        self.assertGreater(await self.right(mailbox, there), settled)

    async def test_other_mailboxes(self) -> None:
        """An answer is about one mailbox; a copy is found where it is, and what
        was moved or expunged is found there no more."""
        account = await self.open_account()
        inbox: IMailbox = await account.open("INBOX")
        mailbox = await self.searchable(account)
        there = await self.put(account, "INBOX", 1)
        await account.create("Other")
        other = await self.searchable(account, "Other")
        await self.right(other, {})
        await self.settle()
        copied = await inbox.copy([1, 2, 3], "Other")
        moved = await inbox.move([4, 5], "Other")
        await inbox.expunge([1])
        for settled in (False, True):
            if settled:
                await self.settle()
            here = {uid: there[uid] for uid in there if uid not in (1, 4, 5)}
            await self.right(mailbox, here)
            for criterion in (TextCriterion(Place.TEXT, "report"),):
                (found,) = await other.find([criterion])
                said = found or Found(frozenset(), frozenset(range(1, 6)))
                pairs = [*copied.pairs, *moved.pairs]
                expected = {
                    to for uid, to in pairs if matches(there[uid], 0, criterion)
                }
                self.assertLessEqual(said.sure, expected)
                self.assertLessEqual(expected, said.sure | said.unsure)

    async def test_other_accounts(self) -> None:
        """Nobody's mail is found in another's mailbox."""
        store, alice, bob = await self.build()
        hers, his = await store.account(alice), await store.account(bob)
        there = await self.put(hers, "INBOX", 1)
        mailbox = await self.searchable(his)
        await self.settle()
        await self.right(mailbox, {})
        await self.right(await self.searchable(hers), there)
