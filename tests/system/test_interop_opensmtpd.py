"""Mail both ways between our server and a real OpenSMTPD."""

from __future__ import annotations

from tests.system.clients import ALICE, BOB
from tests.system.peers import exchange
from tests.system.peers.base import POSTMAN
from tests.system.peers.interop import letter, status_of
from tests.system.peers.opensmtpd import OpenSmtpd


class FromOpenSmtpd(exchange.FromThem):
    """It sends to us."""

    kind = OpenSmtpd

    def test_extensions(self) -> None:
        """It verified our certificate; DSN, one command after the other; it says
        neither the size nor that there are 8 bits, and sends them."""
        content = letter("extensions", POSTMAN, ALICE)
        self.peer.send(
            content,
            POSTMAN,
            [ALICE, BOB],
            ["BODY=8BITMIME", "RET=HDRS", "ENVID=7"],
            ["NOTIFY=FAILURE", "ORCPT=rfc822;first@peer.test"],
        )
        self.whole(self.arrived("Subject: extensions", BOB), content)
        said = [line[2:] for line in self.peer.dialog("mta") if line[0] == ">"]
        asked = "NOTIFY=FAILURE ORCPT=rfc822;first@peer.test"
        begin = said.index(f"MAIL FROM:<{POSTMAN}> RET=HDRS ENVID=7")
        _, *people, data = said[begin : begin + 4]
        self.assertEqual(
            sorted(people), [f"RCPT TO:<{one}> {asked}" for one in (ALICE, BOB)]
        )
        self.assertEqual(data, "DATA")
        self.assertIn('mta server-cert-check result="success"', self.peer.log)

    def test_login(self) -> None:
        """It logs in with PLAIN."""
        content = letter("login", ALICE, BOB)
        self.peer.send(content, ALICE, [BOB])
        added = self.whole(self.arrived("Subject: login", BOB), content)
        self.assertIn("with ESMTPSA", added)
        self.log_line(f"from=<{ALICE}>", f"login={ALICE}", "status=accepted")
        self.assertIn("> AUTH PLAIN ", "\n".join(self.peer.dialog("mta")))


class FromOpenSmtpdLater(exchange.FromThemLater):
    """It sends to us, who ask it to come again."""

    kind = OpenSmtpd


class ToOpenSmtpd(exchange.FromUs):
    """We send to it."""

    kind = OpenSmtpd
    protocol = "with ESMTP"
    reports_id = ""

    def test_extensions(self) -> None:
        """SIZE, 8BITMIME and DSN, one command after the other; where it fails at TLS,
        without, since C{tls: may} lets us."""
        content = letter("extensions", ALICE, POSTMAN)
        self.submit(
            content,
            [POSTMAN],
            ["BODY=8BITMIME", "RET=HDRS", "ENVID=7"],
            ["NOTIFY=FAILURE", "ORCPT=rfc822;first@example.test"],
        )
        self.whole(self.peer.wait_for("Subject: extensions"), content)
        told = "\n".join(self.peer.dialog("smtp"))
        self.assertIn("<<< STARTTLS\n", self.peer.log)
        self.assertRegex(
            told,
            rf"< MAIL FROM:<{ALICE}> SIZE=[0-9]+ BODY=8BITMIME RET=HDRS ENVID=7\n"
            r"> 250 .*\n"
            rf"< RCPT TO:<{POSTMAN}> NOTIFY=FAILURE ORCPT=rfc822;first@example.test\n"
            r"> 250 .*\n"
            r"< DATA\n",
        )

    def test_utf8(self) -> None:
        """It has no SMTPUTF8: what needs it is returned at once, and nothing of it is
        sent; what does not need it arrives, though it was asked for."""
        options = ["BODY=8BITMIME", "SMTPUTF8"]
        for recipient, about in (("pöstman@peer.test", "plain"), (POSTMAN, "Grüße")):
            with self.subTest(recipient):
                self.submit(letter(about, ALICE, recipient), [recipient], options)
                told = status_of(self.arrived("delivery-status"))
                self.assertIn("Action: failed", told)
                self.assertIn("Status: 5.6.7", told)
                self.empty(ALICE)
        self.assertNotIn("< RCPT", "\n".join(self.peer.dialog("smtp")))
        content = letter("not needed", ALICE, POSTMAN)
        self.submit(content, [POSTMAN], options)
        self.whole(self.peer.wait_for("Subject: not needed"), content)
