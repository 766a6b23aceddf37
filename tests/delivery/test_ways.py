"""Which route a message takes, by more than its recipient's domain."""

from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs

from tests.delivery.fakes import CAROL, ERIN, FAILED, Directory, Office, TestCase
from twisted_mta.config import schema
from twisted_mta.delivery.router import Router
from twisted_mta.errors import NoSuchAccount, Temporary
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import Mailing, Resolved, Route, ToAgent, ToMailbox

Way = schema.Route


class WaysCase(TestCase):
    """A router of example.test, where alice and pm have accounts."""

    def router(
        self,
        *routes: schema.Route,
        aliases: dict[str, list[str]] | None = None,
        accounts: tuple[str, ...] = (),
        **domain: Any,
    ) -> Router:
        return Router(
            Directory(
                ["alice@example.test", "pm@example.test", *accounts], aliases or {}
            ),
            {"example.test": schema.Domain(**domain)},
            routes,
            split("pm@example.test"),
        )

    def resolved(
        self, router: Router, to: str, sender: str | None = None, login: str = ""
    ) -> Resolved:
        mailing = Mailing(None if sender is None else split(sender), login)
        return self.now(router.route(split(to), mailing))

    def end(self, *arguments: Any) -> Route:
        (route,) = self.resolved(*arguments).routes
        return route

    def agent(self, *arguments: Any) -> str:
        """The agent of the one route."""
        route = self.end(*arguments)
        assert isinstance(route, ToAgent), route
        return route.agent


class WaysTests(WaysCase):
    """Routes for elsewhere."""

    def test_recipient(self) -> None:
        """A whole address, in any case and in both spellings of its domain; others of
        the domain go on."""
        router = self.router(
            Way(recipient="Carol@bücher.test", agent="one"),
            Way(domain=".test", agent="two"),
        )
        self.assertEqual(self.agent(router, "cArol@xn--bcher-kva.test"), "one")
        self.assertEqual(self.agent(router, "carol@bücher.test"), "one")
        self.assertEqual(self.agent(router, "dave@bücher.test"), "two")

    def test_sender(self) -> None:
        """An address, a domain, all below one, anybody, nobody."""
        router = self.router(
            Way(sender="alice@example.test", agent="address"),
            Way(sender="example.test", agent="domain"),
            Way(sender=".example.test", agent="below"),
            Way(sender="<>", agent="bounces"),
            Way(sender="*", agent="anybody"),
        )
        for sender, agent in (
            ("Alice@example.test", "address"),
            ("bob@example.test", "domain"),
            ("bob@a.b.example.test", "below"),
            ("bob@else.test", "anybody"),
            (None, "bounces"),
        ):
            self.assertEqual(self.agent(router, "x@there.test", sender), agent)

    def test_login(self) -> None:
        """Who logged in, whatever the sender; nobody who did not."""
        router = self.router(
            Way(login="alice@example.test", agent="alice"),
            Way(login="example.test", agent="ours"),
            Way(login="*", agent="anybody"),
            Way(domain="*", agent="nobody"),
        )
        for login, agent in (
            ("alice@example.test", "alice"),
            ("bob@example.test", "ours"),
            ("bob@else.test", "anybody"),
            ("", "nobody"),
        ):
            found = self.agent(router, "x@there.test", "alice@example.test", login)
            self.assertEqual(found, agent)

    def test_all_must_fit(self) -> None:
        """Of a route that asks several things all must be so."""
        router = self.router(
            Way(
                domain=".there.test",
                sender="example.test",
                login="alice@example.test",
                agent="all",
            )
        )
        right = ("x@a.there.test", "bob@example.test", "alice@example.test")
        self.assertEqual(self.agent(router, *right), "all")
        for number, wrong in enumerate(
            ("x@there.test", "bob@else.test", "bob@example.test")
        ):
            asked = [*right]
            asked[number] = wrong
            self.assertEqual(self.agent(router, *asked), "smtp")

    def test_order(self) -> None:
        """The first that fits counts, of whatever kind it is."""
        ways = [
            Way(recipient="x@there.test", agent="recipient"),
            Way(sender="alice@example.test", agent="sender"),
            Way(domain="there.test", agent="domain"),
        ]
        asked = ("x@there.test", "alice@example.test")
        for first in range(3):
            turned = [*ways[first:], *ways[:first]]
            found = self.agent(self.router(*turned), *asked)
            self.assertEqual(found, turned[0].agent)

    def test_recipient_and_sender(self) -> None:
        """Of routes for one recipient the first whose sender fits."""
        router = self.router(
            Way(recipient="x@there.test", sender="<>", agent="bounces"),
            Way(recipient="x@there.test", sender="example.test", agent="ours"),
        )
        self.assertEqual(self.agent(router, "x@there.test"), "bounces")
        self.assertEqual(self.agent(router, "x@there.test", "a@example.test"), "ours")
        self.assertEqual(self.agent(router, "x@there.test", "a@else.test"), "smtp")

    def test_odd_sender(self) -> None:
        """A sender whose domain cannot be, or that is quoted, fits what names no
        domain, and breaks nothing."""
        router = self.router(
            Way(sender="example.test", agent="domain"), Way(sender="*", agent="any")
        )
        for odd in (
            Address("x", "\u2e7a\u0378.test"),
            Address("a b", "else.test"),
            Address("x@example.test", "[192.0.2.1]"),
        ):
            mailing = Mailing(odd)
            (route,) = self.now(router.route(split("x@there.test"), mailing)).routes
            assert isinstance(route, ToAgent)
            self.assertEqual(route.agent, "any")

    def test_hold(self) -> None:
        """Such a route may hold, and name its next hop."""
        router = self.router(Way(sender="*", next_hop="[hub.test]:25", hold=True))
        route = self.end(router, "x@there.test", "a@else.test")
        expected = ToAgent("smtp", "[hub.test]:25", split("x@there.test"), True)
        self.assertEqual(route, expected)


