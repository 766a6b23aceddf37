"""A backup is what the ledger was at one moment, while mail flows; and what is
restored of it confuses no client."""

from __future__ import annotations

import os
import stat
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.ledger.audit.case import ALICE, LARGE, SMALL, AuditCase
from twisted_mta.errors import LedgerUnavailable
from twisted_mta.ledger import backup, collector
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.ledger.backup import Backup, CannotBackUp, Made
from twisted_mta.ledger.files import Files
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.ledger.restoration import MARKER
from twisted_mta.store.native import NativeStore
from twisted_mta.store.native_account import NativeAccount


class BackupCase(AuditCase):
    """L{target} is where a backup can be made."""

    async def setUp(self) -> None:
        await super().setUp()
        self.target = Path(self.mktemp()).absolute()

    def make(self, verify: bool = True, **options: object) -> Made:
        """Make a backup."""
        made = Backup(self.directory, self.target, **options).make(verify)  # type: ignore[arg-type]
        self.assertFalse(self.partial.exists())
        return made

    @property
    def partial(self) -> Path:
        return self.target.with_name(self.target.name + ".partial")

    def wrong(self, directory: Path) -> list[str]:
        """What an audit finds in a directory."""
        with closing(Audit(directory)) as audit:
            return [one.what for one, _ in audit.findings(False) if one.problem]

    async def opened(self, directory: Path) -> tuple[Ledger, NativeAccount]:
        """A ledger as a server that starts on a directory has it."""
        ledger = Ledger(reactor, directory)
        await ledger.open()
        self.addCleanup(ledger.close)
        return ledger, await NativeStore(ledger).account(ALICE)


