"""The native store's search index: fast, late, never wrong."""

import os
import random
import signal
import subprocess
import sys
import unittest
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.store.test_native import ALICE, BOB, NativeCase
from twisted_mta.interfaces import IMailStore, ISearchable
from twisted_mta.mail import text, word
from twisted_mta.mail.account import Account
from twisted_mta.mail.criterion import Found, Place, TextCriterion
from twisted_mta.store import search_check, search_text, search_writer
from twisted_mta.store.native import NativeStore
from twisted_mta.store.search_file import SCHEMA, SearchFiles, connect
from twisted_mta.store.search_index import SearchIndex
from twisted_mta.store.search_indexer import Indexer
from twisted_mta.store.search_reader import SearchReader
from twisted_mta.store.search_text import Document
from twisted_mta.store.search_writer import SearchWriter
from twisted_mta.testing.search_contract import SearchContract
from twisted_mta.testing.store_case import appended

ROOT = Path(__file__).resolve().parent.parent.parent


class IndexCase(NativeCase):
    """A native store with an index, and its indexer in the test's hands."""

    async def store(self) -> NativeStore:
        await super().store()
        self.place = self.directory / "search"
        self.index = SearchIndex(reactor, self.place)
        self.addCleanup(self.index.close)
        self.addCleanup(self.is_true)
        self.indexer = self.new_indexer()
        return NativeStore(self.ledger, self.index)

    def new_indexer(self) -> Indexer:
        indexer = Indexer(reactor, self.ledger, self.place, rest=0)
        indexer.begin()
        self.addCleanup(indexer.stop)
        return indexer

    async def settle(self) -> None:
        self.assertTrue(await self.indexer.round())

    async def problems(self) -> list[str]:
        return await search_check.problems(reactor, self.ledger, self.place)

    async def is_true(self) -> None:
        """Whatever the test did, the index tells no lies."""
        self.assertEqual(await self.problems(), [])


class IndexContractTests(SearchContract, IndexCase):
    """L{SearchContract}, with an index that answers."""

    async def settle(self) -> None:
        await IndexCase.settle(self)

    async def build(self) -> tuple[IMailStore, Account, Account]:
        return await self.store(), ALICE, BOB


def mail(number: int, body: str = "") -> bytes:
    return f"Subject: number{number}\r\n\r\n{body}\r\n".encode()


