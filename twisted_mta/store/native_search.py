"""A mailbox of the native store with an index: from the emails that the index
knows to the messages of the mailbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zope.interface import implementer

from twisted_mta.interfaces import ILedger, ISearchable, ITransaction
from twisted_mta.mail.criterion import Criterion, Found
from twisted_mta.store.native_mailbox import NativeMailbox
from twisted_mta.store.native_rows import Box
from twisted_mta.store.search_index import SearchIndex
from twisted_mta.store.search_reader import Answers

# Emails that are looked up one by one, 5 us each; for more, the mailbox is read
# through, 0.5 us a message.
_ONE_BY_ONE = 2000

# Emails of one statement.
_AT_ONCE = 100


@implementer(ISearchable)
class SearchableMailbox(NativeMailbox):
    """See L{ISearchable}."""

    def __init__(
        self, ledger: ILedger, account: int, box: Box, index: SearchIndex
    ) -> None:
        super().__init__(ledger, account, box)
        self._index = index

    async def find(self, criteria: Sequence[Criterion]) -> Sequence[Found | None]:
        """See L{ISearchable.find}."""
        worth = (await self._ledger.lookup(self._box)).messages
        answered = await self._index.find(self._account, criteria, worth)
        if answered is None:
            return [None] * len(criteria)
        answers, path = answered
        # What the index had not seen when it answered was placed after that.
        new, there = await self._ledger.read(
            lambda transaction: uids(transaction, self._account, self.id, answers)
        )
        unknown = await self._index.unknown(self._account, list(new), answers.top, path)
        unseen = [uid for email in unknown for uid in new[email]]
        return found(answers, there, unseen)


def uids(
    transaction: ITransaction, account: int, mailbox: int, answers: Answers
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Where emails are in a mailbox.

    @return: UIDs by email: of those that the index may not know, and of those
        that it answered with.
    """
    owner = account, mailbox
    new: dict[int, list[int]] = {}
    for uid, email in transaction.execute(
        "SELECT uid, email_id FROM placement"
        " WHERE account_id = ? AND mailbox_id = ? AND modseq > ?",
        (*owner, answers.modseq),
    ):
        new.setdefault(email, []).append(uid)
    wanted = answers.large.union(*[each.emails for each in answers.each if each])
    found: dict[int, list[int]] = {}
    if len(wanted) > _ONE_BY_ONE:
        for uid, email in transaction.execute(
            "SELECT uid, email_id FROM placement"
            " WHERE account_id = ? AND mailbox_id = ?",
            owner,
        ):
            if email in wanted:
                found.setdefault(email, []).append(uid)
        return new, found
    emails = sorted(wanted)
    for at in range(0, len(emails), _AT_ONCE):
        some = emails[at : at + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        # The + keeps the planner from reading the mailbox through.
        for uid, email in transaction.execute(
            "SELECT uid, email_id FROM placement WHERE account_id = ?"
            f" AND email_id IN ({marks}) AND +mailbox_id = ?",
            (account, *some, mailbox),
        ):
            found.setdefault(email, []).append(uid)
    return new, found


def found(
    answers: Answers,
    uids: dict[int, list[int]],
    unseen: Iterable[int],
) -> list[Found | None]:
    """What the index says of a mailbox's messages.

    @param uids: of the emails it answered with, as L{uids} gives them.
    @param unseen: UIDs of messages that it has not seen.
    """
    look = frozenset(unseen).union(_placed(answers.large, uids))
    said: list[Found | None] = []
    for answer in answers.each:
        if answer is None:
            said.append(None)
            continue
        matching = frozenset(_placed(answer.emails, uids))
        if answer.exact:
            sure = matching - look if look else matching  # no copy of 100,000
            said.append(Found(sure, look))
        else:
            said.append(Found(frozenset(), matching | look))
    return said


def _placed(emails: Iterable[int], uids: dict[int, list[int]]) -> list[int]:
    return [uid for email in emails for uid in uids.get(email, ())]
