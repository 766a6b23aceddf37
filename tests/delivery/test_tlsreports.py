"""How TLS went: counted, and told the day after (RFC 8460)."""

from __future__ import annotations

import email
import gzip
import json

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.delivery.fakes import ALICE, DEFERRED, HOST, Office, TestCase
from tests.delivery.peer import Names
from twisted_mta.delivery import tlsreports
from twisted_mta.delivery.chore import Chore
from twisted_mta.delivery.tlsreports import TlsReports
from twisted_mta.delivery.tlsresults import TlsResults
from twisted_mta.errors import LedgerUnavailable, ResolverUnavailable
from twisted_mta.interfaces import ITlsResults
from twisted_mta.mail.envelope import Handling
from twisted_mta.mail.tlsreport import Failure, Kind, Policy, Submitter
from twisted_mta.net.https import Answer, Unanswered

NONE = Policy(Kind.NONE, "elsewhere.test")
STS = Policy(Kind.STS, "elsewhere.test", ("version: STSv1",), ("*.elsewhere.test",))
WRONG = Failure("certificate-expired", "192.0.2.1", "mx.elsewhere.test", "192.0.2.2")

DAY = 86400
BY = Submitter("Here", "tls@example.test", "mailto:us@example.test", HOST)
MAIL = b"v=TLSRPTv1; rua=mailto:reports@elsewhere.test"
WEB = b"v=TLSRPTv1; rua=https://web.test/tls?a=b"