class BackupTests(BackupCase):
    """Making one."""

    async def test_what_it_holds(self) -> None:
        """Rows and large content, for their owner alone, and no more."""
        before = self.dump(self.directory)
        self.assertEqual(self.make(), Made(self.size(), 1, 0, ()))
        self.assertEqual(self.dump(self.target), before)
        self.assertEqual(stat.S_IMODE(self.target.stat().st_mode), 0o700)
        for path in self.target.rglob("*"):
            if path.is_file() and path.name != MARKER:
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
        held = {path.name for path in self.target.iterdir() if path.is_file()}
        # Locks are of having looked through it.
        held = {name for name in held if not name.endswith((".lock", ".gate"))}
        self.assertEqual(held, {"ledger.sqlite3", MARKER})

    def size(self) -> int:
        return sum(
            int(str(octets))
            for (octets,) in self.sql(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            )
        )

    def dump(self, directory: Path) -> list[object]:
        """Every row, and every file."""
        connection = apsw.Connection(str(directory / "ledger.sqlite3"))
        with closing(connection):
            tables = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            ).fetchall()
            rows = [
                (table, connection.execute(f"SELECT * FROM {table}").fetchall())
                for (table,) in tables
            ]
        files = Files(directory / "content")
        return [rows, [(id, files.read(id, 0, 1 << 20)) for id in files.ids()]]

    async def test_large_content_is_not_copied(self) -> None:
        """On the same file system it gets a second name, which stays when the
        ledger's own goes; where that is not wanted or not possible, it is copied."""
        self.make()
        copy = self.target / self.file(self.large).relative_to(self.directory)
        self.assertTrue(copy.samefile(self.file(self.large)))
        await (await self.account.open("INBOX")).expunge([2])
        await self.ledger.collect()
        self.assertFalse(self.file(self.large).exists())
        self.assertEqual(copy.read_bytes(), LARGE)
        self.assertEqual(self.wrong(self.target), [])

    async def test_copies(self) -> None:
        """As C{--copy} asks."""
        made = self.make(link=False)
        self.assertEqual((made.linked, made.copied), (0, 1))
        copy = self.target / self.file(self.large).relative_to(self.directory)
        self.assertFalse(copy.samefile(self.file(self.large)))
        self.assertEqual(copy.read_bytes(), LARGE)

    async def test_another_file_system(self) -> None:
        """Has copies."""

        def link(file: Path, copy: Path) -> None:
            raise OSError(18, "Invalid cross-device link")

        self.patch(os, "link", link)
        made = self.make()
        self.assertEqual((made.linked, made.copied), (0, 1))
        self.assertEqual(made.problems, ())

    async def test_while_mail_flows(self) -> None:
        """Each backup is sound and whole, whatever is stored, moved, removed and
        collected while it is made, and holds what was there before it began."""
        self.patch(collector, "_WAIT_S", 0.0)
        self.patch(collector, "_HELD_S", 0.0)
        self.patch(backup, "_STEP", 1)
        ended = False

        async def client(octets: bytes) -> None:
            inbox = await self.account.open("INBOX")
            while not ended:
                uids = [await self.append(octets) for _ in range(3)]
                await inbox.move(uids[:1], "Archive")
                await inbox.expunge(uids)

        clients = [Deferred.fromCoroutine(client(one)) for one in (SMALL, LARGE) * 2]
        targets = [self.target.with_name(f"backup{number}") for number in range(5)]
        for target in targets:
            self.target = target
            made = await deferToThread(self.make)
            self.assertEqual(made.problems, ())
        ended = True
        await gatherResults(clients)
        for target in targets:
            self.assertEqual(self.wrong(target), [])
            _, account = await self.opened(target)
            for uid, octets in ((1, SMALL), (2, LARGE)):
                _, content = await (await account.open("INBOX")).content(uid)
                self.assertEqual(await content.read(0, len(LARGE)), octets)

    async def test_collected_meanwhile(self) -> None:
        """Content that is released after the rows were copied, and before the files
        are, is not collected until they are."""
        collected: list[bool] = []

        async def expunge() -> None:
            await (await self.account.open("INBOX")).expunge([2])
            await self.ledger.collect()
            collected.append(self.file(self.large).exists())

        def look(what: str, done: int, of: int) -> None:
            if what == "files" and not collected:
                blockingCallFromThread(
                    reactor, lambda: Deferred.fromCoroutine(expunge())
                )

        made = await deferToThread(lambda: self.make(look=look))
        self.assertEqual((made.problems, collected), ((), [True]))
        await self.ledger.collect()
        self.assertFalse(self.file(self.large).exists())
        self.assertEqual(self.wrong(self.target), [])

    async def test_damage_is_said(self) -> None:
        """The backup of a ledger that is damaged is made, and says so: files that
        are gone or cut always, octets when it reads them."""
        self.file(self.large).write_bytes(LARGE[:10])
        self.assertIn("has 10 octets", self.make(False).problems[0])
        self.target = self.target.with_name("second")
        self.file(self.large).write_bytes(LARGE.replace(b"0", b"1"))
        self.assertEqual(self.make(False).problems, ())
        self.target = self.target.with_name("third")
        (problem,) = self.make(True).problems
        self.assertIn("not those that came", problem)
        self.target = self.target.with_name("fourth")
        self.file(self.large).unlink()
        (problem,) = self.make(False).problems
        self.assertIn(f"its file of {len(LARGE)} octets is gone", problem)


