"""Mail both ways between our server and a real Exim."""

from __future__ import annotations

from tests.system.clients import ALICE, BOB
from tests.system.peers import exchange
from tests.system.peers.base import NAME, POSTMAN, USER
from tests.system.peers.exim import Exim
from tests.system.peers.interop import letter


class FromExim(exchange.FromThem):
    """It sends to us."""

    kind = Exim

    def test_extensions(self) -> None:
        """PIPELINING (L), PRDR and CHUNKING (K), under TLS that it verified; its log
        has the answer to each recipient, and the last."""
        content = letter("extensions", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [ALICE, BOB], ["BODY=8BITMIME"])
        self.arrived("Subject: extensions")
        for address in (ALICE, BOB):
            line = self.peer.wait_for_line(f"> {address}", " T=smtp ")
            self.assertIn(" X=TLS1.3:", line)
            self.assertIn(" CV=yes ", line)
            self.assertIn(" L PRDR K ", line)
            self.assertIn("250 2.0.0 Ok, for those with 250", line)

    def test_utf8(self) -> None:
        """SMTPUTF8: a sender and a subject with an umlaut."""
        sender = "pöstman@peer.test"
        content = letter("Grüße", sender, ALICE)
        self.peer.send(content, sender, [ALICE], ["BODY=8BITMIME", "SMTPUTF8"])
        added = self.whole(self.arrived("Subject: Grüße"), content)
        self.assertIn("with UTF8SMTPS", added)
        self.assertIn(f"Return-Path: <{sender}>", added)

    def test_login(self) -> None:
        """It logs in with PLAIN."""
        content = letter("login", ALICE, BOB)
        self.peer.send(content, ALICE, [BOB])
        added = self.whole(self.arrived("Subject: login", BOB), content)
        self.assertIn("with ESMTPSA", added)
        self.log_line(f"from=<{ALICE}>", f"login={ALICE}", "status=accepted")
        line = self.peer.wait_for_line(f"=> {BOB}", " T=submission ")
        self.assertIn(" A=plain ", line)


class FromEximLater(exchange.FromThemLater):
    """It sends to us, who ask it to come again."""

    kind = Exim


class ToExim(exchange.FromUs):
    """We send to it."""

    kind = Exim
    # Once it had mail with SMTPUTF8, it says so of all on that connection.
    protocol = "with (utf8)?esmtps"
    # It does not decode what it reports.
    reports_id = "id+2Bnumber"

    def test_extensions(self) -> None:
        """STARTTLS with the name that we expect; then PIPELINING (L; the dot: it would
        let us begin before its greeting) and CHUNKING (K)."""
        content = letter("one go", ALICE, POSTMAN)
        self.submit(content, [POSTMAN], ["BODY=8BITMIME"])
        self.whole(self.peer.wait_for("Subject: one go"), content)
        line = self.peer.wait_for_line(f"<= {ALICE}", 'T="one go"')
        for mark in (" L. ", " X=TLS1.3:", f" SNI={NAME} ", " K ", " M8S=8 "):
            self.assertIn(mark, line)

    def test_login(self) -> None:
        """We log in with PLAIN, for a domain that it takes from nobody else."""
        content = letter("login", ALICE, "postman@login.test")
        self.submit(content, ["postman@login.test"])
        added = self.whole(self.peer.wait_for("Subject: login"), content)
        self.assertRegex(added, "with (utf8)?esmtpsa")
        line = self.peer.wait_for_line(f"<= {ALICE}", 'T="login"')
        self.assertIn(f" A=plain:{USER} ", line)

    def test_utf8(self) -> None:
        """SMTPUTF8, handed on: a recipient and a subject with an umlaut."""
        content = letter("Grüße", ALICE, "pöstman@peer.test")
        self.submit(content, ["pöstman@peer.test"], ["BODY=8BITMIME", "SMTPUTF8"])
        added = self.whole(self.peer.wait_for("Subject: Grüße"), content)
        self.assertIn("with utf8esmtps", added)
        self.assertIn("Envelope-to: pöstman@peer.test", added)
