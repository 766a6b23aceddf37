"""Mail both ways between our server and a real Postfix."""

from __future__ import annotations

import itertools

from tests.system.clients import ALICE, BOB
from tests.system.peers import exchange
from tests.system.peers.base import POSTMAN
from tests.system.peers.interop import letter
from tests.system.peers.postfix import Postfix


class FromPostfix(exchange.FromThem):
    """It sends to us."""

    kind = Postfix

    def test_pipelining(self) -> None:
        """MAIL with SIZE and 8BITMIME, each RCPT, and DATA leave at once."""
        content = letter("pipelining", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [ALICE, BOB], ["BODY=8BITMIME"])
        self.arrived("Subject: pipelining")
        self.peer.wait_for_line("Verified TLS connection established to localhost[")
        dialog = self.peer.dialog("smtp")
        begin = next(i for i, line in enumerate(dialog) if "> MAIL" in line)
        sent = list(itertools.takewhile(lambda line: line[0] == ">", dialog[begin:]))
        mail, alice, bob, data = sent
        self.assertRegex(mail, rf"MAIL FROM:<{POSTMAN}> SIZE=\d+ BODY=8BITMIME")
        self.assertIn(f"RCPT TO:<{ALICE}> ORCPT=rfc822;{ALICE}", alice)
        self.assertIn(f"RCPT TO:<{BOB}>", bob)
        self.assertEqual(data, "> DATA")

    def test_passes_wishes(self) -> None:
        """It says to us what was asked of it, and leaves the report to us."""
        self.peer.send(
            letter("wishes", POSTMAN, ALICE),
            POSTMAN,
            [ALICE],
            ["RET=FULL", "ENVID=7"],
            ["NOTIFY=DELAY,FAILURE"],
        )
        self.arrived("Subject: wishes")
        said = "\n".join(self.peer.dialog("smtp"))
        self.assertIn(" ENVID=7 RET=FULL", said)
        self.assertIn(" NOTIFY=FAILURE,DELAY", said)

    def test_forwarded(self) -> None:
        """XFORWARD: our log names its client."""
        content = letter("forwarded", POSTMAN, ALICE)
        self.peer.send(content, POSTMAN, [ALICE])
        self.whole(self.arrived("Subject: forwarded"), content)
        self.log_line("XFORWARD NAME=localhost, ADDR=127.0.0.1, PORT=")
        self.log_line("XFORWARD PROTO=ESMTP, HELO=client.test")

    def test_utf8(self) -> None:
        """SMTPUTF8: a sender and a subject with an umlaut."""
        sender = "pöstman@peer.test"
        content = letter("Grüße", sender, ALICE)
        self.peer.send(content, sender, [ALICE], ["BODY=8BITMIME", "SMTPUTF8"])
        added = self.whole(self.arrived("Subject: Grüße"), content)
        self.assertIn("with UTF8SMTPS", added)
        self.assertIn(f"Return-Path: <{sender}>", added)

    def test_login(self) -> None:
        """It logs in as alice with SCRAM-SHA-256, and as bob with PLAIN, where TLS
        begins with the first octet."""
        for sender, recipient, how in (
            (ALICE, BOB, "SCRAM-SHA-256"),
            (BOB, ALICE, "PLAIN"),
        ):
            content = letter(how, sender, recipient)
            self.peer.send(content, sender, [recipient])
            added = self.whole(self.arrived(f"Subject: {how}", recipient), content)
            self.assertIn("with ESMTPSA", added)
            self.assertIn(f"> AUTH {how} ", "\n".join(self.peer.dialog("smtp")))
            self.log_line(f"from=<{sender}>", f"login={sender}", "status=accepted")


class FromPostfixLater(exchange.FromThemLater):
    """It sends to us, who ask it to come again."""

    kind = Postfix


class ToPostfix(exchange.FromUs):
    """We send to it."""

    kind = Postfix

    def test_extensions(self) -> None:
        """TLS, CHUNKING, and what it is told of the message: how large it is, and that
        it has 8 bits."""
        content = letter("one chunk", ALICE, POSTMAN)
        self.submit(content, [POSTMAN], ["BODY=8BITMIME"])
        added = self.whole(self.peer.wait_for("Subject: one chunk"), content)
        self.assertIn("(using TLSv1.3 with cipher", added)
        told = [line[2:] for line in self.peer.dialog("smtpd") if line[0] == "<"]
        mail = next(i for i, line in enumerate(told) if "MAIL" in line)
        self.assertRegex(told[mail], rf"FROM:<{ALICE}> SIZE=\d+ BODY=8BITMIME")
        self.assertEqual(told[mail + 1], f"RCPT TO:<{POSTMAN}>")
        self.assertRegex(told[mail + 2], r"BDAT \d+ LAST")

    def test_plain(self) -> None:
        """Without TLS and CHUNKING, and with XFORWARD: its log names our client."""
        content = letter("plain", ALICE, "postman@plain.test")
        self.submit(content, ["postman@plain.test"])
        added = self.whole(self.peer.wait_for("Subject: plain"), content)
        self.assertIn("with ESMTP id", added)
        line = self.peer.wait_for_line("client=localhost[127.0.0.1]", "orig_")
        self.assertIn("orig_client=unknown[127.0.0.1]", line)
        told = "\n".join(self.peer.dialog("smtpd"))
        self.assertIn("< XFORWARD ADDR=127.0.0.1 ", told)
        self.assertIn("< DATA", told)

    def test_utf8(self) -> None:
        """SMTPUTF8, handed on: a recipient and a subject with an umlaut."""
        content = letter("Grüße", ALICE, "pöstman@peer.test")
        self.submit(content, ["pöstman@peer.test"], ["BODY=8BITMIME", "SMTPUTF8"])
        added = self.whole(self.peer.wait_for("Subject: Grüße"), content)
        self.assertIn("with UTF8SMTPS", added)
        self.assertIn("Delivered-To: pöstman@peer.test", added)