class OursTests(WaysCase):
    """Routes and our own domains."""

    def test_sender_takes_nothing_from_mailboxes(self) -> None:
        """Routes by sender, login or any domain are not for our own domains."""
        router = self.router(
            Way(sender="*", agent="away"),
            Way(sender="<>", agent="away"),
            Way(login="*", agent="away"),
            Way(domain="*", agent="away"),
            Way(domain=".test", agent="away"),
        )
        route = self.end(router, "alice@example.test", "a@else.test", "b@else.test")
        self.assertIsInstance(route, ToMailbox)
        self.assertEqual(self.agent(router, "x@else.test", "a@else.test"), "away")

    def test_recipient(self) -> None:
        """A route that names an address of ours comes before its account, needs none,
        and has its subaddresses."""
        router = self.router(
            Way(recipient="alice@example.test", agent="pipe", next_hop="x"),
            Way(recipient="Support@example.test", agent="pipe"),
        )
        for to in ("alice", "Alice", "alice+x", "support", "support+ticket-7"):
            resolved = self.resolved(router, f"{to}@example.test")
            self.assertTrue(resolved.local)
            (route,) = resolved.routes
            assert isinstance(route, ToAgent)
            self.assertEqual(route.agent, "pipe")
            self.assertEqual(route.recipient.local, to)
        self.assertEqual(route.next_hop, "example.test")
        self.fails(NoSuchAccount, router.route(split("other@example.test")))

    def test_recipient_with_detail(self) -> None:
        """Of the address with its detail and that without, the first route counts."""
        router = self.router(
            Way(recipient="alice+x@example.test", agent="one"),
            Way(recipient="alice@example.test", agent="two"),
        )
        self.assertEqual(self.agent(router, "alice+x@example.test"), "one")
        self.assertEqual(self.agent(router, "alice+y@example.test"), "two")

    def test_recipient_by_sender(self) -> None:
        """It may ask of the sender besides; others reach the account."""
        router = self.router(
            Way(recipient="alice@example.test", sender="bulk.test", agent="pipe")
        )
        self.assertEqual(
            self.agent(router, "alice@example.test", "a@bulk.test"), "pipe"
        )
        route = self.end(router, "alice@example.test", "a@else.test")
        self.assertIsInstance(route, ToMailbox)

    def test_alias(self) -> None:
        """Who gets mail by an alias gets it by his own route, and for a member
        elsewhere the sender counts as for anybody."""
        router = self.router(
            Way(recipient="support@example.test", agent="pipe"),
            Way(sender="else.test", agent="relay"),
            aliases={"team@example.test": ["support@example.test", "x@there.test"]},
        )
        resolved = self.resolved(router, "team@example.test", "a@else.test")
        agents = [route.agent for route in resolved.routes]  # type: ignore[union-attr]
        self.assertEqual(agents, ["pipe", "relay"])
        self.assertFalse(resolved.ask)


class BounceTests(TestCase):
    """What this server itself writes."""

    def test_null_sender(self) -> None:
        """A bounce takes the way of the null sender."""
        office = Office(routes=[Way(sender="<>", agent="bounces")])
        self.now(office.send(ERIN, CAROL))
        (job,) = self.now(office.queue.claim(9))
        self.assertEqual(job.agent, "smtp")
        self.now(office.queue.settle(job, {CAROL: FAILED}))
        (bounce,) = self.now(office.queue.claim(9))
        self.assertEqual(bounce.recipients, (ERIN,))
        self.assertEqual(bounce.agent, "bounces")