class RefusedTests(BackupCase):
    """No backup, and nothing left of it."""

    def assert_refused(self, why: str, **options: object) -> None:
        """It cannot be made, says why, and leaves nothing that was not there."""
        with self.assertRaisesRegex(CannotBackUp, why):
            self.make(**options)

    async def test_something_is_there(self) -> None:
        """It is left alone; an empty directory is taken."""
        self.target.mkdir()
        self.make()
        before = list(self.target.iterdir())
        self.assert_refused("is there already")
        self.assertEqual(list(self.target.iterdir()), before)

    async def test_an_earlier_one_did_not_end(self) -> None:
        """What it left is not touched, and named."""
        self.partial.mkdir()
        with self.assertRaisesRegex(CannotBackUp, "partial is there"):
            Backup(self.directory, self.target).make()
        self.assertTrue(self.partial.exists())

    async def test_no_ledger(self) -> None:
        """There is nothing to back up."""
        self.directory = self.directory.with_name("elsewhere")
        self.assert_refused("holds no ledger")

    async def test_nowhere(self) -> None:
        """Nothing is made above the directory."""
        self.target = self.target / "below" / "it"
        self.assert_refused("cannot be made: No such file")

    async def test_no_room(self) -> None:
        """Says how much would be needed; the mail's reserve is left."""
        self.free(1 << 20)
        self.assert_refused("1 MB left, 10 are needed", reserve=10 << 20)
        self.assertFalse(self.target.exists())

    async def test_room_runs_out(self) -> None:
        """Mail goes on, and the backup does not."""
        octets = 100 << 20

        def look(what: str, done: int, of: int) -> None:
            self.free(4 << 20)

        self.free(octets)
        self.assert_refused("was given up", reserve=10 << 20, look=look)
        await self.append(SMALL)

    def free(self, octets: int) -> None:
        """The disk has so much left."""
        found = SimpleNamespace(f_bavail=octets, f_frsize=1)
        self.patch(os, "statvfs", lambda path: found)

    async def test_interrupted(self) -> None:
        """Nothing is left of it."""

        def look(what: str, done: int, of: int) -> None:
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.make(look=look)
        self.assertFalse(self.partial.exists() or self.target.exists())

    async def test_a_damaged_table(self) -> None:
        """Is copied as it is, and said."""
        ((root,),) = self.sql(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'placement'"
        )
        await self.ledger.close()
        with (self.directory / "ledger.sqlite3").open("r+b") as file:
            file.seek((int(str(root)) - 1) * 8192)
            file.write(b"damage" * 100)
        self.assertTrue(self.make(False).problems)

    async def test_what_is_no_ledger(self) -> None:
        """Cannot be copied."""
        await self.ledger.close()
        (self.directory / "ledger.sqlite3").write_bytes(b"something else" * 1_000)
        with self.assertRaisesRegex(LedgerUnavailable, "cannot be copied"):
            self.make()


class RestorationTests(BackupCase):
    """Starting on a backup."""

    async def validities(self, account: NativeAccount) -> dict[str, int]:
        return {
            info.name: (await account.status(info.name)).uidvalidity
            for info in await account.mailboxes()
        }

    async def test_uids_are_not_taken_for_others(self) -> None:
        """A UID that was given after the backup is given again after it was
        restored, under another UIDVALIDITY, larger than any before."""
        self.make()
        uid = await self.append(SMALL)
        await self.account.create("New")
        before = await self.validities(self.account)
        _, account = await self.opened(self.target)
        after = await self.validities(account)
        self.assertEqual(before.keys() - after.keys(), {"New"})
        for name, validity in after.items():
            self.assertGreater(validity, before[name])
        self.assertEqual(len(set(after.values())), len(after))
        self.assertEqual(await self.append(LARGE, account), uid)
        later = await account.create("Later")
        self.assertGreater(
            (await account.status(later.name)).uidvalidity, max(after.values())
        )

    async def test_once(self) -> None:
        """Only the first start does so, and an audit does not."""
        self.make()
        self.assertTrue((self.target / MARKER).exists())
        ledger, account = await self.opened(self.target)
        self.assertFalse((self.target / MARKER).exists())
        before = await self.validities(account)
        await ledger.close()
        self.patch(time, "time", lambda: 9_000_000_000.0)
        _, account = await self.opened(self.target)
        self.assertEqual(await self.validities(account), before)

    async def test_restored_in_another_way(self) -> None:
        """Whoever puts back a snapshot of the disk makes the file by hand."""
        before = await self.validities(self.account)
        await self.ledger.close()
        (self.directory / MARKER).touch()
        _, account = await self.opened(self.directory)
        after = await self.validities(account)
        self.assertTrue(all(after[name] > before[name] for name in before))

    async def test_what_waits_goes_on(self) -> None:
        """The queue is what it was."""
        self.make()
        ledger, _ = await self.opened(self.target)
        found = await ledger.read(
            lambda t: list(t.execute("SELECT address FROM recipient"))
        )
        self.assertEqual(found, [("eve@b.test",)])
