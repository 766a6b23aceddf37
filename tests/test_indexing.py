"""L{twisted_mta.indexing}: the indexer's process beside a server."""

import os
import signal

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher

from tests.store.test_native import ALICE, NativeCase
from twisted_mta.indexing import Indexing
from twisted_mta.interfaces import ISearchable
from twisted_mta.mail.criterion import Found, Place, TextCriterion
from twisted_mta.store.native import NativeStore
from twisted_mta.store.search_index import SearchIndex
from twisted_mta.testing.store_case import appended


def _hear(said: list[str]) -> ILogObserver:
    """An observer of the log."""
    return lambda event: said.append(formatEvent(event))


class IndexingTests(NativeCase):
    """What is put into a mailbox here is found by the index of another process."""

    async def setUp(self) -> None:
        await self.store()
        self.index = SearchIndex(reactor, self.directory / "search")
        self.addCleanup(self.index.close)
        self.account = await NativeStore(self.ledger, self.index).account(ALICE)
        self.indexing = Indexing(reactor, self.directory, self.directory / "search")
        self.addCleanup(self.indexing.stop, 30.0)
        self.indexing.start()

    async def put(self, word: str) -> None:
        await appended(self.account, octets=b"Subject: %b\r\n\r\n" % word.encode())

    async def found(self, word: str, uids: set[int]) -> None:
        """Wait until the index says where a word is, and nothing else."""
        wanted = [TextCriterion(Place.TEXT, word)]
        mailbox = ISearchable(await self.account.open("INBOX"))
        while await mailbox.find(wanted) != [Found(frozenset(uids), frozenset())]:
            await deferLater(reactor, 0.05)

    async def test_indexes(self) -> None:
        """Mail is indexed, and what comes later as well, in a process of lower
        priority than ours."""
        await self.put("first")
        await self.found("first", {1})
        await self.put("second")
        await self.found("second", {2})
        pid = self.indexing.pid
        self.assertNotEqual(pid, os.getpid())
        here = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertGreater(os.getpriority(os.PRIO_PROCESS, pid), here)

    async def test_killed(self) -> None:
        """One that is killed is replaced, and indexes what came meanwhile."""
        await self.put("first")
        await self.found("first", {1})
        pid = self.indexing.pid
        os.kill(pid, signal.SIGKILL)
        await self.put("second")
        await self.found("second", {2})
        self.assertNotEqual(self.indexing.pid, pid)

    async def test_terminated(self) -> None:
        """So is one that gets a SIGTERM: it ends by itself, with a status of 0."""
        await self.put("first")
        await self.found("first", {1})
        pid = self.indexing.pid
        said: list[str] = []
        self.addCleanup(globalLogPublisher.removeObserver, hear := _hear(said))
        globalLogPublisher.addObserver(hear)
        os.kill(pid, signal.SIGTERM)
        await self.put("second")
        await self.found("second", {2})
        self.assertNotEqual(self.indexing.pid, pid)
        self.assertTrue(any("exit status 0" in line for line in said), said)

    async def test_stopped(self) -> None:
        """It ends when it is told to; then nobody vouches for the index, and
        searches read."""
        await self.put("first")
        await self.found("first", {1})
        pid = self.indexing.pid
        await self.indexing.stop(30.0)
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        mailbox = ISearchable(await self.account.open("INBOX"))
        wanted = [TextCriterion(Place.TEXT, "first")]
        self.assertEqual(await mailbox.find(wanted), [None])
