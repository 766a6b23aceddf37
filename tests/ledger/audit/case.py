"""A ledger with something in every table, to be damaged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apsw

from tests.ledger.case import LedgerCase
from twisted_mta.interfaces import ITransaction
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.ledger.audit.finding import Finding
from twisted_mta.mail.account import Account
from twisted_mta.mail.address import Address
from twisted_mta.mail.ids import to_text
from twisted_mta.store.native import NativeStore
from twisted_mta.store.native_account import NativeAccount

ALICE = Account(1, Address("alice", "example.test"))
SMALL = b"Subject: small\r\n\r\nSmall.\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 18_000

_QUEUED = (
    "INSERT INTO queued VALUES (70, {content}, 20, 0, x'', 'ann@a.test',"
    ' \'{{"recipients": ["eve@b.test"]}}\', 0)'
)
_HOP = (
    "INSERT INTO hop (id, queued_id, agent, next_hop, held, due, lease, attempts,"
    " warned) VALUES (71, 70, 'smtp', 'b.test', 1, 0, '', 0, 0)"
)
_RECIPIENT = "INSERT INTO recipient VALUES (71, 'eve@b.test', '', '', '', 0, '')"


def exists(transaction: ITransaction) -> None:
    """Make alice, with her mailboxes, as the directory does."""
    transaction.execute(
        "INSERT INTO account (id, address, address_key, password, created_at, modseq)"
        " VALUES (1, 'alice@example.test', 'alice@example.test', '', 0, 1)"
    )


class AuditCase(LedgerCase):
    """Alice has a small message (UID 1) and a large one (UID 2) in her INBOX, the
    first of them also in Archive; a third one waits for eve.

    @ivar small: content of the first, by id.
    @ivar large: of the second.
    @ivar waiting: of the third.
    """

    async def setUp(self) -> None:
        await super().setUp()
        store = NativeStore(self.ledger)

        def unit(transaction: ITransaction) -> None:
            exists(transaction)
            store.provision(transaction, ALICE.id)

        await self.ledger.write(unit)
        self.account = await store.account(ALICE)
        await self.append(SMALL)
        await self.append(LARGE)
        await (await self.account.open("INBOX")).copy([1], "Archive")
        waiting = await self.finished(b"Subject: waits\r\n\r\n")

        def enqueue(transaction: ITransaction) -> int:
            id = waiting.take(transaction)
            for sql in (_QUEUED.format(content=id), _HOP, _RECIPIENT):
                transaction.execute(sql)
            return id

        self.waiting = await self.ledger.write(enqueue)
        waiting.abort()
        self.small, self.large = [
            id for (id,) in self.sql("SELECT content_id FROM email ORDER BY id")
        ]

    async def append(self, octets: bytes, account: NativeAccount | None = None) -> int:
        """A message in INBOX; its UID."""
        content = await self.finished(octets)
        try:
            to = account or self.account
            return (await to.append("INBOX", content, frozenset(), 0.0)).uid
        finally:
            content.abort()

    def sql(self, *statements: str) -> list[tuple[apsw.SQLiteValue, ...]]:
        """What these give, run as another program would."""
        connection = apsw.Connection(str(self.directory / "ledger.sqlite3"))
        with closing(connection):
            return [row for one in statements for row in connection.execute(one)]

    def file(self, content: int) -> Path:
        """The file of a content."""
        return self.directory / "content" / f"{content & 255:02x}" / to_text(content)

    def audit(self, repair: bool = False) -> Sequence[tuple[Finding, bool]]:
        """All that is found, and whether it was repaired."""
        with closing(Audit(self.directory)) as audit:
            return [
                (finding, done)
                for finding, done in audit.findings(repair)
                if finding.problem
            ]

    def assert_found(self, *expected: str, repair: bool = False) -> None:
        """These and nothing else are found, in any order; C{repair}: and put
        right, so that nothing is found afterwards."""
        for attempt in (False, True) if repair else (False,):
            found = self.audit(attempt)
            said = sorted(finding.what for finding, _ in found)
            self.assertEqual(said, sorted(expected))
            self.assertEqual([done for _, done in found], [attempt] * len(found))
        if repair:
            self.assertEqual(self.audit(), [])

    def assert_lost(self, *expected: str) -> None:
        """These and nothing else are found, and cannot be put right."""
        for attempt in (False, True):
            found = self.audit(attempt)
            self.assertEqual(sorted(one.what for one, _ in found), sorted(expected))
            for finding, done in found:
                self.assertFalse(done)
                self.assertRegex(finding.remedy, "cannot be repaired.*backup")
