"""Which way mail for elsewhere goes, by the real daemon: mail exchangers in
their order, loops, a smarthost that wants to know who we are."""

import json
import unittest

from tests.system.daemon import Directory, Server, free_port_base, wait_until
from tests.system.relaycase import (
    PASSWORD,
    TwoServers,
    config,
    inbox,
    queue,
    report,
    submit,
    wait_for,
)

TEXT = "Subject: hello\r\n\r\nHello\r\n"


class ExchangerTests(TwoServers):
    """Mail exchangers of one domain."""

    zone = """
    many.test MX 10 dead.many.test
    many.test MX 20 nowhere.many.test
    many.test MX 30 mail.b.test
    many.test MX 40 spare.many.test
    dead.many.test A 127.0.0.9
    spare.many.test A 127.0.0.1
    bare.test A 127.0.0.1
    ours.test MX 10 mail.a.test
    ours.test MX 20 mail.b.test
    """
    others = ("many.test", "bare.test")

    def setUp(self) -> None:
        super().setUp()
        for domain in self.others:
            self.b.command("alias", "add", f"blice@{domain}", "blice@b.test")

    def test_next_in_order(self) -> None:
        """The best exchanger is dead, the next has no address: the third gets
        the message, at once, and the last is not asked."""
        submit(self.a, "alice@a.test", ["blice@many.test"], TEXT)
        wait_for(self.b, "blice@b.test", 1)
        line = next(one for one in self.a.log.splitlines() if "to=<blice@many" in one)
        self.assertIn("relay=mail.b.test[127.0.0.1]:", line)
        self.assertIn("status=delivered", line)
        self.assertEqual(len(inbox(self.b, "blice@b.test")), 1)

    def test_no_exchanger(self) -> None:
        """A domain without MX records gets its mail at its address."""
        submit(self.a, "alice@a.test", ["blice@bare.test"], TEXT)
        wait_for(self.b, "blice@b.test", 1)

    def test_h51_our_own(self) -> None:
        """A domain whose best exchanger is this server, which does not know it,
        is not sent to the others: the sender is told that it loops."""
        submit(self.a, "alice@a.test", ["x@ours.test"], TEXT)
        (message,) = wait_for(self.a, "alice@a.test", 1)
        self.assertEqual(report(message).failed, {"x@ours.test": "5.4.6"})

    def test_some_of_them(self) -> None:
        """One recipient exists and one does not: one gets the message, the
        sender is told of the other alone."""
        submit(self.a, "alice@a.test", ["blice@b.test", "nobody@b.test"], TEXT)
        wait_for(self.b, "blice@b.test", 1)
        (message,) = wait_for(self.a, "alice@a.test", 1)
        self.assertEqual(report(message).failed, {"nobody@b.test": "5.1.1"})

    def test_h46_loop(self) -> None:
        """Two aliases that send a message in circles: it ends, and the sender
        is told once."""
        self.a.command("alias", "add", "ring@a.test", "ring@b.test")
        self.b.command("alias", "add", "ring@b.test", "ring@a.test")
        submit(self.a, "alice@a.test", ["ring@b.test"], TEXT)
        (message,) = wait_for(self.a, "alice@a.test", 1)
        self.assertEqual(set(report(message).failed.values()), {"5.4.6"})
        for server in (self.a, self.b):
            wait_until(
                lambda server=server: not queue(server), "the queue is empty", server
            )
        self.assertEqual(len(inbox(self.a, "alice@a.test")), 1)


class SmarthostTests(unittest.TestCase):
    """All mail goes to a provider, which wants a login."""

    def setUp(self) -> None:
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        self.base = free_port_base()
        # The login need not be the sender's address.
        self.provider = self.server(
            "b.test", self.base + 1, "smtp: {check_sender: none}\n"
        )
        self.provider.command("account", "add", "blice@b.test", text=PASSWORD)

    def server(self, domain: str, base: int, more: str) -> Server:
        """Start a server for a domain."""
        home = self.directory.path / domain
        home.mkdir()
        server = Server(config(home, base, domain, more), base)
        self.addCleanup(server.kill)
        return server

    def client(self, listener: str, password: str, more: str) -> Server:
        """Start the server whose mail goes there, and submit a message."""
        key = self.directory.path / "key"
        key.write_text(f"{password}\n")
        server = self.server(
            "a.test",
            self.base,
            f"agents: {{provider: {{kind: smtp, user: blice@b.test, {more},"
            f" password_file: {json.dumps(str(key))}}}}}\n"
            'routes: [{domain: "*", agent: provider,'
            f' next_hop: "[localhost]:{self.provider.ports[listener]}"}}]\n',
        )
        server.command("account", "add", "alice@a.test", text=PASSWORD)
        submit(server, "alice@a.test", ["blice@b.test"], TEXT)
        return server

    def check(self, listener: str, more: str) -> None:
        """The message goes through, with a login and under TLS."""
        server = self.client(listener, PASSWORD, more)
        (message,) = wait_for(self.provider, "blice@b.test", 1)
        self.assertIn("with ESMTPSA", message.get_all("Received")[0])
        wait_until(lambda: not queue(server), "the queue is empty", server)

    def test_starttls(self) -> None:
        """With STARTTLS."""
        self.check("submission", "tls: encrypt")

    def test_implicit(self) -> None:
        """With TLS from the first octet."""
        self.check("submissions", "tls: encrypt, implicit_tls: true")

    def refused(self, password: str, tls: str) -> str:
        """The message stays in the queue, and nobody gets it.

        @return: what the queue says.
        """
        server = self.client("submission", password, f"tls: {tls}")
        (row,) = wait_until(
            lambda: [one for one in queue(server) if one["attempts"]],
            "it was tried",
            server,
        )
        self.assertEqual(row["state"], "waiting")
        self.assertEqual(inbox(self.provider, "blice@b.test"), [])
        self.assertEqual(inbox(server, "alice@a.test"), [])
        diagnostic: str = row["diagnostic"]
        return diagnostic

    def test_wrong_password(self) -> None:
        """The operator's mistake is no sender's fault: the mail waits."""
        self.assertIn("535 5.7.8", self.refused("wrong", "encrypt"))

    def test_h51_not_verified(self) -> None:
        """The password does not go to a server whose certificate could be
        anybody's; the mail waits."""
        self.assertIn("certificate", self.refused(PASSWORD, "verify"))
        self.assertIn("alert unknown ca", self.provider.log)