class Web:
    """Remembers what was brought."""

    def __init__(self):
        self.says = Answer(201, "", b"")
        self.brought = []

    async def post(self, host, path, type, body, timeout_s):
        self.brought.append((host, path, type, body, timeout_s))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class ResultsCase(TestCase):
    """An office where sessions are counted."""

    def setUp(self):
        self.office = Office()
        self.clock, self.ledger = self.office.clock, self.office.ledger
        self.clock.advance(DAY - self.clock.seconds() % DAY)  # it is midnight
        self.today = int(self.clock.seconds() // DAY)
        self.results = TlsResults(self.clock, self.ledger, most=4, day_most=8)

    def counted(self, domain="elsewhere.test", policy=STS, failure=None, times=1):
        for _ in range(times):
            self.results.count(domain, policy, failure)

    def flush(self):
        self.now(self.results.flush())

    def sums(self):
        return self.ledger.rows(
            "SELECT day, domain, failure != '', sessions FROM tls_result"
            " ORDER BY day, domain, failure"
        )


class ResultsTests(ResultsCase):
    """Counting."""

    def test_interface(self):
        """It is what it should be."""
        self.assertTrue(verifyObject(ITlsResults, self.results))

    def test_sums(self):
        """Sessions are summed up by domain, policy and what went wrong, over all
        processes, in one writing a minute."""
        self.counted(times=5)
        self.counted(failure=WRONG, times=2)
        self.counted("other.test", NONE)
        self.assertEqual(self.ledger.writes, 0)
        self.flush()
        self.flush()
        self.assertEqual(self.ledger.writes, 1)
        self.results = TlsResults(self.clock, self.ledger)
        self.counted()
        self.flush()
        self.assertEqual(
            self.sums(),
            [
                (self.today, "elsewhere.test", 0, 6),
                (self.today, "elsewhere.test", 1, 2),
                (self.today, "other.test", 0, 1),
            ],
        )

    def test_days(self):
        """A session counts for the day on which it was, in UTC."""
        self.clock.advance(DAY - 1)
        self.counted()
        self.clock.advance(2)
        self.counted()
        self.flush()
        days = [day for day, *_ in self.sums()]
        self.assertEqual(days, [self.today, self.today + 1])

    def test_ledger_away(self):
        """What cannot be written is not lost."""
        self.counted(times=3)
        self.ledger.broken = [LedgerUnavailable()]
        self.flush()
        self.counted()
        self.flush()
        self.assertEqual(self.sums(), [(self.today, "elsewhere.test", 0, 4)])

    def test_bounded(self):
        """What strangers make different is kept apart up to a number, and summed up
        beyond; nothing grows without end."""
        for number in range(100):
            self.counted(failure=Failure("validation-failure", theirs=str(number)))
        for number in range(100):
            self.counted(f"d{number}.test")
        self.flush()
        sums = self.sums()
        self.assertEqual(len(sums), 5)
        self.assertEqual(sum(row[3] for row in sums), 100)
        for number in range(4):
            self.counted(f"d{number}.test")
        self.flush()  # more than a day has; what there is goes on
        self.assertEqual(len(self.sums()), 5)
        self.counted(failure=Failure("validation-failure", theirs="0"))
        self.flush()
        self.assertEqual(sum(row[3] for row in self.sums()), 101)


class ReportsTests(ResultsCase):
    """Telling."""

    def setUp(self):
        super().setUp()
        self.web = Web()
        self.names = Names(txt={"_smtp._tls.elsewhere.test": [MAIL]})
        self.reports = TlsReports(
            self.clock,
            self.ledger,
            self.names,
            self.web,
            self.office.own,
            self.office.queue,
            BY,
        )

    def work(self):
        self.now(self.reports.work())

    def day(self, *texts):
        """A day with sessions, and what the domain says; then the night in which it is
        told."""
        if texts:
            self.names.texts["_smtp._tls.elsewhere.test"] = list(texts)
        self.counted(times=3)
        self.counted(failure=WRONG)
        self.flush()
        self.clock.advance(DAY + 4 * 3600)

    def queued(self):
        """What waits: recipients and messages."""
        jobs = self.now(self.office.queue.claim(100))
        return [
            (job, email.message_from_bytes(octets))
            for job in jobs
            for (octets,) in self.ledger.rows(
                "SELECT octets FROM content WHERE id = ?", job.content
            )
        ]

    def left(self):
        return self.ledger.count("tls_result"), self.ledger.count("tls_report")

    def test_mail(self):
        """A domain that wants it gets one mail of its day, not held up by anything,
        and worth nothing a day later; then all is forgotten."""
        self.day()
        self.work()
        self.work()
        ((job, message),) = self.queued()
        self.assertEqual(job.next_hop, "elsewhere.test")
        self.assertEqual(str(job.recipients[0]), "reports@elsewhere.test")
        self.assertEqual(str(job.envelope.sender), "tls@example.test")
        handling = job.envelope.handling
        self.assertTrue(handling.tls_waived)
        self.assertLess(handling.give_up_at, self.clock.seconds() + DAY)
        self.assertGreater(handling.give_up_at, self.clock.seconds())
        _, attached = message.get_payload()
        report = json.loads(gzip.decompress(attached.get_payload(decode=True)))
        (told,) = report["policies"]
        self.assertEqual(
            told["summary"],
            {"total-successful-session-count": 3, "total-failure-session-count": 1},
        )
        self.assertEqual(self.left(), (0, 0))

    def test_many_counts(self):
        """Of more than a report tells of, what happened most is looked at."""
        self.patch(tlsreports, "_COUNTS", 2)
        for number in range(5):
            other = Policy(Kind.TLSA, "mx.elsewhere.test", (str(number),))
            self.results.count("elsewhere.test", other, None)
            self.flush()
        self.results = TlsResults(self.clock, self.ledger)
        self.day()
        self.work()
        ((_, message),) = self.queued()
        _, attached = message.get_payload()
        report = json.loads(gzip.decompress(attached.get_payload(decode=True)))
        types = [told["policy"]["policy-type"] for told in report["policies"]]
        self.assertEqual(types[0], "sts")
        self.assertLessEqual(len(types), 2)
        self.assertEqual(self.left(), (0, 0))

    def test_when(self):
        """It is told after the day has ended in UTC, within four hours, at a time that
        differs from domain to domain."""
        domains = [f"d{number}.test" for number in range(4)]
        for domain in domains:
            self.counted(domain)
            self.names.texts[f"_smtp._tls.{domain}"] = [MAIL]
        self.flush()
        self.clock.advance(DAY - 1)
        told = []
        for _ in range(4 * 12 + 1):
            before = self.ledger.count("queued")
            self.work()
            told.append(self.ledger.count("queued") - before)
            self.clock.advance(300)
        self.assertEqual(told[:2], [0, 0])
        self.assertEqual(sum(told), len(domains))
        self.assertGreater(sum(map(bool, told)), 1)

    def test_nobody_wants_it(self):
        """Who has no record is told nothing, and nothing of it is kept."""
        self.day(b"v=spf1")
        self.work()
        self.assertEqual(self.queued(), [])
        self.assertEqual(self.left(), (0, 0))

    def test_dns_away(self):
        """While it cannot be known it is tried again, for a day."""
        self.day()
        self.names.texts["_smtp._tls.elsewhere.test"] = ResolverUnavailable()
        self.work()
        self.assertEqual(self.left(), (2, 0))
        self.clock.advance(DAY)
        self.work()
        self.assertEqual(self.left(), (0, 0))

    def test_web(self):
        """A Web server gets it as a file; if that fails it is tried again, ever more
        rarely, for a day and no longer."""
        self.day(WEB)
        self.work()
        ((host, path, type, body, timeout_s),) = self.web.brought
        self.assertEqual((host, path), ("web.test", "/tls?a=b"))
        self.assertEqual((type, timeout_s), ("application/tlsrpt+gzip", 60.0))
        self.assertEqual(json.loads(gzip.decompress(body))["organization-name"], "Here")
        self.assertEqual(self.left(), (0, 0))
        for says in (Answer(500, "", b""), Unanswered("no")):
            self.web.says = says
            self.web.brought.clear()
            self.clock.advance(DAY - self.clock.seconds() % DAY)
            self.day(WEB)
            for _ in range(26 * 12):
                self.work()
                self.clock.advance(300)
            self.assertIn(len(self.web.brought), range(8, 14))
            self.assertEqual(self.left(), (0, 0))

    def test_both(self):
        """Of two addresses each has its own luck; mail is not sent twice meanwhile."""
        self.day(MAIL + b",https://web.test/tls")
        self.web.says = Unanswered("no")
        self.work()
        self.assertEqual(self.left(), (2, 1))
        self.clock.advance(300)
        self.web.says = Answer(200, "", b"")
        self.work()
        self.assertEqual(self.left(), (0, 0))
        self.assertEqual(len(self.queued()), 1)

    def test_one_transaction(self):
        """A report whose mail could not be accepted is not lost, nor told twice."""
        self.day()
        plan, send = None, LedgerUnavailable()
        write = self.ledger.write

        def failing(unit, brief=False):
            nonlocal plan
            if plan is None:
                plan = unit
            else:
                self.ledger.broken = [send]
            return write(unit, brief)

        self.patch(self.ledger, "write", failing)
        working = Deferred.fromCoroutine(self.reports.work())
        self.failureResultOf(working, LedgerUnavailable)
        self.patch(self.ledger, "write", write)
        self.assertEqual(self.queued(), [])
        self.assertEqual(self.left(), (2, 1))
        self.assertEqual(self.ledger.open_writers, 0)
        self.work()
        self.work()
        self.assertEqual(len(self.queued()), 1)

    def test_to_ourselves(self):
        """An address here gets it too; one that does not exist is forgotten."""
        self.day(b"v=TLSRPTv1; rua=mailto:alice@example.test,mailto:no@example.test")
        self.work()
        (octets,) = self.office.store.inbox(1)
        self.assertIn(b"TLS-Report-Domain: elsewhere.test", octets)
        self.assertEqual(str(ALICE), "alice@example.test")
        self.assertEqual(self.left(), (0, 0))

    def test_given_up(self):
        """In the queue it is tried for a day."""
        self.day()
        self.work()
        ((job, _),) = self.queued()
        outcomes = dict.fromkeys(job.recipients, DEFERRED)
        self.now(self.office.queue.settle(job, outcomes))
        self.assertEqual(self.ledger.count("hop"), 1)
        self.clock.advance(DAY)
        (again,) = self.now(self.office.queue.claim(100))
        self.assertEqual(again.envelope.handling, job.envelope.handling)
        self.assertIsInstance(again.envelope.handling, Handling)
        self.now(self.office.queue.settle(again, outcomes))
        self.assertEqual(self.ledger.count("hop"), 0)


class ChoreTests(TestCase):
    """What is done now and then."""

    def setUp(self):
        self.clock = Clock()
        self.done = 0
        self.trouble = []
        self.waiting = None
        self.chore = Chore(self.clock, self.work, 60.0, "a chore")

    async def work(self):
        self.done += 1
        if self.trouble:
            raise self.trouble.pop()
        if self.waiting is not None:
            await self.waiting

    def test_again(self):
        """It is done each time, whatever came of the last."""
        self.trouble = [KeyError("a bug"), LedgerUnavailable()]
        self.chore.start()
        self.assertEqual(self.done, 0)
        self.clock.advance(1)
        for number in range(1, 5):
            self.assertEqual(self.done, number)
            self.clock.advance(59.9)
            self.assertEqual(self.done, number)
            self.clock.advance(0.2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.now(self.chore.stop())
        self.clock.advance(600)
        self.assertEqual((self.done, self.clock.getDelayedCalls()), (5, []))

    def test_cut_short(self):
        """One that is under way does not keep the server from stopping."""
        self.waiting = Deferred()
        self.chore.start()
        self.clock.advance(60)
        self.now(self.chore.stop())
        self.assertTrue(self.waiting.called)
        self.assertEqual(self.done, 1)
        self.waiting.addErrback(lambda failure: failure.trap(CancelledError))

    def test_never_begun(self):
        """One that was not started can be stopped."""
        self.now(self.chore.stop())
