"""Orders for mail that is to come: frozen next hops, hold rules."""

from unittest import mock

from tests.delivery.fakes import ALICE, BOB, CAROL, DAVE, DEFERRED, ERIN, always
from tests.delivery.test_oversight import ALL, OversightCase
from twisted_mta.config import schema
from twisted_mta.delivery import orders
from twisted_mta.delivery.standing import Standing
from twisted_mta.delivery.ways import Ways
from twisted_mta.errors import BadFilter, LedgerUnavailable, NoSuchRule
from twisted_mta.mail.address import Address
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Kind
from twisted_mta.mail.ids import to_text


class OrdersCase(OversightCase):
    def setUp(self) -> None:
        super().setUp()
        self.now(self.office.standing.open())


class FreezeTests(OrdersCase):
    def test_freeze(self) -> None:
        """A next hop that is frozen is not tried, neither for what waits nor for what
        comes; what is for others is."""
        self.send(CAROL, ERIN)
        frozen = self.oversight.freeze("Elsewhere.test", "root", "they asked")
        self.assertEqual(self.now(frozen), 1)
        self.send(DAVE)
        self.assertEqual(self.due(), [str(ERIN)])
        self.assertEqual(
            self.states(),
            {str(CAROL): "frozen", str(DAVE): "frozen", str(ERIN): "active"},
        )
        self.assertIsNone(self.now(self.queue.next_due([("smtp", "third.test")])))
        (one,) = self.now(self.oversight.frozen())
        self.assertEqual(
            (one.site, one.since, one.who, one.reason, one.rows),
            ("elsewhere.test", self.start, "root", "they asked", 2),
        )
        self.assertEqual(self.waiting(states=("frozen",)), [str(CAROL), str(DAVE)])

    def test_spelling(self) -> None:
        """A next hop is meant as people write it: an international domain, a socket,
        or a host with capitals, if the config has it so."""
        routes = (
            schema.Route(domain="third.test", next_hop="unix:/run/Dovecot/l"),
            schema.Route(domain="elsewhere.test", next_hop="Relay.Test"),
        )
        self.office.router._ways = Ways(routes)
        self.send(CAROL)
        self.send(Address("x", "b\xfccher.test"), ERIN)
        for site in ("B\xfccher.test", "unix:/run/Dovecot/l", "Relay.Test"):
            self.assertEqual(len(self.waiting(site=site)), 1)
            self.assertEqual(self.now(self.oversight.freeze(site)), 1)
        self.assertEqual(self.due(), [])
        self.send(DAVE)
        self.assertEqual(self.due(), [])
        self.assertEqual(self.now(self.oversight.thaw("Relay.Test")), 2)
        self.assertEqual(self.due(), [str(CAROL), str(DAVE)])

    def test_thaw(self) -> None:
        """Thawed, it is tried again, what was held is not; and what comes is."""
        self.send(CAROL)
        held = self.send(DAVE)
        self.now(self.oversight.hold(Filter(ids=(held,))))
        self.now(self.oversight.freeze("elsewhere.test"))
        self.assertEqual(self.now(self.oversight.thaw("elsewhere.test")), 1)
        self.assertEqual(self.now(self.oversight.frozen()), [])
        self.send(BOB, Address("x", "elsewhere.test"))
        self.assertEqual(self.due(), [str(CAROL), "x@elsewhere.test"])
        self.assertEqual(self.now(self.oversight.thaw("elsewhere.test")), 0)

    def test_pieces(self) -> None:
        """Many rows are many transactions."""
        self.patch(orders, "_AT_ONCE", 2)
        for _ in range(5):
            self.send(CAROL)
        before = self.ledger.writes
        self.assertEqual(self.now(self.oversight.freeze("elsewhere.test")), 5)
        self.assertEqual(self.ledger.writes - before, 4)
        self.assertEqual(self.now(self.oversight.thaw("elsewhere.test")), 5)
        self.assertEqual(self.due(), [str(CAROL)] * 5)

    def test_pieces_of_a_message(self) -> None:
        """Of a message with several rows for a next hop none is left out where a piece
        ends between them."""
        self.patch(orders, "_AT_ONCE", 1)
        self.send(CAROL, DAVE)
        to = self.oversight.requeue(Filter(recipient=str(DAVE)), "lmtp")
        self.now(to)
        self.assertEqual(self.now(self.oversight.freeze("elsewhere.test")), 2)
        self.assertEqual(self.due(), [])
        self.assertEqual(self.now(self.oversight.thaw("elsewhere.test")), 2)

    def test_not_known_yet(self) -> None:
        """What a process accepts that does not know the order yet is not tried by one
        that does."""
        self.now(self.oversight.freeze("elsewhere.test"))
        known, self.office.standing.frozen = self.office.standing.frozen, frozenset()
        self.send(CAROL)
        self.office.standing.frozen = known
        self.assertEqual(self.due(), [])
        self.assertEqual(self.states(), {str(CAROL): "frozen"})
        self.assertIsNone(self.now(self.queue.next_due()))

    def test_thaw_not_known_yet(self) -> None:
        """What a process accepts or takes that does not know yet of a thaw is not put
        aside: nobody would look for it any more."""
        self.send(CAROL)
        self.now(self.oversight.freeze("elsewhere.test"))
        known = self.office.standing.frozen
        self.now(self.oversight.thaw("elsewhere.test"))
        self.office.standing.frozen = known
        self.send(DAVE)
        self.assertEqual(self.states(), {str(CAROL): "waiting", str(DAVE): "waiting"})
        self.assertEqual(self.due(), [str(CAROL), str(DAVE)])
        self.assertEqual(self.now(self.oversight.frozen()), [])

    def test_held_and_frozen(self) -> None:
        """What is released while its next hop is frozen waits for that."""
        id = self.send(CAROL)
        self.now(self.oversight.freeze("elsewhere.test"))
        self.now(self.oversight.hold(Filter(ids=(id,))))
        self.assertEqual(self.states(), {str(CAROL): "held"})
        for release in (
            lambda: self.oversight.release(ALL),
            lambda: self.queue.release([id]),
        ):
            self.now(self.oversight.hold(ALL))
            self.now(release())
            self.assertEqual(self.states(), {str(CAROL): "frozen"})
        self.now(self.oversight.requeue(ALL, "smtp", "third.test"))
        self.assertEqual(self.states(), {str(CAROL): "waiting"})
        self.now(self.oversight.requeue(ALL, "smtp", "elsewhere.test"))
        self.assertEqual(self.states(), {str(CAROL): "frozen"})

    def test_tried_meanwhile(self) -> None:
        """An attempt that runs goes on; it is not repeated."""
        self.send(CAROL)
        (job,) = self.now(self.queue.claim(9))
        self.now(self.oversight.freeze("elsewhere.test"))
        self.now(self.queue.settle(job, always(DEFERRED)(job)))
        self.assertEqual(self.states(), {str(CAROL): "frozen"})

    def test_thawed_in_part(self) -> None:
        """What a thaw that was cut short has left is listed, and can be thawed."""
        self.send(CAROL)
        self.now(self.oversight.freeze("elsewhere.test"))
        self.now(self.ledger.write(lambda t: t.execute("DELETE FROM frozen")))
        (left,) = self.now(self.oversight.frozen())
        self.assertEqual((left.site, left.rows, left.since), ("elsewhere.test", 1, 0.0))
        self.assertEqual(self.now(self.oversight.thaw("elsewhere.test")), 1)

    def test_no_next_hop(self) -> None:
        """What can be no next hop is said."""
        for bad in ("", " ", "a\nb", "*.test", "x" * 301):
            self.fails(BadFilter, self.oversight.freeze(bad))

    def test_smarthost(self) -> None:
        """A host in brackets is frozen as the config writes it."""
        way = schema.Route(domain="*", next_hop="[Relay.test]:25")
        self.office.router._ways = Ways([way])
        self.send(CAROL)
        self.assertEqual(self.now(self.oversight.freeze("[Relay.test]:25")), 1)


