"""Where mail goes."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.delivery.fakes import Directory, TestCase
from twisted_mta.config import schema
from twisted_mta.delivery.router import Router
from twisted_mta.errors import NoSuchAccount, NoSuchDomain, Temporary
from twisted_mta.interfaces import IDirectory, IRouter
from twisted_mta.mail.address import Address, split
from twisted_mta.mail.route import ToAgent, ToMailbox

ACCOUNTS = ("alice@example.test", "bob@example.test", "pm@example.test")


def mailbox(account: int, address: str) -> ToMailbox:
    return ToMailbox(account, split(address))


class RouterTests(TestCase):
    def router(
        self,
        aliases: Mapping[str, Sequence[str]] = {},
        accounts: Sequence[str] = ACCOUNTS,
        routes: Sequence[schema.Route] = (),
        postmaster: str = "pm@example.test",
        catch_all: str | None = None,
        subaddress: str = "+",
    ) -> Router:
        directory = Directory(accounts, aliases)
        verifyObject(IDirectory, directory)
        domain = schema.Domain(catch_all=catch_all, subaddress=subaddress)
        router = Router(
            directory,
            {"example.test": domain, "bücher.test": schema.Domain()},
            routes,
            split(postmaster),
        )
        verifyObject(IRouter, router)
        return router

    def test_account(self) -> None:
        """An account's mail goes to its mailbox, whatever the case."""
        resolved = self.now(self.router().route(Address("Alice", "example.test")))
        self.assertTrue(resolved.local)
        self.assertEqual(resolved.routes, (mailbox(1, "Alice@example.test"),))

    def test_nobody(self) -> None:
        """A local address that nobody has is refused."""
        self.fails(NoSuchAccount, self.router().route(split("x@example.test")))

    def test_subaddress(self) -> None:
        """bob+x@ is bob's, and keeps its detail for who files it."""
        resolved = self.now(self.router().route(split("bob+x+y@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob+x+y@example.test"),))

    def test_subaddress_exact_first(self) -> None:
        """An account that has the separator in its name comes before."""
        router = self.router(accounts=["bob@example.test", "bob+x@example.test"])
        resolved = self.now(router.route(split("bob+x@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob+x@example.test"),))

    def test_subaddress_other_separator(self) -> None:
        """The separator is a setting, and may be none."""
        router = self.router(subaddress="-")
        self.now(router.route(split("bob-x@example.test")))
        self.fails(NoSuchAccount, router.route(split("bob+x@example.test")))
        router = self.router(subaddress="")
        self.fails(NoSuchAccount, router.route(split("bob+x@example.test")))

    def test_subaddress_of_nobody(self) -> None:
        """A detail without a name before it is nobody's."""
        self.fails(NoSuchAccount, self.router().route(split("+x@example.test")))

    def test_alias(self) -> None:
        """An alias leads to many, nested, here and elsewhere, each once; it is
        local all the same."""
        router = self.router(
            {
                "team@example.test": ["bob@example.test", "inner@example.test"],
                "inner@example.test": [
                    "Bob@example.test",
                    "alice@example.test",
                    "carol@elsewhere.test",
                    "carol@elsewhere.test",
                ],
            }
        )
        team = split("team+detail@example.test")
        resolved = self.now(router.route(team))
        self.assertTrue(resolved.local)
        self.assertEqual(
            resolved.routes,
            (
                mailbox(2, "bob@example.test"),
                mailbox(1, "alice@example.test"),
                ToAgent(
                    *("smtp", "elsewhere.test", split("carol@elsewhere.test")),
                    forwarder=team,
                ),
            ),
        )

    def test_alias_to_nobody(self) -> None:
        """A member that does not exist costs the others nothing; an alias of
        such members alone does not exist."""
        router = self.router(
            {
                "team@example.test": ["gone@example.test", "bob@example.test"],
                "ghost@example.test": ["gone@example.test"],
            }
        )
        resolved = self.now(router.route(split("team@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob@example.test"),))
        self.fails(NoSuchAccount, router.route(split("ghost@example.test")))

    def test_h46_alias_loop(self) -> None:
        """Aliases that lead in a circle end."""
        router = self.router(
            {
                "a@example.test": ["b@example.test"],
                "b@example.test": ["a@example.test", "b@example.test"],
                "c@example.test": ["a@example.test", "bob@example.test"],
            }
        )
        self.fails(NoSuchAccount, router.route(split("a@example.test")))
        resolved = self.now(router.route(split("c@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob@example.test"),))

    def test_alias_too_large(self) -> None:
        """An alias of more than 1000 addresses is an operator's mistake: the
        sender tries again later."""
        many = [f"u{number}@elsewhere.test" for number in range(999)]
        router = self.router({"all@example.test": many})
        resolved = self.now(router.route(split("all@example.test")))
        self.assertEqual(len(resolved.routes), 999)
        router = self.router({"all@example.test": [*many, "one@too.test"]})
        error = self.fails(Temporary, router.route(split("all@example.test")))
        self.assertEqual(error.status, "4.3.5")

    def test_alias_deep(self) -> None:
        """Depth alone breaks nothing."""
        chain = {
            f"a{number}@example.test": [f"a{number + 1}@example.test"]
            for number in range(900)
        }
        router = self.router(chain | {"a900@example.test": ["bob@example.test"]})
        resolved = self.now(router.route(split("a0@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob@example.test"),))

    def test_catch_all(self) -> None:
        """Who is named as catch-all gets what nobody else does."""
        router = self.router(catch_all="bob@example.test")
        resolved = self.now(router.route(split("x@example.test")))
        self.assertEqual(resolved.routes, (mailbox(2, "bob@example.test"),))
        resolved = self.now(router.route(split("alice@example.test")))
        self.assertEqual(resolved.routes, (mailbox(1, "alice@example.test"),))

    def test_catch_all_nobody(self) -> None:
        """A catch-all that does not exist makes no circle."""
        router = self.router(catch_all="gone@example.test")
        self.fails(NoSuchAccount, router.route(split("x@example.test")))

    def test_roles(self) -> None:
        """postmaster and abuse of every domain, and postmaster without one,
        reach the postmaster."""
        router = self.router(catch_all="bob@example.test")
        for role in (
            Address("PostMaster", "example.test"),
            Address("abuse", "example.test"),
            Address("postmaster", "bücher.test"),
            Address("Postmaster", ""),
        ):
            resolved = self.now(router.route(role))
            self.assertTrue(resolved.local)
            self.assertEqual(resolved.routes, (mailbox(3, "pm@example.test"),))

    def test_roles_own(self) -> None:
        """Who has the address of a role gets its mail."""
        router = self.router({"abuse@example.test": ["alice@example.test"]})
        resolved = self.now(router.route(split("abuse@example.test")))
        self.assertEqual(resolved.routes, (mailbox(1, "alice@example.test"),))

    def test_roles_nobody(self) -> None:
        """Mail to a role is never refused for good: not even when the config
        names somebody who does not exist, or the role itself."""
        for postmaster in ("gone@example.test", "abuse@example.test"):
            router = self.router(postmaster=postmaster)
            error = self.fails(Temporary, router.route(split("abuse@example.test")))
            self.assertEqual(error.status, "4.3.5")

    def test_elsewhere(self) -> None:
        """Other domains go out by the default route to their own exchangers."""
        resolved = self.now(self.router().route(split("carol@elsewhere.test")))
        self.assertFalse(resolved.local)
        expected = ToAgent("smtp", "elsewhere.test", split("carol@elsewhere.test"))
        self.assertEqual(resolved.routes, (expected,))

    def test_first_route_that_fits(self) -> None:
        """Routes fit a domain, all below one, or any; the first counts."""
        routes = [
            schema.Route(domain="a.wide.test", agent="lmtp", next_hop="inner"),
            schema.Route(domain=".wide.test", next_hop="[hub.test]:25"),
            schema.Route(domain="b.wide.test", agent="late"),
            schema.Route(domain="*", hold=True),
            schema.Route(domain="never.test", agent="late"),
        ]
        router = self.router(routes=routes)
        for domain, agent, next_hop, hold in (
            ("a.wide.test", "lmtp", "inner", False),
            ("b.wide.test", "smtp", "[hub.test]:25", False),
            ("x.y.wide.test", "smtp", "[hub.test]:25", False),
            ("wide.test", "smtp", "wide.test", True),
            ("never.test", "smtp", "never.test", True),
            ("[192.0.2.1]", "smtp", "[192.0.2.1]", True),
        ):
            recipient = Address("x", domain)
            resolved = self.now(router.route(recipient))
            expected = ToAgent(agent, next_hop, recipient, hold)
            self.assertEqual(resolved.routes, (expected,))

    def test_international(self) -> None:
        """A domain is ours in both of its spellings; elsewhere the next hop is
        as the DNS has it."""
        router = self.router(accounts=["x@bücher.test"])
        for domain in ("bücher.test", "xn--bcher-kva.test", "XN--BCHER-KVA.test"):
            resolved = self.now(router.route(Address("x", domain)))
            self.assertEqual(resolved.routes, (mailbox(1, "x@bücher.test"),))
        resolved = self.now(router.route(Address("x", "straße.test")))
        (route,) = resolved.routes
        assert isinstance(route, ToAgent)
        self.assertEqual(route.next_hop, "xn--strae-oqa.test")
        self.fails(NoSuchDomain, router.route(Address("x", "\u2e7a\u0378.test")))

    def test_h43_taken_literally(self) -> None:
        """No relay by % or !, no command, no file: a local part is a name."""
        router = self.router()
        for local in (
            "carol%elsewhere.test",
            "elsewhere.test!carol",
            "carol@elsewhere.test",
            "@elsewhere.test:carol",
            "|/bin/sh",
            "/etc/passwd",
            "${run{/bin/sh}}",
            ":include:/etc/passwd",
        ):
            self.fails(NoSuchAccount, router.route(Address(local, "example.test")))

    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from("abcdefg"),
            st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4),
        )
    )
    def test_any_graph(self, graph: dict[str, list[str]]) -> None:
        """Whatever aliases point to, routing ends, and reaches exactly the
        accounts that a walk of the graph reaches."""
        accounts = {"a", "h"}
        router = self.router(
            {
                f"{name}@example.test": [f"{target}@example.test" for target in targets]
                for name, targets in graph.items()
            },
            accounts=["a@example.test", "h@example.test"],
        )
        reached, walk = set(), ["c"]
        while walk:
            name = walk.pop()
            if name not in reached:
                reached.add(name)
                walk += [] if name in accounts else graph.get(name, [])
        expected = reached & accounts
        if not expected:
            self.fails(NoSuchAccount, router.route(split("c@example.test")))
            return
        resolved = self.now(router.route(split("c@example.test")))
        found = {r.recipient.local for r in resolved.routes}
        self.assertEqual(found, expected)