class IndexTests(IndexCase):
    """What happens to an index."""

    async def filled(self, count: int = 30) -> None:
        """A mailbox with messages, indexed."""
        self.account = await (await self.store()).account(ALICE)
        for number in range(1, count + 1):
            await appended(self.account, octets=mail(number, "needle" * (number == 7)))
        self.mailbox = await self.account.open("INBOX")
        await self.settle()

    async def said(self, wanted: str = "needle") -> Found | None:
        (found,) = await self.mailbox.find([TextCriterion(Place.TEXT, wanted)])
        return found

    async def answers(self) -> None:
        self.assertEqual(await self.said(), Found(frozenset({7}), frozenset()))

    async def test_answers(self) -> None:
        """What is indexed is answered for, exactly."""
        await self.filled()
        await self.answers()
        self.assertEqual(
            await self.said("number1"),
            Found(frozenset({1, *range(10, 20)}), frozenset()),
        )
        self.assertIsNone(await self.said("ne"))

    async def test_without_an_index(self) -> None:
        """A store that has none does not pretend to, and one whose indexer has not
        begun says nothing."""
        await self.filled()
        account = await NativeStore(self.ledger).account(ALICE)
        self.assertFalse(ISearchable.providedBy(await account.open("INBOX")))
        elsewhere = SearchIndex(reactor, Path(self.mktemp()))
        self.addCleanup(elsewhere.close)
        account = await NativeStore(self.ledger, elsewhere).account(ALICE)
        self.mailbox = await account.open("INBOX")
        self.assertIsNone(await self.said())

    async def test_large_messages(self) -> None:
        """Content in files is indexed; of a message with too much text, it is
        known that it has to be looked at."""
        await self.filled(1)
        attachment = b"Content-Type: image/png\r\n\r\n" + b"\x00needle" * 20_000
        parts = b"\r\n--=\r\n\r\nneedle\r\n--=\r\n" + attachment + b"\r\n--=--\r\n"
        multipart = b'Content-Type: multipart/mixed; boundary="="\r\n\r\n' + parts
        words = b"".join(b"%d\r\n" % at for at in range(200_000))
        self.assertGreater(len(words), search_text.DOCUMENT_OCTETS)
        await appended(self.account, octets=multipart)
        await appended(self.account, octets=b"Subject: x\r\n\r\n" + words)
        await self.settle()
        self.assertEqual(await self.said(), Found(frozenset({2}), frozenset({3})))
        self.patch(search_text, "DOCUMENT_WORDS", 3)
        await appended(self.account, octets=mail(1, "one two three four five"))
        await self.settle()
        self.assertEqual(await self.said(), Found(frozenset({2}), frozenset({3, 4})))

    async def test_kept_over_a_restart(self) -> None:
        """An index that was closed in order is used again as it is, and by the
        process that comes next alone."""
        await self.filled()
        before = SearchFiles(self.place).vouched()
        await self.indexer.stop()
        self.assertIsNone(await self.said())
        self.indexer = self.new_indexer()
        await self.settle()
        self.assertEqual(SearchFiles(self.place).vouched(), before)
        await self.answers()

    async def test_one_writes(self) -> None:
        """A second process waits for the custody; both search."""
        await self.filled()
        second = self.new_indexer()
        self.assertFalse(await second.round())
        await self.answers()
        await self.indexer.stop()
        self.assertTrue(await second.round())
        await self.answers()

    async def damaged(self, damage) -> None:
        """While no process has it open, something happens to the index."""
        await self.filled()
        await self.indexer.stop()
        await self.index.close()
        (path,) = self.place.glob("*.sqlite3")
        damage(path)
        self.index = SearchIndex(reactor, self.place)
        self.addCleanup(self.index.close)
        account = await NativeStore(self.ledger, self.index).account(ALICE)
        self.mailbox = await account.open("INBOX")
        self.assertIsNone(await self.said())
        self.indexer = self.new_indexer()
        await self.settle()
        await self.answers()
        self.assertFalse(path.exists())

    async def test_deleted(self) -> None:
        """An index that was deleted is made anew."""
        await self.damaged(os.unlink)

    async def test_truncated(self) -> None:
        """So is one that was cut."""
        await self.damaged(lambda path: os.truncate(path, path.stat().st_size // 2))

    async def test_emptied(self) -> None:
        """And one of which nothing is left."""
        await self.damaged(lambda path: os.truncate(path, 0))

    async def test_garbled(self) -> None:
        """And one into which anything was written, however little."""
        await self.damaged(lambda path: garble(path, 1))

    async def test_garbled_after_a_crash(self) -> None:
        """A process that was killed leaves no word on how it left the index: then
        SQLite's check finds what is wrong with it."""

        def damage(path: Path) -> None:
            (self.place / "clean").unlink()
            garble(path, path.stat().st_size // 2)

        await self.damaged(damage)

    async def test_of_another_format(self) -> None:
        """An index of another version, or of another version of Unicode, is not
        used."""

        def damage(path: Path) -> None:
            (self.place / "clean").unlink()
            connection = apsw.Connection(str(path))
            connection.execute("UPDATE meta SET format = '0 0 0'")
            connection.close()

        await self.damaged(damage)

    async def test_damage_that_a_search_finds(self) -> None:
        """If SQLite says to a search that the file is damaged, nobody uses it
        until it was made anew."""
        await self.filled()
        path = SearchFiles(self.place).vouched()
        assert path is not None
        connection = apsw.Connection(str(path))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        garble(path, path.stat().st_size - 100, start=100)
        self.assertIsNone(await self.said())
        self.assertIsNone(SearchFiles(self.place).vouched())
        await self.settle()
        await self.answers()
        self.assertNotEqual(SearchFiles(self.place).vouched(), path)

    async def test_rebuild(self) -> None:
        """An operator has it made anew; until it is, it is not used."""
        await self.filled()
        before = SearchFiles(self.place).vouched()
        await search_check.rebuild(self.place)
        self.assertIsNone(await self.said())
        await self.settle()
        await self.answers()
        self.assertNotEqual(SearchFiles(self.place).vouched(), before)

    async def test_a_ledger_of_another_past(self) -> None:
        """A ledger that was restored gives modseqs again that the index has seen:
        it is not misled."""
        await self.filled()
        await self.indexer.stop()
        (path,) = self.place.glob("*.sqlite3")
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE account SET modseq = modseq + 1000")
        connection.close()
        (self.place / "clean").unlink()
        await appended(self.account, octets=mail(31, "needle"))
        self.indexer = self.new_indexer()
        await self.settle()
        self.assertEqual(await self.said(), Found(frozenset({7, 31}), frozenset()))

    async def test_what_went_is_collected(self) -> None:
        """Expunged emails, and whole accounts, leave the index."""
        await self.filled()
        await self.mailbox.expunge(range(1, 30))
        await self.settle()
        await self.indexer.collect()
        path = SearchFiles(self.place).vouched()
        assert path is not None
        reader = connect(path)
        self.addCleanup(reader.close)
        count = "SELECT COUNT(*) FROM document"
        self.assertEqual(reader.execute(count).fetchall(), [(1,)])
        self.assertEqual(await self.said(), Found(frozenset(), frozenset()))
        await self.ledger.write(self.remove_alice)
        await self.settle()
        await self.indexer.collect()
        self.assertEqual(reader.execute(count).fetchall(), [(0,)])
        self.assertEqual(reader.execute("SELECT * FROM account").fetchall(), [])

    def remove_alice(self, transaction) -> None:
        NativeStore(self.ledger).discard(transaction, ALICE.id)
        transaction.execute("DELETE FROM account WHERE id = ?", (ALICE.id,))

    async def test_words_that_went_are_collected(self) -> None:
        """When many emails have gone, so do the words that only they had."""
        self.patch(search_writer, "_SWEEP_SLACK", 0)
        self.patch(search_writer, "_SWEPT_AT_ONCE", 3)
        await self.filled()
        await self.mailbox.expunge(range(1, 30))
        await self.settle()
        await self.indexer.collect()
        path = SearchFiles(self.place).vouched()
        assert path is not None
        reader = connect(path)
        self.addCleanup(reader.close)
        words = [word for (word,) in reader.execute("SELECT text FROM word")]
        self.assertEqual(sorted(words), ["number30", "subject"])
        self.assertEqual(await self.said("number7"), Found(frozenset(), frozenset()))
        self.assertEqual(
            await self.said("number30"), Found(frozenset({30}), frozenset())
        )
        await appended(self.account, octets=mail(7))
        await self.settle()
        self.assertEqual(await self.said("umber7"), Found(frozenset({31}), frozenset()))

    async def test_problems(self) -> None:
        """A lie of each kind is found: a word too few, one too many, another day,
        an email left out."""
        await self.filled(3)
        for lie in (
            "INSERT INTO posting (rowid, words) VALUES ((SELECT number FROM document"
            " LIMIT 1), 'b999')",
            "DELETE FROM posting WHERE rowid = (SELECT number FROM document LIMIT 1)",
            "UPDATE document SET received = received + 1"
            " WHERE number = (SELECT number FROM document LIMIT 1)",
            "DELETE FROM document WHERE number = (SELECT number FROM document LIMIT 1)",
        ):
            self.assertEqual(await self.problems(), [])
            path = SearchFiles(self.place).vouched()
            connection = apsw.Connection(str(path))
            connection.execute(lie)
            connection.close()
            self.assertEqual(len(await self.problems()), 1, lie)
            await search_check.rebuild(self.place)
            await self.settle()

    async def test_command(self) -> None:
        """C{twisted-mta check --data} says a lie of the index, beside a server; with
        --repair the index is made anew, and is right then."""
        await self.filled(3)

        def checked(*more: str) -> tuple[int, str]:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "twisted_mta.cli.main", "check"),
                    *("--data", "--directory", str(self.directory), *more),
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            return done.returncode, done.stdout + done.stderr

        self.assertEqual(checked(), (0, "No problems.\n"))
        connection = apsw.Connection(str(SearchFiles(self.place).vouched()))
        connection.execute("DELETE FROM posting")
        connection.close()
        status, said = checked()
        self.assertEqual(status, 1)
        self.assertIn("(--repair: the index is made anew)\n", said)
        status, said = checked("--repair")
        self.assertEqual(status, 0)
        self.assertIn("(repaired: the index is made anew)\n", said)
        await self.settle()
        self.assertEqual(checked(), (0, "No problems.\n"))

    async def test_killed_while_it_writes(self) -> None:
        """A process that is killed within a transaction leaves what it committed
        before: the index lags, and goes on from there."""
        await self.filled(3)
        await self.indexer.stop()
        for number in range(4, 24):
            await appended(self.account, octets=mail(number, "needle" * (number == 7)))
        child = [sys.executable, "-c", _KILLED, str(self.directory.resolve())]
        ended = await deferToThread(
            subprocess.run,
            child,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(ended.returncode, -signal.SIGKILL, ended.stderr)
        self.assertEqual(ended.stdout.split(), ["added"] * 2)
        self.assertIsNone(await self.said())
        path = SearchFiles(self.place).newest()
        await self.is_true()
        self.indexer = self.new_indexer()
        await self.settle()
        await self.answers()
        self.assertEqual(SearchFiles(self.place).vouched(), path)

    async def test_in_the_background(self) -> None:
        """What comes is indexed without being asked for."""
        self.account = await (await self.store()).account(ALICE)
        self.mailbox = await self.account.open("INBOX")
        self.indexer.start()
        await appended(self.account, octets=mail(1, "needle"))
        while await self.said() != Found(frozenset({1}), frozenset()):
            pass


def garble(path: Path, octets: int, start: int | None = None) -> None:
    """Write nonsense into the middle of a file, its size and name kept."""
    with path.open("r+b") as file:
        file.seek((path.stat().st_size - octets) // 2 if start is None else start)
        file.write(random.Random(1).randbytes(octets))


ALPHABET = "abAB ,-ßıİé中\u0301"
DOCUMENTS = st.lists(st.text(ALPHABET, max_size=30), min_size=1, max_size=8)
NEEDLES = st.lists(st.text(ALPHABET, min_size=1, max_size=8), max_size=10)


# Indexes in batches of five, and dies within the third transaction.
_KILLED = """
import os, signal, sys
from pathlib import Path
from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from twisted_mta.ledger.ledger import Ledger
from twisted_mta.store import search_indexer, search_writer

search_indexer._BATCH = 5
search_indexer._GATHER_WORDS = 0
Writer = search_writer.SearchWriter
add, postings = Writer.add, Writer._postings
added = []

def counted(self, account, documents):
    add(self, account, documents)
    added.append(account)
    print("added", flush=True)

def killed(self, document):
    if len(added) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return postings(self, document)

Writer.add, Writer._postings = counted, killed

async def main(reactor):
    directory = Path(sys.argv[1])
    ledger = Ledger(reactor, directory)
    await ledger.open()
    indexer = search_indexer.Indexer(reactor, ledger, directory / "search")
    indexer.begin()
    await indexer.round()

task.react(lambda reactor: ensureDeferred(main(reactor)))
"""


class PropertyTests(unittest.TestCase):
    """The index against the texts themselves."""

    @settings(max_examples=60)
    @given(DOCUMENTS, NEEDLES, st.data())
    def test_finds_what_looking_finds(self, bodies, needles, data) -> None:
        """Each that matches is found, and if the answer is exact no other."""
        some = [
            body[at : at + data.draw(st.integers(1, 12))]
            for body in bodies
            if body
            for at in [data.draw(st.integers(0, len(body) - 1))]
        ]
        connection = apsw.Connection(":memory:")
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO meta VALUES ('', 0)")
        folded = [text.fold(body) for body in bodies]
        writer = SearchWriter(connection)
        writer.add(
            5,
            [
                Document(email, 1, 0, {"b": word.words(body), "h": set()})
                for email, body in enumerate(folded, 1)
            ],
        )
        wanted = [text.fold(each) for each in (*needles, *some)]
        answers = SearchReader(connection).find(
            5, [TextCriterion(Place.BODY, each) for each in wanted], 1000
        )
        assert answers is not None
        for each, answer in zip(wanted, answers.each, strict=True):
            if answer is None:
                continue
            expected = {at for at, body in enumerate(folded, 1) if each in body}
            self.assertLessEqual(expected, answer.emails, each)
            if answer.exact:
                self.assertEqual(expected, answer.emails, each)
