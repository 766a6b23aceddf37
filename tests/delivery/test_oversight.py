"""The queue in an operator's hands: what is seen and done by filters."""

import email
from collections.abc import Sequence

from zope.interface.verify import verifyObject

from tests.delivery.fakes import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DEFERRED,
    DELIVERED,
    ERIN,
    always,
)
from tests.delivery.test_history import HistoryCase
from tests.delivery.test_queue import Unsure
from tests.delivery.test_release import ReleaseCase
from twisted_mta.config import schema
from twisted_mta.delivery import oversight, selection
from twisted_mta.delivery.queue import LEASE_S
from twisted_mta.delivery.ways import Ways
from twisted_mta.errors import BadFilter, NoSuchAccount, NoSuchQueueId, Temporary
from twisted_mta.interfaces import IOversight
from twisted_mta.mail.address import Address
from twisted_mta.mail.count import Tally
from twisted_mta.mail.dsn import original
from twisted_mta.mail.envelope import Origin
from twisted_mta.mail.filter import Filter
from twisted_mta.mail.history import Kind
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.route import RELEASE

ALL = Filter(everything=True)
BOB_ELSEWHERE = Address("bob", "elsewhere.test")


class OversightCase(HistoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.oversight = self.office.oversight

    def waiting(self, **wanted: object) -> list[str]:
        """The recipients that are meant."""
        page = self.now(self.oversight.waiting(Filter(**wanted)))  # type: ignore[arg-type]
        return [row.recipient for row in page.rows]

    def states(self) -> dict[str, str]:
        page = self.now(self.oversight.waiting(Filter()))
        return {row.recipient: row.state for row in page.rows}

    def rows(self) -> list[tuple[str, str, list[str]]]:
        """Agent, next hop and recipients of each row."""
        found: dict[int, tuple[str, str, list[str]]] = {}
        for hop, agent, next_hop, address in self.ledger.rows(
            "SELECT h.id, agent, next_hop, address FROM hop h"
            " LEFT JOIN recipient r ON r.hop_id = h.id ORDER BY h.id, address"
        ):
            found.setdefault(hop, (agent, next_hop, []))[2].append(address)
        return list(found.values())

    def due(self) -> list[str]:
        """The recipients that are tried now, which they are."""
        jobs = self.now(self.queue.claim(99))
        return sorted(str(one) for job in jobs for one in job.recipients)

    def attempt(self) -> None:
        for job in self.now(self.queue.claim(99)):
            self.now(self.queue.settle(job, always(DEFERRED)(job)))


class SeenTests(OversightCase):
    def test_seam(self) -> None:
        """It keeps to its interface."""
        verifyObject(IOversight, self.oversight)

    def test_filters(self) -> None:
        """What waits is found by all that is known of it."""
        origin = Origin("ESMTPSA", login="alice@example.test")
        made = self.office.envelope(ALICE, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        self.attempt()
        self.clock.advance(100)
        null = to_text(self.now(self.office.send(None, DAVE, ERIN)).id)
        self.now(self.oversight.hold(Filter(recipient=str(DAVE))))
        self.now(self.queue.claim(1))
        carol, dave, erin = str(CAROL), str(DAVE), str(ERIN)
        for wanted, expected in (
            ({}, [carol, dave, erin]),
            ({"ids": (null,)}, [dave, erin]),
            ({"states": ("held",)}, [dave]),
            ({"states": ("active",)}, [erin]),
            ({"states": ("waiting", "held")}, [carol, dave]),
            ({"sender": "alice@*"}, [carol]),
            ({"sender": "<>"}, [dave, erin]),
            ({"recipient": "*a*@elsewhere.test"}, [carol, dave]),
            ({"domain": "third.test"}, [erin]),
            ({"domain": "Third.Test"}, [erin]),
            ({"domain": ".test"}, [carol, dave, erin]),
            ({"site": "third.test"}, [erin]),
            ({"site": "THIRD.test"}, [erin]),
            ({"site": "*where*"}, [carol, dave]),
            ({"account": "@example.test"}, [carol]),
            ({"agent": "smtp"}, [carol, dave, erin]),
            ({"agent": "lmtp"}, []),
            ({"error": "4.2.0 lat"}, [carol]),
            ({"older_s": 50.0}, [carol]),
            ({"younger_s": 50.0}, [dave, erin]),
            ({"sender": "<>", "site": "elsewhere.test"}, [dave]),
        ):
            with self.subTest(str(wanted)):
                self.assertEqual(sorted(self.waiting(**wanted)), expected)
                count = self.now(self.oversight.count(Filter(**wanted)))  # type: ignore[arg-type]
                self.assertEqual(count.recipients, len(expected))

    def test_pages(self) -> None:
        """A listing comes in pages, with nothing twice and nothing left out."""
        for number in range(3):
            self.send(CAROL, ERIN, Address(f"x{number}", "elsewhere.test"))
        whole = self.waiting()
        for most in (1, 2, 4, 9, 10):
            rows: list[str] = []
            page = ""
            while True:
                found = self.now(self.oversight.waiting(Filter(), most, page))
                self.assertLessEqual(len(found.rows), most)
                rows += [row.recipient for row in found.rows]
                if not (page := found.more):
                    break
            self.assertEqual(rows, whole)
        for bad in ("x", "nonsense.1.a", f"{'0' * 13}.x.a"):
            self.fails(BadFilter, self.oversight.waiting(Filter(), 1, bad))

    def test_count(self) -> None:
        """It counts messages, recipients and octets, and in groups."""
        self.patch(selection, "_COUNTED", 2)
        for _ in range(4):
            self.send(CAROL, DAVE)
            self.clock.advance(1)
        self.send(ERIN, CAROL)
        count = self.now(self.oversight.count(Filter(), "domain"))
        self.assertEqual((count.messages, count.recipients), (5, 10))
        self.assertEqual(count.octets, 5 * 137)
        groups = [(g.name, g.messages, g.recipients, g.oldest) for g in count.groups]
        self.assertEqual(
            groups,
            [
                ("elsewhere.test", 5, 9, self.start),
                ("third.test", 1, 1, self.start + 4),
            ],
        )
        for by, first in (
            ("state", ("waiting", 5, 10)),
            ("site", ("elsewhere.test", 5, 9)),
            ("sender", (str(ALICE), 5, 10)),
            ("account", ("", 5, 10)),
            ("agent", ("smtp", 5, 10)),
            ("error", ("", 5, 10)),
        ):
            (group, *_) = self.now(self.oversight.count(Filter(), by)).groups
            self.assertEqual((group.name, group.messages, group.recipients), first)
        self.fails(BadFilter, self.oversight.count(Filter(), "colour"))

    def test_domain(self) -> None:
        """A domain is what comes after the last at sign."""
        self.send(Address('a@b "c', "elsewhere.test"))
        (group,) = self.now(self.oversight.count(Filter(), "domain")).groups
        self.assertEqual(group.name, "elsewhere.test")

    def test_many_groups(self) -> None:
        """Of very many groups the smallest are left out, and it is said."""
        self.patch(selection, "_COUNTED", 5)
        self.patch(oversight, "_GROUPS_MOST", 10)
        self.patch(oversight, "_GROUPS", 3)
        for number in range(30):
            self.send(Address("x", f"d{number}.test"))
            self.send(CAROL)
        count = self.now(self.oversight.count(Filter(), "site"))
        largest = count.groups[0]
        self.assertEqual((largest.name, largest.messages), ("elsewhere.test", 30))
        self.assertEqual(len(count.groups) + count.more, 31)
        self.assertEqual(count.messages, 60)


class ChangeTests(OversightCase):
    def test_everything(self) -> None:
        """What means everything must say so."""
        self.send(CAROL)
        for change in (
            self.oversight.hold,
            self.oversight.release,
            self.oversight.flush,
            self.oversight.remove,
            self.oversight.requeue,
            self.oversight.bounce,
        ):
            self.fails(BadFilter, change(Filter()))
        self.fails(BadFilter, self.oversight.redirect(Filter(), DAVE))
        self.assertEqual(self.now(self.oversight.remove(ALL)), Tally(1, 1))
        self.empty()

    def test_no_such(self) -> None:
        """An id that is not there is said, and nothing is done to the others."""
        id = self.send(CAROL)
        for bad in ("0000000000001", self.send(BOB)):
            error = self.fails(
                NoSuchQueueId, self.oversight.remove(Filter(ids=(id, bad)))
            )
            self.assertIn(bad, error.text)
        self.assertEqual(self.waiting(), [str(CAROL)])

    def test_pieces(self) -> None:
        """Much is changed in many transactions, and each message in one of them."""
        self.patch(selection, "_CHANGED", 4)
        for _ in range(5):
            self.send(CAROL, DAVE, ERIN)
        many = [Address(f"x{number}", "elsewhere.test") for number in range(9)]
        self.send(*many)
        told: list[Tally] = []
        before = self.ledger.writes
        done = self.now(self.oversight.hold(ALL, told=told.append))
        self.assertEqual(done, Tally(6, 24))
        self.assertEqual(told[-1], done)
        self.assertEqual(self.ledger.writes - before, len(told))
        self.assertEqual([one.recipients for one in told], [3, 6, 9, 12, 15, 24])
        self.assertEqual(set(self.states().values()), {"held"})

    def test_hold(self) -> None:
        """What is held is not tried, and the others of its row are; who did it and why
        is remembered."""
        id = self.send(CAROL, DAVE)
        held = Filter(recipient=str(DAVE))
        self.assertEqual(
            self.now(self.oversight.hold(held, "root", "spam?")), Tally(1, 1)
        )
        self.assertEqual(self.states(), {str(CAROL): "waiting", str(DAVE): "held"})
        (event,) = self.events(id)
        self.assertEqual((event.kind, event.who, event.text), ("held", "root", "spam?"))
        self.assertEqual(event.recipient, str(DAVE))
        self.assertEqual(self.now(self.oversight.hold(held)), Tally(1, 1))
        self.assertEqual(len(self.events(id)), 1)
        self.assertEqual(self.due(), [str(CAROL)])
        self.assertEqual(self.now(self.oversight.release(ALL, "root")), Tally(1, 1))
        self.assertEqual(self.kinds(id), [Kind.HELD, Kind.RELEASED])
        self.assertEqual(self.due(), [str(DAVE)])

    def test_hold_whom(self) -> None:
        """It is remembered for whom mail is held, also where that is a whole row."""
        for wanted, expected in (
            ({"recipient": str(ERIN)}, str(ERIN)),
            ({"recipient": "ca*@elsewhere.test"}, str(CAROL)),
            ({"domain": "elsewhere.test"}, "2 recipients"),
        ):
            id = self.send(CAROL, DAVE, ERIN)
            self.now(self.oversight.hold(Filter(ids=(id,), **wanted)))  # type: ignore[arg-type]
            (event,) = self.events(id)
            self.assertEqual(event.recipient, expected)

    def test_busy(self) -> None:
        """What is being tried is left alone; but held it is not tried again, if all its
        recipients are."""
        self.send(CAROL, DAVE)
        (job,) = self.now(self.queue.claim(9))
        one = Filter(recipient=str(CAROL))
        busy = Tally(busy=1)
        self.assertEqual(self.now(self.oversight.hold(one)), busy)
        self.assertEqual(self.now(self.oversight.requeue(one, "smtp", "x.test")), busy)
        self.assertEqual(self.now(self.oversight.redirect(one, ERIN)), busy)
        self.assertEqual(self.now(self.oversight.bounce(one)), busy)
        self.assertEqual(self.now(self.oversight.flush(one)), busy)
        self.assertEqual(self.now(self.oversight.hold(ALL)), Tally(1, 2))
        self.now(self.queue.settle(job, {CAROL: DELIVERED, DAVE: DEFERRED}))
        self.assertEqual(self.states(), {str(DAVE): "held"})

    def test_dead_lease(self) -> None:
        """A lease that has ended keeps nobody from anything."""
        self.send(CAROL)
        (job,) = self.now(self.queue.claim(9))
        self.clock.advance(LEASE_S)
        to_third = self.oversight.requeue(ALL, "smtp", "third.test")
        self.assertEqual(self.now(to_third), Tally(1, 1))
        self.now(self.queue.settle(job, {CAROL: DEFERRED}))
        self.assertEqual(self.rows(), [("smtp", "third.test", [str(CAROL)])])

    def test_flush(self) -> None:
        """What waits for its time is tried now, as much of it as is meant."""
        self.send(CAROL, DAVE)
        self.attempt()
        self.assertEqual(self.due(), [])
        flush = self.oversight.flush(Filter(recipient=str(CAROL)))
        self.assertEqual(self.now(flush), Tally(1, 1))
        self.assertEqual(self.due(), [str(CAROL)])

    def test_remove(self) -> None:
        """Recipients that are meant are gone, the others stay, and the content stays as
        long as they."""
        id = self.send(CAROL, DAVE, ERIN)
        removed = self.oversight.remove(Filter(domain="elsewhere.test"), "root")
        self.assertEqual(self.now(removed), Tally(1, 2))
        self.assertEqual(self.waiting(), [str(ERIN)])
        self.assertEqual(self.ledger.count("hop"), 1)
        self.assertEqual(self.ledger.count("released"), 0)
        self.assertEqual(
            [(e.kind, e.recipient, e.who) for e in self.events(id)],
            [("removed", str(CAROL), "root"), ("removed", str(DAVE), "root")],
        )
        self.now(self.oversight.remove(Filter(ids=(id,))))
        self.empty()
        self.assertEqual(self.ledger.count("released"), 1)
        self.assertEqual(self.bounces(), [])

    def test_remove_damaged(self) -> None:
        """A message of which no recipient is known any more can be removed by its id,
        as the check of the ledger asks for."""
        id = self.send(CAROL)
        self.now(self.ledger.write(lambda t: t.execute("DELETE FROM recipient")))
        self.now(self.oversight.remove(Filter(ids=(id,))))
        self.empty()

    def test_requeue(self) -> None:
        """Mail is sent on another way: by another agent, to another next hop."""
        self.send(CAROL, DAVE, ERIN)
        self.attempt()
        for wanted, agent, next_hop, expected in (
            ({"recipient": str(DAVE)}, "lmtp", "", ("lmtp", "elsewhere.test")),
            ({"recipient": str(DAVE)}, "", "[h]:25", ("lmtp", "[h]:25")),
            ({"recipient": str(DAVE)}, "smtp", "[h]:25", ("smtp", "[h]:25")),
        ):
            requeue = self.oversight.requeue(
                Filter(**wanted),
                agent,
                next_hop,
                "root",  # type: ignore[arg-type]
            )
            self.assertEqual(self.now(requeue), Tally(1, 1))
            self.assertIn((*expected, [str(DAVE)]), self.rows())
        self.assertEqual(len(self.rows()), 3)
        self.assertEqual(self.due(), [str(DAVE)])

    def test_ways_of_their_own(self) -> None:
        """What a message has on one way alone stays with it when it is requeued: its
        return address, and its fields."""
        self.office.directory._aliases["all@example.test"] = (CAROL, DAVE)
        self.now(self.office.send(ERIN, Address("all", "example.test")))
        requeue = self.oversight.requeue(Filter(recipient=str(DAVE)), "lmtp", "[h]:24")
        self.assertEqual(self.now(requeue), Tally(1, 1))
        jobs = self.now(self.office.queue.claim(9))
        self.assertEqual({job.agent for job in jobs}, {"smtp", "lmtp"})
        for job in jobs:
            self.assertIn("SRS0=", str(job.sender))
            self.assertIn(b"Delivered-To: all@example.test", job.prefix)

    def test_whose_turn(self) -> None:
        """What gets a row of its own is still its sender's when senders take turns."""
        self.send(CAROL, DAVE)
        flows = "SELECT DISTINCT flow FROM hop"
        before = self.ledger.rows(flows)
        self.now(self.oversight.hold(Filter(recipient=str(CAROL))))
        self.now(self.oversight.requeue(Filter(recipient=str(DAVE)), "lmtp", "[h]:24"))
        self.now(self.oversight.redirect(Filter(recipient=str(CAROL)), ERIN))
        self.assertEqual(self.ledger.count("hop"), 2)
        self.assertEqual(self.ledger.rows(flows), before)
        self.assertNotEqual(before, [("",)])

    def test_requeue_event(self) -> None:
        """Where it goes is remembered."""
        id = self.send(CAROL)
        self.now(self.oversight.requeue(ALL, "lmtp", "[h]:24", "root"))
        (event,) = self.events(id)
        self.assertEqual(
            event[3:8], (Kind.REQUEUED, "root", str(CAROL), "lmtp", "[h]:24")
        )

    def test_requeue_by_config(self) -> None:
        """With no other way it goes as the config says now."""
        self.send(CAROL, ERIN)
        self.attempt()
        way = schema.Route(domain="third.test", agent="lmtp", next_hop="[h]:24")
        self.office.router._ways = Ways([way])
        self.assertEqual(self.now(self.oversight.requeue(ALL)), Tally(1, 2))
        self.assertEqual(
            sorted(self.rows()),
            [
                ("lmtp", "[h]:24", [str(ERIN)]),
                ("smtp", "elsewhere.test", [str(CAROL)]),
            ],
        )
        self.assertEqual(self.due(), [str(CAROL), str(ERIN)])

    def test_whose_it_is(self) -> None:
        """Routes by sender and login hold for what is requeued or redirected as for
        what comes."""
        origin = Origin("ESMTPSA", login="alice@example.test")
        made = self.office.envelope(ALICE, CAROL)._replace(origin=origin)
        self.now(self.office.accept(made))
        self.now(self.office.send(BOB, CAROL))
        self.now(self.office.send(None, CAROL))
        routes = (
            schema.Route(login="alice@example.test", agent="own"),
            schema.Route(sender=str(BOB), agent="smart", next_hop="[h]:25"),
        )
        self.office.router._ways = Ways(routes)
        for change, to, next_hop in (
            (self.oversight.requeue(ALL), CAROL, "elsewhere.test"),
            (self.oversight.redirect(ALL, ERIN), ERIN, "third.test"),
        ):
            self.assertEqual(self.now(change), Tally(3, 3))
            self.assertEqual(
                sorted(self.rows()),
                [
                    ("own", next_hop, [str(to)]),
                    ("smart", "[h]:25", [str(to)]),
                    ("smtp", next_hop, [str(to)]),
                ],
            )

    def test_requeue_held(self) -> None:
        """What an operator holds stays held on its new way."""
        self.send(CAROL)
        self.now(self.oversight.hold(ALL))
        self.now(self.oversight.requeue(ALL, "lmtp", "[h]:24"))
        self.assertEqual(self.states(), {str(CAROL): "held"})

    def test_requeue_unsure(self) -> None:
        """When it cannot be said where it goes, it stays where it is."""
        self.send(CAROL)
        self.oversight._router = Unsure()
        self.fails(Temporary, self.oversight.requeue(ALL))
        self.assertEqual(self.rows(), [("smtp", "elsewhere.test", [str(CAROL)])])

    def test_redirect(self) -> None:
        """Somebody else gets it, and the sender is told of him as of whom he wrote
        to."""
        id = self.send(CAROL, DAVE)
        redirect = self.oversight.redirect(Filter(recipient=str(DAVE)), ERIN, "root")
        self.assertEqual(self.now(redirect), Tally(1, 1))
        self.assertEqual(
            sorted(self.rows()),
            [
                ("smtp", "elsewhere.test", [str(CAROL)]),
                ("smtp", "third.test", [str(ERIN)]),
            ],
        )
        jobs = self.now(self.queue.claim(9))
        (job,) = [job for job in jobs if job.recipients == (ERIN,)]
        self.assertEqual(job.notification(ERIN).original, original(DAVE))
        (event,) = self.events(id)
        self.assertEqual(
            (event.kind, event.recipient, event.text),
            (Kind.REDIRECTED, str(DAVE), f"to <{ERIN}>"),
        )

    def test_redirect_all(self) -> None:
        """Who gets it instead of several gets it once."""
        self.send(CAROL, DAVE)
        self.assertEqual(self.now(self.oversight.redirect(ALL, ERIN)), Tally(1, 2))
        self.assertEqual(self.rows(), [("smtp", "third.test", [str(ERIN)])])

    def test_redirect_held(self) -> None:
        """Who gets it instead of several, of whom one is held, is held."""
        for held in (CAROL, ERIN):
            self.send(CAROL, ERIN)
            self.now(self.oversight.hold(Filter(recipient=str(held))))
            self.now(self.oversight.redirect(ALL, BOB_ELSEWHERE))
            self.assertEqual(self.states(), {str(BOB_ELSEWHERE): "held"})
            self.now(self.oversight.remove(ALL))

    def test_redirect_to_another(self) -> None:
        """So does who is a recipient already, whatever row that is in."""
        self.send(CAROL, DAVE, ERIN)
        for address in (DAVE, ERIN, CAROL):
            meant = Filter(recipient=str(address))
            self.assertEqual(
                self.now(self.oversight.redirect(meant, CAROL)), Tally(1, 1)
            )
        self.assertEqual(self.rows(), [("smtp", "elsewhere.test", [str(CAROL)])])
        self.now(self.oversight.remove(ALL))
        self.empty()

    def test_redirect_nowhere(self) -> None:
        """Nobody here has the address: nothing is changed."""
        self.send(CAROL)
        nobody = Address("nobody", "example.test")
        self.fails(NoSuchAccount, self.oversight.redirect(ALL, nobody))
        self.assertEqual(self.waiting(), [str(CAROL)])

    def test_bounce(self) -> None:
        """Those who are meant are returned at once, with the text; the others stay as
        they are, and so does what is held for them."""
        id = self.send(CAROL, DAVE)
        self.now(self.oversight.hold(ALL))
        bounce = self.oversight.bounce(Filter(recipient=str(DAVE)), "No\nmore", "root")
        self.assertEqual(self.now(bounce), Tally(1, 1))
        self.assertEqual(self.states(), {str(CAROL): "held"})
        (report,) = self.bounces()
        text = report.as_string()
        self.assertIn("No more", text)
        self.assertIn("Status: 5.7.1", text)
        self.assertNotIn(str(CAROL), report.get_payload()[0].as_string())
        kinds = self.kinds(id)
        self.assertEqual(kinds, [Kind.HELD, Kind.BOUNCED, Kind.NOTIFIED])
        self.assertEqual(self.events(id)[1].who, "root")

    def test_bounce_many(self) -> None:
        """Many rows are returned, and each sender is told once of each message."""
        self.patch(oversight, "_RETURNED", 2)
        for _ in range(5):
            self.send(CAROL, ERIN)
        self.assertEqual(self.now(self.oversight.bounce(ALL)), Tally(5, 10))
        self.empty()
        self.assertEqual(len(self.bounces()), 10)

    def test_bounce_untold(self) -> None:
        """Who cannot be told now keeps his message."""
        self.send(CAROL)
        self.office.own._router = Unsure()
        self.assertEqual(self.now(self.oversight.bounce(ALL)), Tally(1, 0, 1))
        self.assertEqual(self.waiting(), [str(CAROL)])


class AnewTests(ReleaseCase):
    """What the server itself has to find a way for is accepted anew."""

    def requeued(self, *wanted: Address) -> Sequence[bytes]:
        (job,) = self.now(self.queue.claim(9))
        self.assertEqual((job.agent, job.recipients), (RELEASE, wanted))
        self.now(self.queue.settle(job, self.outcomes(job)))
        return self.store.inbox(2)

    def test_redirect_here(self) -> None:
        """Mail that is redirected to somebody here is in his mailbox."""
        self.now(self.office.send(ALICE, CAROL))
        self.now(self.office.oversight.redirect(ALL, BOB))
        (message,) = self.requeued(BOB)
        self.assertIn("hello", email.message_from_bytes(message)["Subject"])

    def test_for_later(self) -> None:
        """What its sender has held until a time waits for that on its way to whoever
        it is redirected to, and is not requeued; unless it is named."""
        oversight = self.office.oversight
        ids = [to_text(self.hold(CAROL).id) for _ in range(3)]
        self.assertEqual(self.now(oversight.requeue(ALL)), Tally())
        self.assertEqual(self.now(oversight.redirect(ALL, DAVE)), Tally(3, 3))
        rows = self.ledger.rows("SELECT agent, due FROM hop")
        self.assertEqual(rows, [(RELEASE, self.start + 3600)] * 3)
        self.now(oversight.requeue(Filter(ids=(ids[0],))))
        self.now(oversight.redirect(Filter(ids=(ids[1],)), ERIN))
        self.assertEqual(
            [(job.agent, job.recipients) for job in self.due()],
            [("smtp", (DAVE,)), ("smtp", (ERIN,))],
        )

    def test_requeue_here(self) -> None:
        """So is mail for a domain that has become ours."""
        bob = Address("bob", "elsewhere.test")
        self.now(self.office.send(ALICE, bob))
        home = self.office.router._homes["example.test"]
        self.office.router._homes["elsewhere.test"] = home
        self.now(self.office.oversight.requeue(ALL))
        self.assertEqual(len(self.requeued(bob)), 1)
        self.assertEqual(self.ledger.count("queued"), 0)

    def test_requeue_to_nobody(self) -> None:
        """Who does not exist any more is found out by the server, which tells the
        sender."""
        self.now(self.office.send(ALICE, Address("nobody", "elsewhere.test")))
        home = self.office.router._homes["example.test"]
        self.office.router._homes["elsewhere.test"] = home
        self.now(self.office.oversight.requeue(ALL))
        self.requeued(Address("nobody", "elsewhere.test"))
        (bounce,) = self.store.inbox(1)
        self.assertIn(b"Status: 5.1.1", bounce)
