"""L{twisted_mta.delivery.smtp.sts}: policies found out, remembered and renewed."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.delivery.fakes import Ledger, TestCase
from tests.delivery.peer import Names
from twisted_mta.delivery.smtp.security import Announced
from twisted_mta.delivery.smtp.sts import StsPolicies, StsRenewal
from twisted_mta.errors import LedgerUnavailable, ResolverUnavailable, Temporary
from twisted_mta.mail.stspolicy import Mode, StsPolicy
from twisted_mta.net.https import Answer, Unanswered, Untrusted

DOMAIN = "there.test"
RECORD = f"_mta-sts.{DOMAIN}"
DAY = 86400.0


def policy(mode="enforce", host="mx.there.test", age=7 * 86400):
    """A policy's octets."""
    text = f"version: STSv1\nmode: {mode}\nmx: {host}\nmax_age: {age}\n"
    return text.encode()


class Web:
    """Answers as it is told.

    @ivar says: an Answer, an error, octets of a policy; or a Deferred of one.
    """

    def __init__(self):
        self.says = policy()
        self.asked = []

    async def get(self, host, path, most, timeout_s):
        self.asked.append((host, path, most, timeout_s))
        said = await self.says if isinstance(self.says, Deferred) else self.says
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Answer) else Answer(200, "text/plain", said)


class StsCase(TestCase):
    """A domain with a policy."""

    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.ledger = Ledger()
        self.web = Web()
        self.names = Names(txt={RECORD: [b"v=STSv1; id=1;"]})
        self.policies = self.process()

    def process(self):
        """As another process, or this one after a restart, sees it."""
        return StsPolicies(self.clock, self.names, self.ledger, self.web)

    def of(self, domain=DOMAIN):
        return self.now(self.policies.of(domain))

    def says(self, id):
        """The domain has this record."""
        self.names.texts[RECORD] = [f"v=STSv1; id={id};".encode()]

    def later(self, seconds):
        self.clock.advance(seconds)
        return self.of()