class RuleTests(OrdersCase):
    def add(self, **wanted: object) -> str:
        filter = Filter(**wanted)  # type: ignore[arg-type]
        return self.now(self.oversight.add_rule(filter, "root", "why")).id

    def test_holds(self) -> None:
        """What fits is held when it is accepted, and why is remembered; what waited
        already is not."""
        before = self.send(CAROL)
        rule = self.add(sender="@example.test", domain="elsewhere.test")
        id = self.send(DAVE, ERIN, BOB)
        self.assertEqual(self.states()[str(DAVE)], "held")
        self.assertEqual(self.due(), [str(CAROL), str(ERIN)])
        (event,) = self.events(id)
        self.assertEqual(
            (event.kind, event.text), ("held", f"held by rule {rule}: why")
        )
        self.assertEqual(self.events(before), [])
        self.assertEqual(len(self.store.inbox(2)), 1)

    def test_account(self) -> None:
        """An account can be kept from sending."""
        self.add(account="alice@example.test")
        origin = Origin("ESMTPSA", login="alice@example.test")
        made = self.office.envelope(ALICE, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        self.send(ERIN)
        self.assertEqual(self.states(), {str(CAROL): "held", str(ERIN): "waiting"})
        self.assertEqual(self.waiting(account="alice@*"), [str(CAROL)])

    def test_list_and_remove(self) -> None:
        """Rules are listed, and removed; then what comes is not held."""
        first, second = self.add(domain="elsewhere.test"), self.add(sender="<>")
        rules = self.now(self.oversight.rules())
        self.assertEqual([rule.id for rule in rules], [first, second])
        self.assertEqual(rules[0].filter, Filter(domain="elsewhere.test"))
        self.assertEqual((rules[0].who, rules[0].reason), ("root", "why"))
        self.now(self.oversight.remove_rule(first))
        self.send(CAROL)
        self.assertEqual(self.due(), [str(CAROL)])
        for bad in (first, "nonsense"):
            self.fails(NoSuchRule, self.oversight.remove_rule(bad))

    def test_senseless(self) -> None:
        """What mail has only later is no rule; nor is everything, unless it is said."""
        for wanted in (
            {},
            {"ids": (to_text(1),)},
            {"states": ("held",)},
            {"error": "x"},
            {"older_s": 1.0},
            {"younger_s": 1.0},
        ):
            filter = Filter(**wanted)  # type: ignore[arg-type]
            self.fails(BadFilter, self.oversight.add_rule(filter))
        self.add(everything=True)
        self.send(CAROL)
        self.assertEqual(self.states(), {str(CAROL): "held"})

    def test_bound(self) -> None:
        """There are not so many that accepting mail gets slow."""
        self.patch(orders, "RULES_MOST", 2)
        self.add(sender="a@x.test")
        self.add(sender="b@x.test")
        self.fails(BadFilter, self.oversight.add_rule(Filter(sender="c@x.test")))


class StandingTests(OrdersCase):
    def test_no_query(self) -> None:
        """Accepting mail looks nothing up."""
        self.now(self.oversight.add_rule(Filter(sender="@x.test")))
        with mock.patch.object(self.ledger, "read", side_effect=AssertionError):
            self.send(CAROL)

    def test_others(self) -> None:
        """Another process hears of it, and after that it has closed hears no more."""
        other = Standing(self.clock, self.ledger)
        self.now(other.open())
        self.now(self.oversight.freeze("x.test"))
        self.assertEqual(other.frozen, {"x.test"})
        self.now(other.close())
        self.now(self.oversight.thaw("x.test"))
        self.assertEqual(other.frozen, {"x.test"})

    def test_trouble(self) -> None:
        """When they cannot be read the old ones stand until they can."""
        for error in (LedgerUnavailable, ValueError):
            self.now(self.oversight.freeze("x.test"))
            with mock.patch.object(self.ledger, "read", side_effect=error):
                self.office.standing._changed()
                self.now(self.ledger.write(lambda t: t.execute("DELETE FROM frozen")))
                self.clock.advance(5)
            self.assertEqual(self.office.standing.frozen, {"x.test"})
            self.clock.advance(5)
            self.assertEqual(self.office.standing.frozen, frozenset())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_closed_in_trouble(self) -> None:
        """When it is closed it does not try again."""
        with mock.patch.object(self.ledger, "read", side_effect=LedgerUnavailable):
            self.office.standing._changed()
        self.now(self.office.standing.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_accepted_held(self) -> None:
        """Why a route or a policy holds a message is remembered, too."""
        made = self.office.envelope(ALICE, CAROL)._replace(quarantined=True)
        self.now(self.office.accept(made))
        (event,) = self.events(to_text(made.id))
        self.assertEqual((event.kind, event.text), ("held", "quarantined by a policy"))
        self.office.router._ways = Ways([schema.Route(domain="*", hold=True)])
        (event,) = self.events(self.send(CAROL))
        self.assertEqual((event.kind, event.text), (Kind.HELD, "held by its route"))
