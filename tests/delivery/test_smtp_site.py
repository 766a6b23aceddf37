"""The SMTP agent and sites: which domains are one, whose connections are used for
whom, and which of several addresses is."""

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.delivery.fakes import TestCase as PlainCase
from tests.delivery.peer import HANG, Names, turns
from tests.delivery.test_smtp import BOB, AgentCase
from twisted_mta.delivery.smtp.allowance import Allowance
from twisted_mta.delivery.smtp.race import Race
from twisted_mta.interfaces import ISited
from twisted_mta.mail.address import Address
from twisted_mta.mail.route import Result

CAROL = Address("carol", "here.test")
SHARED = {
    "there.test": [(10, "mx1.g.test"), (20, "MX2.g.test")],
    "here.test": [(5, "mx2.g.test"), (5, "mx1.g.test")],
    "other.test": [(10, "mx1.g.test")],
    "null.test": [(0, "")],
    "plain.test": [],
}
ADDRESSES = {"mx1.g.test": ["127.0.0.1"], "mx2.g.test": ["127.0.0.2"]}


class SiteTests(AgentCase):
    """Which site a next hop is."""

    async def test_site(self):
        """Domains with the same mail exchangers are one, whatever their order; a host
        that the operator named is its own, and so is what cannot be known."""
        self.names = Names(SHARED, ADDRESSES)
        agent = self.agent()
        verifyObject(ISited, agent)
        for next_hop, name in (
            ("there.test", "mx1.g.test,mx2.g.test"),
            ("here.test", "mx1.g.test,mx2.g.test"),
            ("other.test", "mx1.g.test"),
            ("null.test", "null.test"),
            ("plain.test", "plain.test"),
            ("gone.test", "gone.test"),
            ("[relay.test]:587", "relay.test:587"),
            ("[192.0.2.1]", "192.0.2.1"),
            ("not a name", "not a name"),
        ):
            self.assertEqual(await agent.site(next_hop), name)

    async def test_many_names(self):
        """However many names strangers give their hosts, the site's is short, and
        still its own."""
        long = "x" * 60
        mx = {
            f"d{n}.test": [(i, f"{i:02}{long}.{long}.m{n}.test") for i in range(30)]
            for n in range(2)
        }
        self.names = Names(mx)
        agent = self.agent()
        one, two = [await agent.site(f"d{n}.test") for n in range(2)]
        self.assertNotEqual(one, two)
        self.assertEqual(one, await agent.site("d0.test"))
        self.assertLess(len(one), 400)


class SharedTests(AgentCase):
    """A connection to a host is used for other domains of that host."""

    async def test_shared(self):
        """Bob and Carol are at one provider: one connection is enough."""
        self.names = Names({**SHARED, "here.test": [(5, "mx1.g.test")]}, ADDRESSES)
        peer = self.peer()
        agent = self.agent()
        await self.deliver(agent)
        outcomes = await self.deliver(agent, (CAROL,), next_hop="here.test")
        self.assertIs(outcomes[CAROL].result, Result.DELIVERED)
        self.assertEqual((peer.connections, len(peer.messages)), (1, 2))

    async def test_not_worse(self):
        """A connection to a host that is not among the best of a domain is not."""
        self.names = Names(
            {"there.test": [(1, "mx1.g.test")], "here.test": [(1, "mx2.g.test")]}
            | {"third.test": [(1, "mx2.g.test"), (2, "mx1.g.test")]},
            ADDRESSES,
        )
        one, two = self.peer(), self.peer("127.0.0.2")
        agent = self.agent()
        await self.deliver(agent)
        await self.deliver(agent, (CAROL,), next_hop="here.test")
        third = Address("x", "third.test")
        await self.deliver(agent, (third,), next_hop="third.test")
        self.assertEqual((one.connections, two.connections), (1, 1))
        self.assertEqual((len(one.messages), len(two.messages)), (1, 2))

    async def test_closed_meanwhile(self):
        """One that the server closed is found out, and another is opened."""
        self.names = Names({**SHARED, "here.test": [(5, "mx1.g.test")]}, ADDRESSES)
        peer = self.peer()
        agent = self.agent()
        await self.deliver(agent)
        for protocol in list(peer.open):
            protocol.transport.loseConnection()
        await turns(lambda: not peer.open)
        outcomes = await self.deliver(agent, (CAROL,), next_hop="here.test")
        self.assertIs(outcomes[CAROL].result, Result.DELIVERED)
        self.assertEqual(peer.connections, 2)


