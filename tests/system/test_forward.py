"""Mail that is sent on, with real servers: return addresses, loops, VERP, the
suppression list, and a backup MX."""

import smtplib
from pathlib import Path

from tests.system.daemon import PATIENCE_S, Server, wait_until
from tests.system.relaycase import (
    PASSWORD,
    TRUSTING,
    TwoServers,
    config,
    queue,
    report,
    wait_for,
)

CAROL = "carol@c.test"  # at a, which has c.test besides
ANN = "ann@e.test"  # nobody's


class ForwardCase(TwoServers):
    """C{a} has C{c.test} besides, and takes mail for C{d.test}, which C{b} has."""

    zone = "c.test MX 10 mail.a.test\nd.test MX 10 mail.b.test\n"
    others = ("d.test",)

    def server(self, name: str, base: int, other_port: int) -> Server:
        home = self.directory.path / name
        home.mkdir()
        more = (
            f"dns: {{servers: ['{self.dns}']}}\n"
            "agents: {smtp: {kind: smtp, loopback: true, port: %d}}\n" % other_port
        )
        if name == "a":
            more += (
                "suppression: {hard_bounces: 1}\n"
                f"relay_domains: {{d.test: {{next_hop: '[127.0.0.1]:{other_port}'}}}}\n"
            )
        others = ("c.test",) if name == "a" else self.others
        server = Server(config(home, base, f"{name}.test", more, others), base)
        self.addCleanup(server.kill)
        server.command("account", "add", f"{name}lice@{name}.test", text=PASSWORD)
        return server


def stranger(server: Server) -> smtplib.SMTP:
    """Another mail server, which has said hello."""
    client = smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=PATIENCE_S)
    client.ehlo("mail.c.test")
    return client


def said(client: smtplib.SMTP, sender: str, recipient: str) -> tuple[int, str]:
    """What comes of a recipient."""
    client.rset()
    client.mail(sender)
    code, text = client.rcpt(recipient)
    return code, text.decode()


def bare(address: str | None) -> str:
    return (address or "").strip("<>")


class ForwardTests(ForwardCase):
    def test_there_and_back(self) -> None:
        """What an alias sends on comes from an address of ours; a bounce to that
        reaches who wrote, and nothing else does. A loop ends, and its sender is
        told."""
        a, b = self.a, self.b
        a.command("account", "add", CAROL, text=PASSWORD)
        b.command("alias", "add", "fwd@b.test", "alice@a.test")
        b.command("alias", "add", "loop@b.test", "loop@a.test")
        a.command("alias", "add", "loop@a.test", "loop@b.test")
        with stranger(b) as client:
            client.sendmail(CAROL, ["fwd@b.test"], "Subject: one\r\n\r\nHello\r\n")
            (message,) = wait_for(a, "alice@a.test", 1)
            back = bare(message["Return-Path"])
            self.assertRegex(back, r"^SRS0=....=..=c\.test=carol@b\.test$")
            self.assertEqual(message["Delivered-To"], "fwd@b.test")
            # Letters change their case on the way; the stranger is nobody's friend.
            self.assertEqual(said(client, CAROL, back)[0], 550)
            self.assertEqual(said(client, "", f"X{back}")[0], 550)
            self.assertEqual(said(client, "", back.replace("carol", "caro1"))[0], 550)
            client.rset()
            client.sendmail("", [back.upper()], "Subject: bounce\r\n\r\nNo\r\n")
            (bounce,) = wait_for(a, CAROL, 1)
            self.assertEqual(
                (bounce["Subject"], bounce["Return-Path"]), ("bounce", "<>")
            )
            client.sendmail(CAROL, ["loop@b.test"], "Subject: round\r\n\r\nHello\r\n")
            told = wait_for(a, CAROL, 2)[1]
        self.assertIn("5.4.6", report(told).status)
        self.assertEqual(queue(a), [])
        self.assertEqual(queue(b), [])


class CareTests(ForwardCase):
    def test_care(self) -> None:
        """What is not sent any more, and what is brought to another server."""
        self._list()
        self._backup()

    def _list(self) -> None:
        """Each recipient's copy names him in its sender, so does the bounce; whoever
        does not exist is on the list, and refused from then on."""
        with smtplib.SMTP(
            "127.0.0.1", self.a.ports["submission"], timeout=PATIENCE_S
        ) as client:
            client.starttls(context=TRUSTING)
            client.login("alice@a.test", PASSWORD)
            self.assertTrue(client.has_extn("xverp"))
            to = ["blice@b.test", "nobody@b.test"]
            text = "From: alice@a.test\r\nSubject: list\r\n\r\nHello\r\n"
            client.sendmail("alice@a.test", to, text, ["XVERP"])
            (message,) = wait_for(self.b, "blice@b.test", 1)
            owner = "alice+blice=b.test@a.test"
            self.assertEqual(bare(message["Return-Path"]), owner)
            (bounce,) = wait_for(self.a, "alice@a.test", 1)
            self.assertEqual(bare(bounce["To"]), "alice+nobody=b.test@a.test")
            self.assertEqual(report(bounce).failed, {"nobody@b.test": "5.1.1"})
            listed = self.a.command("suppression", "list")
            self.assertIn("nobody@b.test", listed)
            code, why = said(client, "alice@a.test", "nobody@b.test")
            self.assertEqual(code, 550)
            self.assertIn("suppression list", why)
            self.a.command("suppression", "remove", "nobody@b.test")
            self.assertEqual(said(client, "alice@a.test", "nobody@b.test")[0], 250)

    def _backup(self) -> None:
        """A backup MX takes strangers' mail for who exists, also while the other server
        is away, and brings it there later; for others it takes none."""
        self.b.command("account", "add", "dora@d.test", text=PASSWORD)
        text = "Subject: backup\r\n\r\nHello\r\n"
        with stranger(self.a) as client:
            self.assertEqual(said(client, ANN, "nobody@d.test")[0], 550)
            self.assertEqual(said(client, ANN, "dora@d.test")[0], 250)
            self.b.stop()
            self.assertEqual(said(client, ANN, "dave@d.test")[0], 450)
            self.assertEqual(said(client, ANN, "nobody@d.test")[0], 550)
            client.rset()
            client.sendmail(ANN, ["dora@d.test"], text)
        wait_until(lambda: queue(self.a)[0]["attempts"], "it was tried", self.a)
        again = Server(Path(self.b.config), self.b.ports["smtp"] - 25)
        self.addCleanup(again.kill)
        self.a.command("queue", "flush")
        (message,) = wait_for(again, "dora@d.test", 1)
        self.assertEqual(bare(message["Return-Path"]), ANN)
        self.assertIsNone(message["Delivered-To"])