class CarriedTests(WaysCase):
    """A domain of ours whose mail another takes."""

    def test_accounts(self) -> None:
        """Who has an account has his mail there instead of in a mailbox; nobody else
        exists, and aliases lead where they did."""
        router = self.router(
            deliver="lmtp",
            next_hop="unix:/run/lmtp",
            aliases={"team@example.test": ["alice@example.test", "x@there.test"]},
        )
        resolved = self.resolved(router, "alice+x@example.test")
        to = split("alice+x@example.test")
        self.assertEqual(
            resolved, Resolved(True, (ToAgent("lmtp", "unix:/run/lmtp", to),))
        )
        self.fails(NoSuchAccount, router.route(split("bob@example.test")))
        routes = self.resolved(router, "team@example.test").routes
        agents = [route.agent for route in routes]  # type: ignore[union-attr]
        self.assertEqual(agents, ["lmtp", "smtp"])
        # Nobody has these addresses but the postmaster, who has an account.
        for role in ("postmaster", "abuse"):
            route = self.end(router, f"{role}@example.test")
            assert isinstance(route, ToAgent)
            self.assertEqual(route.recipient, split("pm@example.test"))

    def test_ask(self) -> None:
        """Whom the next server takes exists, and the router says that it is to be
        asked; accounts here keep their mailboxes."""
        router = self.router(
            deliver="lmtp",
            recipients="ask",
            aliases={
                "boss@example.test": ["bob@example.test"],
                "all@example.test": ["bob@example.test", "carol@example.test"],
            },
        )
        resolved = self.resolved(router, "bob@example.test")
        route = ToAgent("lmtp", "example.test", split("bob@example.test"))
        self.assertEqual(resolved, Resolved(True, (route,), True))
        self.assertIsInstance(self.end(router, "alice@example.test"), ToMailbox)
        self.assertTrue(self.resolved(router, "boss@example.test").ask)
        # Of several some may exist.
        self.assertFalse(self.resolved(router, "all@example.test").ask)
        self.assertFalse(self.resolved(router, "x@there.test").ask)
        self.assertIsInstance(self.end(router, "abuse@example.test"), ToMailbox)

    def test_any(self) -> None:
        """Everybody exists."""
        router = self.router(deliver="pipe", recipients="any")
        resolved = self.resolved(router, "whoever@example.test")
        self.assertFalse(resolved.ask)
        self.assertEqual(self.agent(router, "whoever@example.test"), "pipe")
        self.assertIsInstance(self.end(router, "alice@example.test"), ToMailbox)

    def test_postmaster_there(self) -> None:
        """A postmaster whose address is one of those that are asked for makes no
        circle."""
        router = Router(
            Directory(["alice@example.test"], {}),
            {"example.test": schema.Domain(deliver="lmtp", recipients="ask")},
            (),
            split("postmaster@example.test"),
        )
        for role in ("postmaster", "abuse"):
            route = self.end(router, f"{role}@example.test")
            assert isinstance(route, ToAgent)
            self.assertEqual(route.recipient, split("postmaster@example.test"))

    def test_listed(self) -> None:
        """Who stands in a file exists, also if he has an account here; the file is
        read again when it changes, and the last one counts while it is gone."""
        file = Path(self.mktemp())
        file.write_text(
            "Bob\n# nobody\n\nalice@example.test  # moved\ncarol@other.test\n"
        )
        router = self.router(deliver="lmtp", recipients="listed", recipient_file=file)
        for local in ("bob", "BOB", "bob+x", "alice"):
            self.assertEqual(self.agent(router, f"{local}@example.test"), "lmtp")
        for local in ("carol", "nobody", "#"):
            who = Address(local, "example.test")
            self.fails(NoSuchAccount, router.route(who))
        self.assertIsInstance(self.end(router, "pm@example.test"), ToMailbox)
        file.write_text("carol\n")
        self._later(router)
        self.assertEqual(self.agent(router, "carol@example.test"), "lmtp")
        self.fails(NoSuchAccount, router.route(split("bob@example.test")))
        file.unlink()
        self._later(router)
        with capturedLogs() as events:
            self.assertEqual(self.agent(router, "carol@example.test"), "lmtp")
        (event,) = events
        self.assertIn("cannot be read", event["log_format"])

    def test_never_read(self) -> None:
        """A file that was never read is no reason to refuse anybody."""
        router = self.router(
            deliver="lmtp", recipients="listed", recipient_file=Path("/no/such")
        )
        error = self.fails(Temporary, router.route(split("bob@example.test")))
        self.assertEqual(error.status, "4.3.5")

    def _later(self, router: Router) -> None:
        """It is time to look again."""
        router._homes["example.test"].residents._look_at = 0.0