class AllowanceTests(AgentCase):
    """Connections from one address of ours."""

    async def test_most(self):
        """No more at the same time than the setting, to whomever; who waits goes on
        when one ends."""
        self.names = Names(
            {f"d{n}.test": [(1, f"mx{n}.test")] for n in range(6)},
            {f"mx{n}.test": [f"127.0.0.{n + 1}"] for n in range(6)},
        )
        self.peer(GREETING=HANG)
        for number in range(1, 6):
            self.peer(f"127.0.0.{number + 1}", GREETING=HANG)
        agent = self.agent(connections=2, idle_s=0.5)

        def open_now():
            return [p for peer in self.peers for p in peer.open]

        done = []
        for number in range(6):
            to = Address("x", f"d{number}.test")
            delivery = self.deliver(agent, (to,), next_hop=f"d{number}.test")
            ensureDeferred(delivery).addCallback(done.append)
        greeted = set()
        while len(done) < 6:
            await turns(lambda: set(open_now()) - greeted or len(done) == 6)
            self.assertLessEqual(len(open_now()), 2)
            for protocol in set(open_now()) - greeted:
                greeted.add(protocol)
                protocol.say("220 Hi")
        results = {o.result for outcomes in done for o in outcomes.values()}
        self.assertEqual(results, {Result.DELIVERED})

    async def test_callout_leaves_its_place(self):
        """Who only asked for a recipient does not keep its connection from who waits
        for one."""
        peer = self.peer(RCPT=[HANG, "250 2.1.5 Ok"])
        agent = self.agent(connections=1)
        asking = ensureDeferred(agent.foresee("there.test", BOB))
        await turns(lambda: "RCPT" in peer.verbs())
        delivery = ensureDeferred(self.deliver(agent))
        (protocol,) = peer.open
        protocol.say("250 2.1.5 Ok")
        self.assertIs((await asking).result, Result.DELIVERED)
        outcomes = await delivery
        self.assertIs(outcomes[BOB].result, Result.DELIVERED)

    test_callout_leaves_its_place.timeout = 10

    async def test_failures_count_no_more(self):
        """A connection that does not come about leaves its place."""
        peer = self.peer()
        await peer.stop()
        self.peers.clear()
        agent = self.agent(connections=1)
        for _ in range(3):
            outcomes = await self.deliver(agent)
            self.assertEqual(outcomes[BOB].status, "4.4.1")
        self.peer()
        outcomes = await self.deliver(agent)
        self.assertIs(outcomes[BOB].result, Result.DELIVERED)


class CountTests(PlainCase):
    def test_order(self):
        """First come, first served; who gives up has no place; an end counts once."""
        spared = []
        allowance = Allowance(1, lambda: spared.append(1))
        ended = self.now(allowance.take())
        waiting = [Deferred.fromCoroutine(allowance.take()) for _ in range(3)]
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertNoResult(waiting[1])
        ended()
        ended()
        second = self.successResultOf(waiting[1])
        self.assertNoResult(waiting[2])
        second()
        self.successResultOf(waiting[2])()
        self.now(allowance.take())
        self.assertEqual(len(spared), 3)


class RaceTests(PlainCase):
    """Happy eyeballs, by a clock."""

    def setUp(self):
        self.clock = Clock()
        self.started = {}
        self.dropped = []

    async def start(self, name):
        self.started[name] = Deferred()
        return await self.started[name]

    def race(self, *names):
        race = Race(self.clock, self.start, self.dropped.append)
        return race, Deferred.fromCoroutine(race.run(names))

    def test_first_answers(self):
        """If the first answers at once nobody else is asked."""
        _, first = self.race("a", "b")
        self.started["a"].callback(1)
        self.assertEqual(self.successResultOf(first), ("a", 1))
        self.assertEqual(list(self.started), ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent(self):
        """One that is silent is waited for, but not alone; who is first wins, and the
        others are given up."""
        _, first = self.race("a", "b", "c")
        self.clock.advance(0.99)
        self.assertEqual(list(self.started), ["a"])
        self.clock.advance(0.01)
        self.assertEqual(list(self.started), ["a", "b"])
        given_up = []
        self.started["a"].addErrback(lambda f: given_up.append(f.value))
        self.started["b"].callback(2)
        self.assertEqual(self.successResultOf(first), ("b", 2))
        self.assertEqual(list(self.started), ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self):
        """One that fails is the next one's turn; if all fail that is said of each."""
        race, first = self.race("a", "b")
        self.started["a"].errback(ValueError("no"))
        self.started["b"].errback(ValueError("neither"))
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual([name for name, _ in race.failures], ["a", "b"])

    def test_second_place(self):
        """What came second is dropped, not kept open."""
        _, first = self.race("a", "b")
        self.clock.advance(1)
        late = Deferred()

        async def deaf(name):  # it cannot be given up any more
            del name
            return await late

        self.started["b"].callback(2)
        self.assertEqual(self.successResultOf(first), ("b", 2))
        race = Race(self.clock, deaf, self.dropped.append)
        both = Deferred.fromCoroutine(race.run(["x"]))
        race._over = True
        late.callback(9)
        self.assertEqual(self.dropped, [9])
        both.addErrback(lambda _: None)
        both.cancel()

    def test_cancelled(self):
        """Whoever gives up the race gives up all."""
        _, first = self.race("a", "b")
        self.clock.advance(1)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Never:
    """A connection that does not come about."""

    def getDestination(self):
        return "127.0.0.1"

    def stopConnecting(self):
        self.stopped = True


class SilentAddressTests(AgentCase):
    """Real sockets: an address that swallows everything costs a second."""

    async def test_silent_address(self):
        """Of two equal hosts one does not answer to connections at all; the message
        goes to the other before the timeout."""
        self.names = Names(
            {"there.test": [(1, "mx.test")]}, {"mx.test": ["127.0.0.1", "127.0.0.2"]}
        )
        self.peer("127.0.0.2")
        agent = self.agent()
        connects = []
        connect = self.clock.connectTCP

        def sometimes(host, port, factory, timeout=30, bindAddress=None):
            connects.append(host)
            if host == "127.0.0.1":
                never = Never()
                factory.startedConnecting(never)
                return never
            return connect(host, port, factory, timeout, bindAddress)

        self.clock.connectTCP = sometimes
        delivery = ensureDeferred(self.deliver(agent))
        if connects == ["127.0.0.1"]:
            self.clock.advance(1)
        outcomes = await delivery
        self.assertIs(outcomes[BOB].result, Result.DELIVERED)
        self.assertLessEqual(self.clock.seconds(), 1)