class PoliciesTests(StsCase):
    """One domain's policy."""

    def test_fetched(self):
        """It is fetched from where RFC 8461 3.3 says, once, with limits."""
        wanted = Announced(StsPolicy(Mode.ENFORCE, ("mx.there.test",), 7 * 86400))
        self.assertEqual([self.of(), self.of()], [wanted] * 2)
        path = "/.well-known/mta-sts.txt"
        self.assertEqual(self.web.asked, [("mta-sts.there.test", path, 65536, 60.0)])
        self.assertEqual(self.names.asked, [RECORD])

    def test_none(self):
        """Who has no record has no policy, and the Web is not asked."""
        self.assertEqual(self.of("other.test"), Announced())
        self.assertEqual(self.web.asked, [])
        self.assertEqual(self.ledger.count("sts_policy"), 0)

    def test_remembered(self):
        """It is there after a restart, without the Web; and while the DNS says nothing
        (RFC 8461 5.1), until it ends."""
        wanted = self.of()
        self.web.says = Unanswered("no")
        for texts in ([b"v=STSv1; id=1;"], [], ResolverUnavailable()):
            self.names.texts[RECORD] = texts
            self.policies = self.process()
            self.assertEqual(self.of(), wanted)
        self.assertEqual(len(self.web.asked), 1)
        self.assertEqual(self.later(7 * DAY - 301), wanted)
        self.assertEqual(self.later(302), Announced())

    def test_changed(self):
        """With another id it is fetched anew, within minutes; if it cannot be, the one
        that there was holds."""
        first = self.of()
        self.says(2)
        self.web.says = Unanswered("no")
        self.assertEqual(self.later(301), first)
        self.assertEqual(len(self.web.asked), 2)
        self.assertEqual(self.later(299), first)
        self.assertEqual(len(self.web.asked), 2)  # not every message tries
        self.web.says = policy("testing")
        self.assertIs(self.later(301).policy.mode, Mode.TESTING)
        self.policies = self.process()
        self.assertIs(self.of().policy.mode, Mode.TESTING)

    def test_in_vain(self):
        """A policy that is announced and is not to be had, or is none, is told as RFC
        8460 4.3.2 calls it; it is tried again in five minutes."""
        for said, result in (
            (Unanswered("x"), "sts-policy-fetch-error"),
            (Answer(404, "text/plain", policy()), "sts-policy-fetch-error"),
            (Answer(301, "text/plain", policy()), "sts-policy-fetch-error"),
            (Untrusted("x"), "sts-webpki-invalid"),
            (Answer(200, "text/html", policy()), "sts-policy-invalid"),
            (Answer(200, "", policy()), "sts-policy-invalid"),
            (b"nonsense", "sts-policy-invalid"),
        ):
            self.web.says = said
            self.assertEqual(self.later(301), Announced(None, result))
            count = len(self.web.asked)
            self.later(10)
            self.assertEqual(len(self.web.asked), count)
        self.web.says = policy()
        self.assertIsNotNone(self.later(301).policy)

    def test_log(self):
        """What a Web server says is a short line of the log."""
        self.web.says = Answer(200, "text/\x1b[2J" + "x" * 9999, policy())
        with capturedLogs() as captured:
            self.of()
        (line,) = map(formatEvent, captured)
        self.assertNotIn("\x1b", line)
        self.assertLess(len(line), 400)

    def test_at_the_same_time(self):
        """Many who ask wait for one answer; who stops waiting takes it from nobody."""
        self.web.says = Deferred()
        asking = [Deferred.fromCoroutine(self.policies.of(DOMAIN)) for _ in range(3)]
        self.assertEqual(len(self.web.asked), 1)
        asking[0].cancel()
        self.failureResultOf(asking[0])
        self.web.says.callback(policy())
        for one in asking[1:]:
            self.assertIsNotNone(self.successResultOf(one).policy)

    def test_ledger_away(self):
        """What may be in the ledger is not passed over; what cannot be written is
        known all the same."""
        self.ledger.down = True
        self.failureResultOf(
            Deferred.fromCoroutine(self.policies.of(DOMAIN)), Temporary
        )
        self.ledger.down = False
        self.ledger.broken = [LedgerUnavailable()]
        self.assertIsNotNone(self.of().policy)
        self.assertEqual(self.ledger.count("sts_policy"), 0)

    def test_bug(self):
        """A bug is no reason to go without a policy."""
        self.names.texts[RECORD] = KeyError("a bug")
        self.failureResultOf(
            Deferred.fromCoroutine(self.policies.of(DOMAIN)), Temporary
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_few_writes(self):
        """That a policy is used is written once a day at most."""
        self.of()
        writes = self.ledger.writes
        for _ in range(10):
            self.later(3600)
        self.assertEqual(self.ledger.writes, writes)
        self.later(DAY)
        self.later(3600)
        self.assertEqual(self.ledger.writes, writes + 1)


class RenewalTests(StsCase):
    """Before it ends."""

    def setUp(self):
        super().setUp()
        self.renewal = StsRenewal(self.clock, self.ledger, self.process())

    def work(self):
        self.now(self.renewal.work())

    def test_renewed(self):
        """It is fetched anew each day, and so holds on; one of less than two days
        halfway."""
        for age, renewed in ((7 * 86400, DAY), (7200, 3600.0)):
            self.web.says = policy(age=age)
            self.says(age)
            self.later(301)
            asked = len(self.web.asked)
            self.clock.advance(renewed - 1)
            self.work()
            self.assertEqual(len(self.web.asked), asked)
            self.clock.advance(2)
            self.work()
            self.work()
            self.assertEqual(len(self.web.asked), asked + 1)
            ((expires_at,),) = self.ledger.rows("SELECT expires_at FROM sts_policy")
            self.assertEqual(expires_at, self.clock.seconds() + age)

    def test_in_vain(self):
        """If it cannot be it holds until it ends, and is tried again in hours."""
        wanted = self.of()
        self.web.says = Unanswered("no")
        self.clock.advance(DAY)
        for _ in range(3):
            self.work()
        self.assertEqual(len(self.web.asked), 2)
        self.clock.advance(DAY / 4)
        self.work()
        self.assertEqual(len(self.web.asked), 3)
        self.names.texts[RECORD] = []
        self.clock.advance(DAY / 4)
        self.work()
        self.assertEqual(len(self.web.asked), 3)
        self.assertEqual(self.of(), wanted)

    def test_forgotten(self):
        """What has ended, or nobody has asked for in a month, is forgotten."""
        self.web.says = policy(age=60 * 86400)
        self.of()
        for _ in range(29):
            self.clock.advance(DAY)
            self.work()
        self.assertEqual(self.ledger.count("sts_policy"), 1)
        for _ in range(2):
            self.clock.advance(DAY)
            self.work()
        self.assertEqual(self.ledger.count("sts_policy"), 0)
        self.web.says = policy(age=3600)
        self.of()
        self.clock.advance(3600)
        self.work()
        self.assertEqual(self.ledger.count("sts_policy"), 0)
