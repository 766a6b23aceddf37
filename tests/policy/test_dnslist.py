"""L{twisted_mta.policy.dnslist}."""

from twisted.internet.defer import CancelledError, Deferred

from tests.policy.case import HOST, Dns, PolicyCase, progress
from twisted_mta.mail.verdict import Kind, Verdict
from twisted_mta.policy.dnslist import DnsLists, List, reversed_name

BLACK = "4.4.8.8.black.test"


class NameTests(PolicyCase):
    def test_names(self) -> None:
        """RFC 5782 2.1 and 2.4."""
        six = "2001:db8:1:2:3:4:567:89ab"
        nibbles = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
        for host, name in (
            ("192.0.2.99", "99.2.0.192"),
            (six, nibbles),
            ("::ffff:192.0.2.99", "99.2.0.192"),
            ("/run/socket", ""),
            ("", ""),
        ):
            self.assertEqual(reversed_name(host), name)


class ListTests(PolicyCase):
    def policy(self, zones: object, *lists: List, **more: int) -> DnsLists:
        self.dns = Dns(zones)  # type: ignore[arg-type]
        settings = {"reject": 2, "quarantine": None, "accept": None, "timeout_s": 5}
        return DnsLists(
            "lists",
            self.clock,  # type: ignore[arg-type]
            self.dns,
            lists or (List("black.test", 2),),
            **{**settings, **more},  # type: ignore[arg-type]
        )

    def kind(self, policy: DnsLists) -> Kind | None:
        verdict = self.now(policy.connect(progress()))
        return verdict and verdict.kind

    def test_listed(self) -> None:
        """Who is on a list is refused, and told where."""
        policy = self.policy({BLACK: ["127.0.0.2"]})
        verdict = self.now(policy.connect(progress()))
        assert verdict is not None and verdict.reply is not None
        self.assertEqual(verdict.reply.code, 550)
        self.assertIn("black.test", verdict.reply.text)
        self.assertIn(HOST, verdict.reply.text)

    def test_gone(self) -> None:
        """A session that ends meanwhile ends the waiting, and nothing is broken."""
        policy = self.policy({BLACK: Deferred()})
        asked = Deferred.fromCoroutine(policy.connect(progress()))
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_listed(self) -> None:
        """Who is on none, and who is ours, is welcome."""
        self.assertIsNone(self.kind(self.policy({})))
        policy = self.policy({BLACK: ["127.0.0.2"]})
        self.assertIsNone(self.now(policy.connect(progress(trusted=True))))
        self.assertIsNone(self.now(policy.connect(progress("/run/socket"))))
        self.assertEqual(self.dns.asked, [])

    def test_answers(self) -> None:
        """Only answers in 127/8 count, of them those that the config names, and none
        that says that we may not ask."""
        for answers, listed in (
            (["192.0.2.1"], False),
            (["127.255.255.254"], False),
            (["127.0.0.2"], True),
            (["::1"], False),
        ):
            found = self.kind(self.policy({BLACK: answers}))
            self.assertEqual(found is not None, listed, answers)
        some = List("black.test", 2, frozenset({"127.0.0.4"}))
        self.assertIsNone(self.kind(self.policy({BLACK: ["127.0.0.2"]}, some)))
        both = {BLACK: ["127.0.0.2", "127.0.0.4"]}
        self.assertIs(self.kind(self.policy(both, some)), Kind.REFUSE)

    def test_weights(self) -> None:
        """What a client is on is summed up: a white list outweighs a black one."""
        lists = (List("black.test", 2), List("grey.test", 1), List("white.test", -5))
        names = [f"4.4.8.8.{each.zone}" for each in lists]
        for on, more, kind in (
            ([0], {}, Kind.REFUSE),
            ([1], {}, Kind.TAG),
            ([1], {"quarantine": 1}, Kind.QUARANTINE),
            ([0, 2], {}, Kind.TAG),
            ([0, 2], {"accept": -3}, Kind.ACCEPT),
            ([0, 1, 2], {"accept": -3}, Kind.TAG),
        ):
            zones = {names[n]: ["127.0.0.2"] for n in on}
            self.assertIs(self.kind(self.policy(zones, *lists, **more)), kind, on)

    def test_silent_lists(self) -> None:
        """A list that cannot be reached, or is slow, counts nothing, and all are
        asked at once."""
        never: Deferred[list[str]] = Deferred()
        slow: Deferred[list[str]] = Deferred()
        zones = {BLACK: None, "4.4.8.8.b.test": never, "4.4.8.8.c.test": slow}
        lists = (List("black.test"), List("b.test"), List("c.test", 2))
        policy = self.policy(zones, *lists)
        asked: Deferred[Verdict | None] = Deferred.fromCoroutine(
            policy.connect(progress())
        )
        self.assertEqual(len(self.dns.asked), 3)
        self.clock.advance(4)
        self.assertNoResult(asked)
        slow.callback(["127.0.0.2"])
        self.assertNoResult(asked)
        self.clock.advance(1)
        verdict = self.successResultOf(asked)
        self.assertIs(verdict.kind, Kind.REFUSE)
        self.assertEqual(verdict.reason, f"{HOST} is on c.test: 2")
