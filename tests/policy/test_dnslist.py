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

    def refusal(self, zones: dict[str, object], *lists: List) -> str:
        """What a refused client reads after where it is listed."""
        policy = self.policy(zones, *lists)
        verdict = self.now(policy.connect(progress()))
        assert verdict is not None and verdict.reply is not None
        return verdict.reply.text.partition(" is listed at ")[2]

    def test_text(self) -> None:
        """It is told what the lists say, as far as they do."""
        lists = (List("grey.test", 1), List("black.test", 2), List("white.test", -1))
        grey, white = "4.4.8.8.grey.test", "4.4.8.8.white.test"
        zones = {name: ["127.0.0.2"] for name in (BLACK, grey, white)}
        where = "grey.test, black.test, white.test"
        self.assertEqual(self.refusal(zones, *lists), where)
        zones[f"TXT {BLACK}"] = [b"https://black.test/8.8.4.4", b"more"]
        said = f"{where}: https://black.test/8.8.4.4"
        self.assertEqual(self.refusal(zones, *lists), said)
        zones[f"TXT {grey}"] = [b"an open relay"]
        self.assertEqual(self.refusal(zones, *lists), f"{said}; an open relay")
        self.assertNotIn(f"TXT {white}", self.dns.asked)

    def test_h42_text(self) -> None:
        """A list's text cannot end the line, nor fill more than its share of it."""
        zones = {BLACK: ["127.0.0.2"]}
        for said, read in (
            (b"a\r\n250 2.0.0 Ok\x1b[2J\x00b", "a 250 2.0.0 Ok [2J b"),
            ("für".encode(), "f r"),
            (b"\r\n", ""),
            (b"x" * 200, "x" * 200),
            (b"x" * 9999, "x" * 197 + "..."),
        ):
            zones[f"TXT {BLACK}"] = [said]
            expected = f"black.test: {read}" if read else "black.test"
            self.assertEqual(self.refusal(zones), expected)

    def test_no_text(self) -> None:
        """Without an answer there is no text, and no other waiting than for lists."""
        self.assertEqual(
            self.refusal({BLACK: ["127.0.0.2"], f"TXT {BLACK}": None}), "black.test"
        )
        self.assertEqual(
            self.refusal({BLACK: ["127.0.0.2"], f"TXT {BLACK}": []}), "black.test"
        )
        slow: Deferred[list[str]] = Deferred()
        policy = self.policy({BLACK: slow, f"TXT {BLACK}": Deferred()})
        asked = Deferred.fromCoroutine(policy.connect(progress()))
        self.clock.advance(4)
        slow.callback(["127.0.0.2"])
        self.clock.advance(0.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        verdict = self.successResultOf(asked)
        self.assertEqual(verdict.reply.text[-10:], "black.test")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_text_unasked(self) -> None:
        """Who is not refused reads nothing, so nothing is asked for it; nor is it if
        no time is left."""
        policy = self.policy({BLACK: ["127.0.0.2"]}, List("black.test", 1))
        self.assertIs(self.kind(policy), Kind.TAG)
        self.assertEqual(self.dns.asked, [BLACK])
        never = "4.4.8.8.never.test"
        policy = self.policy(
            {BLACK: ["127.0.0.2"], never: Deferred()},
            List("black.test", 2),
            List("never.test"),
        )
        asked = Deferred.fromCoroutine(policy.connect(progress()))
        self.clock.advance(5)
        self.successResultOf(asked)
        self.assertEqual(self.dns.asked, [BLACK, never])

    def test_gone_at_text(self) -> None:
        """A session that ends while a list is asked why ends that."""
        policy = self.policy({BLACK: ["127.0.0.2"], f"TXT {BLACK}": Deferred()})
        asked = Deferred.fromCoroutine(policy.connect(progress()))
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

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
